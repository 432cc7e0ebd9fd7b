"""`fastinit verify` and `fastinit words`: files, exit codes, JSON, pictures, pipes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastinit as fi
from fastinit.cli import shared
from fastinit.cli import verify as verify_command
from fastinit.io.tensor_files import open_tensors
from fastinit.verification.checkpoints import verify_tensors
from tests.helpers import environment
from tests.helpers import invoke as run

MANIFEST: list[dict[str, Any]] = [
    {"name": "block.weight", "shape": [96, 64], "dtype": "float32", "module": "Linear"},
    {"name": "other.weight", "shape": [80, 64], "dtype": "bfloat16", "module": "Linear"},
    {"name": "block.bias", "shape": [96], "dtype": "float64", "module": "Linear"},
    {"name": "norm.weight", "shape": [63], "dtype": "float16", "module": "LayerNorm"},
]
RECIPE = """
[[rule]]
module = "LayerNorm"
match = "*.weight"
init = "ones"

[[rule]]
match = "*.weight"
init = "he_normal"

[[rule]]
match = "*.bias"
init = "zeros"
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "m.json").write_text(json.dumps(MANIFEST))
    (tmp_path / "r.toml").write_text(RECIPE)
    out = tmp_path / "m.safetensors"
    args = ["init", tmp_path / "m.json", out, "--recipe", tmp_path / "r.toml", "--seed", 0, "--quiet"]
    assert run(*args)[0] == 0
    return out


def test_a_checkpoint(model: Path) -> None:
    recipe, manifest = model.with_name("r.toml"), model.with_name("m.json")
    code, text = run("verify", model, "--recipe", recipe, "--manifest", manifest)
    assert code == 0
    assert text.startswith(f"passed, matches recipe {recipe}: 4 verified, 0 skipped, family-wise alpha 1e-06\n")
    with pytest.raises(ValueError, match="a fan needs"):  # no rule by module matches: he_normal, for the norm too
        run("verify", model, "--recipe", recipe)


def test_a_checkpoint_of_another_recipe_is_rejected(model: Path) -> None:
    recipe, manifest = model.with_name("r.toml"), model.with_name("m.json")
    recipe.write_text(RECIPE.replace("he_normal", "lecun_normal"))
    code, text = run("verify", model, "--recipe", recipe, "--manifest", manifest, "--json")
    assert code == 1
    found = json.loads(text)
    assert {name: tensor["passed"] for name, tensor in found["tensors"].items()} == {
        "block.weight": False,
        "other.weight": False,
        "block.bias": True,
        "norm.weight": True,
    }
    code, text = run("verify", model, "--recipe", recipe, "--manifest", manifest, "--tensor", "*bias")
    assert code == 0


def test_a_missing_tensor_is_named(model: Path) -> None:
    manifest = model.with_name("m.json")
    for entry, message in (
        ({"name": "more.weight", "shape": [3, 4], "dtype": "float32"}, "'more.weight'.* is absent"),
        (None, "does not list: 'block.weight'"),
    ):
        manifest.write_text(json.dumps([*MANIFEST, entry] if entry else MANIFEST[1:]))
        with pytest.raises(ValueError, match=message):
            run("verify", model, "--recipe", model.with_name("r.toml"), "--manifest", manifest)


def test_tensors_of_one_stream_are_rejected(tmp_path: Path) -> None:
    x = fi.array(10_000, fi.normal(), seed=0, name="x")
    np.savez(tmp_path / "x.npz", a=x, b=x[3000:])
    code, text = run("verify", tmp_path / "x.npz", "--init", "normal")
    assert code == 1
    assert "are made of the same stream" in text
    np.savez(tmp_path / "x.npz", a=x[:5000], b=x[5000:])
    assert run("verify", tmp_path / "x.npz", "--init", "normal")[0] == 0


def test_an_array_and_its_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    np.save(tmp_path / "x.npy", fi.array((300, 200), fi.normal(), seed=0, name="x"))
    for init, code in (("normal", 0), ("normal(std=1.1)", 1)):
        picture = tmp_path / f"{code}.png"
        assert run("verify", tmp_path / "x.npy", "--init", init, "--plot", picture)[0] == code
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_pictures_of_every_kind(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from fastinit.verification.plots import plot

    for init in (fi.normal(), fi.uniform(), fi.truncated_normal(lower=3.0, upper=float("inf"))):
        for dtype in ("bfloat16", "float32"):
            for shape in ((5,), (200_000,), (64, 64)):
                plot(fi.verify(fi.array(shape, init, seed=0, name="x", dtype=dtype), init), tmp_path / "x.png")
    plot(fi.verify(np.full((64, 64), 1e9, np.float32), fi.normal()), tmp_path / "x.png")
    with pytest.raises(ValueError, match="report must be of draws"):
        plot(fi.verify(np.zeros(3), fi.zeros()), tmp_path / "x.png")


def test_open_tensors_reads_what_was_written(model: Path) -> None:
    tensors = open_tensors(model).arrays
    assert {name: (x.shape, x.dtype.name) for name, x in tensors.items()} == {
        entry["name"]: (tuple(entry["shape"]), entry["dtype"]) for entry in MANIFEST
    }
    expected = fi.array((80, 64), fi.he_normal(), seed=0, name="other.weight", dtype="bfloat16")
    assert (tensors["other.weight"] == expected).all()


@pytest.mark.parametrize(
    "content", [b"", b"abc", b"\xff" * 40, b"\x02" + b"\0" * 7 + b"[]", b"\x02" + b"\0" * 7 + b"{]"]
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is no \.safetensors file"):
        open_tensors(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give --init, or --recipe, --manifest or both"),
        (["--init", "normal", "--recipe", "gpt2"], "give --init, or --recipe"),
        (["--init", "normal", "--manifest", "pyproject.toml"], "give --init, or --recipe"),
        (["--digest", "pyproject.toml", "--manifest", "pyproject.toml"], "give --digest alone"),
        (["--init", "normal", "--tensor", "y"], "no tensor that matches --tensor 'y', only 'x'"),
    ],
)
def test_what_is_refused(tmp_path: Path, options: list[str], message: str) -> None:
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(ValueError, match=message):
        run("verify", tmp_path / "x.npy", *options)


def test_words_are_those_of_the_stream(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    def words(*args: object) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
        assert run("words", *args)[0] == 0
        return np.frombuffer(capfdbinary.readouterr().out, "<u4")

    count = 600_001  # more than two blocks
    assert (words("--seed", 5, "--name", "w", "--count", count) == fi.words(count, seed=5, name="w")).all()
    mixed = words("--seed", 5, "--name", "w", "--names", 3, "--count", count)
    for k in range(3):
        mine = mixed[k::3]
        assert (mine == fi.words(mine.size, seed=5, name=f"w/{k}")).all()
    mixed = words("--seed", 5, "--name", "w", "--seeds", 2, "--count", count)
    for k in range(2):
        mine = mixed[k::2]
        assert (mine == fi.words(mine.size, seed=5 + k, name="w")).all()
    assert words("--seed", 5, "--name", "w", "--count", 0).size == 0


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m fastinit words --seed 0 --name w | head -c 1000000 | wc -c"
    shell = ["bash", "-o", "pipefail", "-c", command]
    done = subprocess.run(shell, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "1000000"
    assert done.stderr == ""
    assert done.returncode == 0


def save(path: Path, **arrays: Any) -> Path:
    """An archive of arrays, or a safetensors file of them."""
    if path.suffix == ".npz":
        np.savez(path, **arrays)
        return path
    at, entries, data = 0, {}, b""
    codes = {"float32": "F32", "uint8": "F8_E4M3"}  # bytes stand for numbers of 8 bits
    for name, array in arrays.items():
        entries[name] = {
            "dtype": codes[array.dtype.name],
            "shape": array.shape,
            "data_offsets": [at, at + array.nbytes],
        }
        at += array.nbytes
        data += array.tobytes()
    header = json.dumps(entries).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


NORMAL = fi.array((100, 90), fi.normal(), seed=0, name="x")
OTHER = fi.array((100, 90), fi.normal(), seed=0, name="y")
EIGHT = np.zeros(5, np.uint8)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_nothing_that_was_not_looked_at_has_passed(tmp_path: Path, suffix: str) -> None:
    """0: all passed; 1: one is rejected; 3: none, but some were skipped, or all."""
    file = tmp_path / f"x{suffix}"
    eight = EIGHT if suffix == ".safetensors" else EIGHT.astype(complex)
    none = np.zeros((0, 3), np.float32)
    init = ["--init", "normal"]
    more = "--allow-skipped"
    for arrays, options, codes in (
        ({"a": NORMAL, "b": OTHER}, init, (0, 0)),
        ({"a": NORMAL, "b": eight}, init, (3, 0)),
        ({"a": NORMAL, "b": none}, init, (3, 0)),
        ({"a": NORMAL, "b": eight}, [*init, "--tensor", "a"], (0, 0)),
        ({"a": NORMAL, "b": eight}, [*init, "--tensor", "b"], (3, 3)),
        ({"a": NORMAL, "b": eight}, ["--init", "uniform"], (1, 1)),
        ({"a": NORMAL, "b": NORMAL, "c": eight}, init, (1, 1)),
        ({"b": eight}, init, (3, 3)),
        ({"b": none}, init, (3, 3)),
        ({"a": NORMAL}, ["--init", "orthogonal"], (3, 3)),
    ):
        save(file, **arrays)
        assert (run("verify", file, *options)[0], run("verify", file, *options, more)[0]) == codes, (arrays, options)
        found = json.loads(run("verify", file, *options, "--json")[1])
        assert found["passed"] == (codes[0] == 0)
        assert bool(found["skipped"]) == (codes[0] == 3 or "c" in arrays or options == ["--init", "uniform"])


def test_tensors_without_a_rule_are_skipped_by_name(tmp_path: Path) -> None:
    file, recipe, manifest = save(tmp_path / "x.npz", a=NORMAL, b=OTHER), tmp_path / "r.toml", tmp_path / "m.json"
    entries = [{"name": name, "shape": [100, 90], "dtype": "float32"} for name in "ab"]
    manifest.write_text(json.dumps(entries))
    recipe.write_text("[[rule]]\nmatch = 'a'\ninit = 'normal'\n")
    for options in ([], ["--manifest", manifest]):
        code, text = run("verify", file, "--recipe", recipe, *options, "--json")
        found = json.loads(text)
        assert code == 3
        assert found["tensors"].keys() == {"a"}
        assert found["skipped"] == {"b": "no rule of the recipe names it"}
        assert run("verify", file, "--recipe", recipe, *options, "--allow-skipped")[0] == 0
        assert run("verify", file, "--recipe", recipe, *options, "--tensor", "a")[0] == 0


def test_a_buffer_that_init_leaves_out_is_not_missing(tmp_path: Path) -> None:
    """What `init` writes by a manifest, `verify` passes by the same one."""
    recipe, manifest, file = tmp_path / "r.toml", tmp_path / "m.json", tmp_path / "x.safetensors"
    buffer = {"name": "b", "shape": [3], "dtype": "float32", "kind": "buffer"}
    manifest.write_text(json.dumps([{"name": "a", "shape": [100, 90], "dtype": "float32"}, buffer]))
    recipe.write_text("[[rule]]\nmatch = 'a'\ninit = 'normal'\n")
    assert run("init", manifest, file, "--recipe", recipe, "--seed", 0)[0] == 0
    assert run("verify", file, "--recipe", recipe, "--manifest", manifest)[0] == 0
    manifest.write_text(json.dumps([buffer]))
    with pytest.raises(ValueError, match="nothing to write"):
        run("init", manifest, tmp_path / "y.safetensors", "--recipe", recipe, "--seed", 0)


def test_a_zip_is_no_array(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=NORMAL)
    (tmp_path / "x.npz").rename(tmp_path / "x.npy")
    with pytest.raises(ValueError, match=r"is no \.npy file"):
        run("verify", tmp_path / "x.npy", "--init", "normal")


def test_a_manifest_without_inits_verifies_nothing(tmp_path: Path) -> None:
    file, manifest = save(tmp_path / "x.npz", a=NORMAL), tmp_path / "m.json"
    manifest.write_text(json.dumps([{"name": "a", "shape": [100, 90], "dtype": "float32"}]))
    code, text = run("verify", file, "--manifest", manifest)
    assert code == 3
    assert (
        text == "NOT VERIFIED: 0 verified, 1 skipped, family-wise alpha 1e-06\na  skipped: the manifest gives no init\n"
    )


def test_progress_is_told_by_tensor() -> None:
    told: list[tuple[int, int]] = []
    tensors = {"a": (NORMAL, fi.normal()), "b": (np.zeros(5, np.float16), fi.zeros()), "c": (OTHER, fi.normal())}
    verify_tensors(tensors, progress=lambda done, total: told.append((done, total)))
    assert told == [(36_000, 72_010), (36_010, 72_010), (72_010, 72_010)]


def test_the_bar_is_shown_on_a_terminal_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []

    @contextmanager
    def bar(title: str, *, on_stderr: bool = False) -> Iterator[Callable[[int, int], object]]:
        assert on_stderr
        titles.append(title)
        yield lambda done, total: titles.append(f"{done}/{total}")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(shared, "bar", bar)
    monkeypatch.setattr(shared.sys, "stderr", Terminal())  # type: ignore[attr-defined]
    np.save(tmp_path / "x.npy", NORMAL)
    command = verify_command.command.main
    for options, expected in (([], ["x.npy", "36000/36000"]), (["--quiet"], [])):
        titles.clear()
        command([str(tmp_path / "x.npy"), "--init", "normal", *options], standalone_mode=False)
        assert titles == expected
