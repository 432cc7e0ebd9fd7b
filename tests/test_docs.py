"""The documentation: its code runs and prints what it says, its test vectors hold, and Sphinx builds it."""

from __future__ import annotations

import contextlib
import doctest
import importlib.util
import io
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import fastinit as fi
from fastinit.cli.main import cli
from fastinit.core.dtypes import dtype_of
from tests import reference
from tests.helpers import printed
from tests.vectors import VECTORS, case_id, distribution_of, filled, hexadecimal

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md")])
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
TEXTS = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *EXAMPLES]
OPTIONAL = ("torch", "transformers", "jax", "flax", "zarr", "dask", "xarray", "ray", "pyspark")
NEEDS = {"dask": ("dask", "zarr", "xarray")}  # pages about several libraries
# What leaves the machine or the folder, takes minutes, or needs another device says so: <!-- not run: why -->
FENCE = re.compile(
    r"(?P<skip><!-- (?:not run: [^\n]*|weights command|test command) -->\n+)?"
    r"^```(?P<language>\w+)\n(?P<code>.*?)^```\n(?:\n```text\n(?P<printed>.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A piece of code on a page, and what the page says that it prints."""

    language: str
    code: str
    printed: str | None


def blocks(page: Path) -> list[Block]:
    found = FENCE.finditer(page.read_text(encoding="utf-8"))
    return [
        Block(match["language"], match["code"], match["printed"])
        for match in found
        if not match["skip"] and match["language"] in ("python", "bash", "toml", "json")
    ]


def run_block(block: Block, names: dict[str, Any], place: str) -> str:
    """Run a block; what it printed."""
    printed = io.StringIO()
    if block.language == "python":
        with contextlib.redirect_stdout(printed):
            exec(compile(block.code, place, "exec"), names)
    elif block.language == "bash":
        for line in block.code.replace("\\\n", " ").splitlines():
            command, *arguments = shlex.split(line, comments=True) or [""]
            if command == "fastinit":
                result = CliRunner().invoke(cli, arguments)
                assert result.exit_code == 0, (line, result.output, result.exception)
                printed.write(result.output)
    elif named := re.match(r"# (\S+\.toml)\n", block.code):
        Path(named[1]).write_text(block.code)  # for the blocks that follow
    return printed.getvalue()


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page run in order, in an empty folder, and print what stands below them."""
    for package in NEEDS.get(page.stem, ()):
        pytest.importorskip(package, reason=f"needs {package}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    names: dict[str, Any] = {"__name__": "page"}
    for number, block in enumerate(blocks(page)):
        try:
            found = run_block(block, names, page.name)
        except ModuleNotFoundError as error:
            if error.name not in OPTIONAL:
                raise
            if not number and page.stem == error.name:  # a page about one library
                pytest.skip(f"needs {error.name}")
            continue  # a section about an optional library
        if block.printed is not None:
            flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            assert doctest.OutputChecker().check_output(block.printed, found, flags), (block.code, found)


def test_a_block_that_prints_something_else_is_noticed() -> None:
    text = "```python\nprint(1)\n```\n\n```text\n2\n```\n"
    match = FENCE.search(text)
    assert match is not None
    assert match["printed"] == "2\n"
    assert run_block(Block("python", match["code"], None), {}, "page") == "1\n"
    skipped = FENCE.search("<!-- not run: it deletes everything -->\n" + text)
    assert skipped is not None
    assert skipped["skip"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path)])
    try:
        runpy.run_path(str(path), run_name="__main__")
    except ModuleNotFoundError as error:
        if error.name not in OPTIONAL:
            raise
        pytest.skip(f"needs {error.name}")
    assert capsys.readouterr().out


def test_vectors_of_words() -> None:
    for case in VECTORS["words"]:
        start, count, stream = case["start"], len(case["bits"]), {"seed": case["seed"], "name": case["name"]}
        assert hexadecimal(fi.words(count, start=start, **stream)) == case["bits"]
        index = np.arange(start, start + count, dtype=np.uint64)
        assert hexadecimal(reference.words(index, **stream).astype(np.uint32)) == case["bits"]


@pytest.mark.parametrize("case", VECTORS["values"], ids=case_id)
def test_vectors_of_values(case: dict[str, Any]) -> None:
    values = filled(case, np.empty(len(case["bits"]), dtype_of(case["dtype"])))
    assert hexadecimal(values) == case["bits"]
    distribution = distribution_of(case)
    precision = reference.DOUBLE if case["dtype"] == "float64" else reference.SINGLE
    index = np.arange(case["start"], case["start"] + len(values), dtype=np.uint64)
    exact = reference.draw(distribution, index, precision, case["seed"], case["name"]).values
    if values.itemsize == 2:
        exact = reference.rounded(exact.astype(np.float32), distribution, values.dtype).astype(np.float64)
        ulps = 1.0  # where the float32 values differ, a rounding may fall on the other side
    else:
        ulps = 0.0 if isinstance(distribution, fi.Uniform) else 16.0
    size = np.maximum(abs(exact), abs(distribution.mean) + distribution.std)
    epsilon = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}[case["dtype"]]
    assert (abs(values.astype(exact.dtype) - exact) <= ulps * epsilon * size).all()


def test_vectors_of_sparse_zeros() -> None:
    for case in VECTORS["sparse"]:
        matrix = fi.array(case["shape"], fi.sparse(case["sparsity"]), seed=case["seed"], name=case["name"])
        assert [np.flatnonzero(column == 0).tolist() for column in matrix.T] == case["zero_rows"]


def test_the_vectors_are_those_of_the_script() -> None:
    made = runpy.run_path(str(DOCS / "make_vectors.py"))
    assert made["text"](made["vectors"]()) == (DOCS / "vectors.json").read_text()


def test_the_vectors_cover_every_dtype_and_proposal() -> None:
    cases = VECTORS["values"]
    assert {case["dtype"] for case in cases} == {"float16", "bfloat16", "float32", "float64"}
    found = map(distribution_of, cases)
    assert {one.proposal for one in found if isinstance(one, fi.TruncatedNormal)} == {
        "normal",
        "uniform",
        "exponential",
    }


def test_the_polynomials_are_those_of_the_kernels() -> None:
    transforms = pytest.importorskip("fastinit.kernels.transforms")
    for name, real in (("FLOAT32", np.float32), ("FLOAT64", np.float64)):
        for key in ("log", "sin", "cos"):
            given = VECTORS["polynomials"][name.lower()][key]
            assert tuple(map(real, given)) == getattr(getattr(transforms, name), key)


def test_the_reference_lists_every_public_name() -> None:
    text = (DOCS / "api.md").read_text()
    missing = [name for name in fi.__all__ if not re.search(rf"\b{name}\b", text)]
    assert not missing


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}"


def test_nothing_tells_a_user_to_install_another_project() -> None:
    """On the package index ``fastinit`` is somebody else's; this distribution is fastinit-weights."""
    other = re.compile(r"install (-\S+ )*['\"]?fastinit(?!-weights)\b|\bfastinit\[")
    for path in TEXTS:
        assert not other.search(path.read_text(encoding="utf-8")), path


@pytest.mark.skipif(importlib.util.find_spec("grimp") is None, reason="grimp is not installed")
def test_the_diagram_of_imports_is_current() -> None:
    script = runpy.run_path(str(DOCS / "make_diagram.py"))
    arrows = script["imports"]()
    assert script["upwards"](arrows) == []
    assert script["drawing"](arrows) == (DOCS / "rooms.svg").read_text(), "run python docs/make_diagram.py"


@pytest.mark.skipif(
    any(
        importlib.util.find_spec(name) is None for name in ("sphinx", "myst_parser", "numpydoc", "pydata_sphinx_theme")
    ),
    reason="Sphinx or one of its extensions is not installed: pip install -e '.[docs]'",
)
def test_sphinx_builds_the_pages_without_a_warning(tmp_path: Path) -> None:
    shutil.rmtree(DOCS / "_generated", ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(tmp_path / "trees")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [*command, str(DOCS), str(tmp_path / "html")], capture_output=True, text=True, env=environment
    )
    assert result.returncode == 0, result.stderr
    assert "Truncated" in (tmp_path / "html" / "api.html").read_text()


@pytest.mark.slow
def test_a_distribution_is_added_as_the_page_says(tmp_path: Path) -> None:
    """The steps of the walk-through, done to a copy of the package: one file, one transform, two rows, one factory."""
    shutil.copytree(ROOT / "fastinit", tmp_path / "fastinit", ignore=shutil.ignore_patterns("__pycache__"))
    text = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    file, parameters, functions, factory, check = blocks

    def edit(name: str, *changes: tuple[str, str]) -> None:
        path = tmp_path / "fastinit" / name
        source = path.read_text(encoding="utf-8")
        for old, new in changes:
            assert source.count(old) == 1, old
            source = source.replace(old, new)
        path.write_text(source, encoding="utf-8")

    (tmp_path / "fastinit/distributions/laplace.py").write_text(file, encoding="utf-8")
    edit(
        "distributions/__init__.py",
        ("(Constant, Uniform,", "(Constant, Laplace, Uniform,"),
        (
            "\nfrom fastinit.distributions.normal",
            "\nfrom fastinit.distributions.laplace import Laplace\nfrom fastinit.distributions.normal",
        ),
    )
    name, row = '"laplace": LaplaceTransform', "Transform(LaplaceTransform, laplace_pair, bounded=False)"
    assert f"`{name}`" in text
    assert f"`{row}`" in text
    edit(
        "kernels/parameters.py",
        ("class WordsTransform(", f"{parameters}\n\nclass WordsTransform("),
        ("PARAMETERS: dict[str, Any] = {", f"PARAMETERS: dict[str, Any] = {{\n    {name},"),
    )
    edit(
        "kernels/transforms.py",
        ("    PARAMETERS,\n", "    PARAMETERS,\n    LaplaceTransform,\n"),
        ("_ROWS = (\n", f"{functions}\n\n_ROWS = (\n    {row},\n"),
    )
    made = tmp_path / "fastinit/initializers/elementwise.py"
    made.write_text(f"{made.read_text()}\n\nfrom fastinit.distributions.laplace import Laplace\n\n\n{factory}")
    source = (
        f"import fastinit as fi\nfrom fastinit.initializers.elementwise import laplace\nfi.laplace = laplace\n{check}"
    )
    source += (
        "for dtype in fi.core.dtypes.FLOATS:\n    x = fi.array(99_999, fi.laplace(1, 2), seed=0, name=0, dtype=dtype)\n"
    )
    source += "    assert fi.verify(x, fi.laplace(1, 2)).passed\nprint(fi.parse('laplace(std=2.0)'))"
    assert printed(source, folder=tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "cache")) == "laplace(std=2.0)\n"
