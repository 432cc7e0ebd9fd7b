"""The benchmarks: a tiny run of all of it, what the report makes of known figures, and the check of the contenders."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import arm, disk, instructions, quality, regions, report
from bench.conftest import TINY
from bench.contenders import (
    CONTENDERS,
    DISTRIBUTIONS,
    HE,
    NORMAL,
    TRUNCATED,
    UNIFORM,
    ZEROS,
    Array,
    Case,
    cases,
    check,
    pages,
    versions,
)
from bench.test_speed import checked
from fastinit.core.dtypes import dtype_of

ROOT = Path(__file__).resolve().parent.parent
MIB = 1 << 20


def readme(folder: Path) -> Path:
    file = folder / "README.md"
    file.write_text(f"before\n{report.BEGIN}\nstale\n{report.END}\nafter\n")
    return file


def test_a_tiny_run_ends_with_tables_and_a_picture(tmp_path: Path) -> None:
    file = readme(tmp_path)
    command = [sys.executable, "-W", "error", "-m", "bench.report", "--tiny", "--results", str(tmp_path / "results")]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}  # of a worker
    environment = {**inherited, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "--page", str(file)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr

    (kept,) = (tmp_path / "results").glob("*.json")
    results = report.Results(json.loads(kept.read_text()))
    measured = {
        (row.contender, row.distribution, row.dtype, row.nbytes, row.threads) for row in results.rows if row.dtype
    }
    wrong = results.kept["wrong"]
    for case in cases(TINY):
        named = f"{case.contender}, {case.distribution}, {case.dtype}" in wrong
        assert named or (case.contender, case.distribution, case.dtype, case.nbytes, case.threads) in measured
    assert not any(name.startswith("fastinit") for name in wrong)
    assert results.kept["absent"] == [package for package, version in versions().items() if version is None]

    text = file.read_text()
    assert text.startswith(f"before\n{report.BEGIN}\n")
    assert text.endswith(f"{report.END}\nafter\n")
    assert "stale" not in text
    for words in (*DISTRIBUTIONS, *results.kept["absent"], "NumPy PCG64", "scipy.stats.truncnorm", "streaming stores"):
        assert words in text
    bounds = [row for row in report.ratio_rows(results) if row[3] is None]
    assert {row[0] for row in bounds} <= {row[0] for row in report.ratio_rows(results) if "best" in row[0]} | {
        "uniform / oneMKL Philox4x32-10",
        "truncated normal / torch",
    }  # only what needs a peer may be missing
    for ending in ("", "-sizes"):
        picture = (tmp_path / "results" / f"{results.name}{ending}.png").read_bytes()
        assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert f"(results/{results.name}.png)" in text


def figures(**changed: Any) -> dict[str, Any]:
    """A run of four rows of 1 MiB, whose figures can be computed by hand."""
    row: dict[str, Any] = {"distribution": UNIFORM, "dtype": "float32", "nbytes": MIB, "threads": 2}
    fresh = {"in_place": False, "library": "jax"}
    rows = [
        {**row, "contender": "fastinit.fill", "library": "fastinit", "turns": {"0": 1e-3, "1": 2e-3, "2": 4e-3}},
        {**row, "contender": "streaming stores", "distribution": ZEROS, "turns": {"0": 5e-4, "1": 1.5e-3, "2": 1e-3}},
        {**row, "contender": "NumPy SFC64", "library": "NumPy", "turns": {"0": 8e-3, "1": 8e-3}},
        {**row, "contender": "NumPy PCG64", "library": "NumPy", "turns": {"1": 1.6e-2}},
        {**row, "contender": "randompack x256++simd", "library": "randompack", "turns": {"0": 5e-4}},
        {**row, **fresh, "contender": "jax, jit", "turns": {"0": 1e-2}},
        {**row, "contender": "fastinit.fill", "library": "fastinit", "nbytes": 4096, "turns": {"0": 4e-5}},
        {**row, "contender": "NumPy SFC64", "library": "NumPy", "nbytes": 4096, "turns": {"0": 1e-5}},
        {"contender": "peak memory", "nbytes": 8 << 30, "extra_bytes": 65 * MIB, "turns": {"0": 1.0}},
    ]
    return {
        "datetime": "2026-01-02T03:04:05",
        "machine": {"cpu": "Some(R) CPU @ 1.00GHz", "python": "3.12.0"},
        "versions": {"numpy": "2.0"},
        "absent": ["torch"],
        "wrong": {},
        "benchmarks": rows,
        **changed,
    }


def test_ratios_are_medians_over_common_turns() -> None:
    rows = {row[0]: row[1:] for row in report.ratio_rows(report.Results(figures()))}
    assert rows["uniform / streaming stores"] == ("≥ 0.6", "0.50 (0.25–0.75)", False)
    assert rows["uniform / NumPy's best, one thread"] == ("≥ 7", "6.00 (4.00–8.00), NumPy SFC64", False)
    assert rows["uniform / randompack's best"] == ("≥ 1.3", "0.50 (0.50–0.50), randompack x256++simd", False)
    assert rows["normal / oneMKL's best"] == ("≥ 1.1", "not measured", None)
    assert rows["extra peak memory of a fill of 8 GiB"] == ("≤ 64 MiB", "65 MiB", False)
    assert rows["1,024 float32 uniforms; limit: 2 x NumPy's + 10 µs"] == ("≤ 30 µs", "40 µs", False)


def test_the_table_shows_losses_absent_peers_and_wrong_values() -> None:
    wrong = {"jax, jit, normal, bfloat16": "mean -0.5"}
    text = report.markdown(report.Results(figures(wrong=wrong)), ["picture.png"])
    assert "| fastinit.fill | 0.52 (0.26–1.05) 0.50 |" in text
    assert "| randompack x256++simd | **2.10 (2.10–2.10) 1.00** |" in text
    assert "| NumPy SFC64 | 0.13 (0.13–0.13) 0.12 |" in text  # no loss
    assert "| jax, jit (new array) | 0.10 (0.10–0.10) |" in text  # and no ceiling on fresh pages was measured
    assert "Absent: torch." in text
    assert "- jax, jit, normal, bfloat16: mean -0.5." in text


def test_a_readme_without_markers_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, file = tmp_path / "run.json", tmp_path / "README.md"
    source.write_text(json.dumps(figures()))
    file.write_text("nothing here")
    monkeypatch.setattr(sys, "argv", ["report", "--from", str(source), "--page", str(file)])
    with pytest.raises(SystemExit, match="has no <!-- speed table -->"):
        report.main()
    assert file.read_text() == "nothing here"
    readme(tmp_path)
    report.main()
    assert "before\n<!-- speed table -->\nSome(R) CPU" in file.read_text()


def half_filled(out: Array) -> None:
    flat = out.reshape(-1)
    flat[: flat.size // 2] = np.random.default_rng(0).standard_normal(flat.size // 2, np.float32)


def drawn(case: Case, mean: float = 0.0, std: float = 1.0) -> Array:
    rng = np.random.default_rng(0)
    values = rng.random(case.shape) if case.distribution == UNIFORM else rng.standard_normal(case.shape)
    return np.asarray((values * std + mean).astype(case.dtype))


CHECKED = Case("", NORMAL, "float32", MIB, 1)  # 2**18 values: 5 standard errors are 1 % of the deviation


@pytest.mark.parametrize("distribution", [UNIFORM, NORMAL])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_right_values_pass(distribution: str, dtype: str) -> None:
    case = replace(CHECKED, distribution=distribution, dtype=dtype)
    check(case, drawn(case))


@pytest.mark.parametrize(
    ("case", "values"),
    [
        (CHECKED, drawn(CHECKED, mean=0.02)),
        (CHECKED, drawn(CHECKED, std=1.02)),
        (CHECKED, drawn(CHECKED, std=0.98)),
        (CHECKED, np.zeros_like(drawn(CHECKED))),
        (CHECKED, np.full_like(drawn(CHECKED), np.nan)),
        (CHECKED, drawn(CHECKED).astype(np.float64)),
        (CHECKED, drawn(CHECKED)[1:]),
        (replace(CHECKED, distribution=HE), drawn(CHECKED)),
        (replace(CHECKED, distribution=TRUNCATED), drawn(CHECKED, std=0.8796)),  # right but for the bounds
        (replace(CHECKED, distribution=UNIFORM), drawn(replace(CHECKED, distribution=UNIFORM), mean=1e-5)),
    ],
)
def test_wrong_values_are_found(case: Case, values: Array) -> None:
    with pytest.raises(ValueError, match=r"are not those of|not float32 of"):
        check(case, values)


def test_a_contender_that_leaves_a_part_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever lay in the buffer before, the right values of another contender among it."""
    memory = pages(MIB)
    right = replace(CHECKED, contender="NumPy SFC64")
    assert checked(right, memory) > 0
    lazy = replace(CONTENDERS["NumPy SFC64"], make=lambda case: half_filled)
    monkeypatch.setitem(CONTENDERS, "NumPy SFC64", lazy)
    with pytest.raises(ValueError, match="nan"):
        checked(right, memory)


def test_quality_makes_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a library that does wrong: the bits of float32 cut off."""
    half = quality.LIBRARIES["numpy"]()["standard_normal"][1]

    def cut(shape: tuple[int, int], dtype: str) -> Any:
        return half(shape, "float32").astype(dtype_of(dtype)) * dtype_of(dtype).type(0.9)

    wrong = {"numpy": lambda: {"cut": (quality.NORMAL, cut)}}
    monkeypatch.setattr(quality, "LIBRARIES", {"fastinit": quality.LIBRARIES["fastinit"], **wrong})
    target = tmp_path / "README.md"
    target.write_text(f"a\n{quality.BEGIN}\nold\n{quality.END}\nb\n")
    monkeypatch.setattr(sys, "argv", ["quality", "--size", "128", "--page", str(target)])
    quality.main()
    lines = target.read_text().splitlines()
    assert lines[:2] + lines[-2:] == ["a", quality.BEGIN, quality.END, "b"]
    assert lines[4] == "| fastinit | `uniform` | passes | passes | passes |"
    assert lines[-3].startswith("| numpy | `cut` | Kolmogorov-Smirnov, chi-square and ")
    monkeypatch.setattr(sys, "argv", ["quality", "--size", "16", "--page", str(tmp_path / "none")])
    (tmp_path / "none").write_text("no markers")
    with pytest.raises(SystemExit, match="has no <!-- quality table -->"):
        quality.main()
    assert (tmp_path / "none").read_text() == "no markers"


def test_a_tiny_run_of_torch_models(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs torch")
    pytest.importorskip("transformers", reason="needs transformers")
    kept = tmp_path / "kept.json"
    command = [sys.executable, "-m", "bench.torch_models", "--tiny", "--turns", "1", "--json", str(kept)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| initialize_ from meta | ") == 2
    assert set(json.loads(kept.read_text())) >= {"float32", "bfloat16", "microseconds per call"}


def test_a_tiny_run_of_jax_arrays(tmp_path: Path) -> None:
    pytest.importorskip("jax", reason="needs jax", exc_type=ImportError)
    kept = tmp_path / "kept.json"
    command = [sys.executable, "-m", "bench.jax_arrays", "--tiny", "--turns", "1", "--json", str(kept)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| fastinit.jax.array | ") == 4
    assert set(json.loads(kept.read_text())) >= {"jax", "device", "float32 1048576", "bfloat16 4194304"}


def test_a_tiny_run_of_the_disk(tmp_path: Path) -> None:
    """Every contender, whose values are compared there; and nothing is left."""
    found = disk.run(tmp_path, 1 << 20, 1)
    assert {"dd from /dev/zero", "mapping", "page cache", "direct"} <= found.keys()
    assert all(speed > 0 for speeds in found.values() for speed in speeds)
    assert os.listdir(tmp_path) == []


def test_a_tiny_run_of_dask_arrays(tmp_path: Path) -> None:
    """Its slabs are compared there, with another seed as the negative control."""
    for package in ("dask", "distributed"):
        pytest.importorskip(package, reason=f"needs {package}")
    kept = tmp_path / "kept.json"
    command = [sys.executable, "-m", "bench.dask_arrays", "--tiny", "--json", str(kept)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(kept.read_text())
    assert len(found["seconds of equal slabs on 2 processes, by chunks"]) == 7
    assert set(found["graphs of 100 chunks"]) >= {"fastinit.dask: bytes", "dask.array.zeros: bytes"}


def test_a_tiny_run_of_the_regions(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every layout, whose values are compared there."""
    monkeypatch.setattr(sys, "argv", ["regions", "--tiny"])
    regions.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0][2:] for line in lines[2:]] == list(regions.layouts(1 << 16))
    layout = regions.layouts(1 << 16)["rows of 13, odd"]
    out = np.zeros(layout.shape, np.float32)
    with pytest.raises(AssertionError, match="element"):
        layout.check(out, regions.INITS["normal"])


def test_the_comparison_with_arm_reports_what_differs() -> None:
    cases = dict(itertools.islice(arm.cases(), 150))
    assert len(cases) == 150
    found = {name: arm.digest(content) for name, content in cases.items()}
    contract = arm.pinned(json.loads((ROOT / "docs" / "vectors.json").read_text()))
    pinned = {name: arm.digest(content) for name, content in contract.items()}
    assert pinned
    assert arm.differences(pinned, {name: found[name] for name in pinned}) == []
    for name in (next(iter(pinned)), list(found)[-1]):
        assert arm.differences(found, {**found, name: arm.digest(cases[name][:-1] + b"?")}) == [name]
        assert arm.differences(found, {other: found[other] for other in found if other != name}) == [name]
    assert arm.differences(found, {**found, "more": ""}) == ["more"]


def test_instructions_of_the_innermost_loop_are_counted() -> None:
    assembly = """
.LBB0_1: // outer
    mov x8, x1
.LBB0_2:
    ldr q1, [sp, #16]
    umull v0.2d, v1.2s, v2.2s
    stp q0, q1, [x0], #32
    b.ne .LBB0_2
    str q3, [sp]
    cbnz x8, .LBB0_1
    ret
"""
    loop = instructions.innermost(assembly)
    assert [line.split()[0] for line in loop] == ["ldr", "umull", "stp", "b.ne"]
    assert (instructions.moved(loop, "st"), instructions.moved(loop, "ld")) == (32, 16)
