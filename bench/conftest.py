"""What pytest needs for the benchmarks: the sizes, the cases in turn, and a small JSON at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.contenders import cases, versions

if TYPE_CHECKING:
    import pytest

SIZES = (4 << 10, 64 << 10, 1 << 20, 16 << 20, 256 << 20, 1 << 30)
TINY = (4 << 10, 64 << 10)
HUGE = 8 << 30  # for fastinit alone

wrong: dict[str, str] = {}  # the cases whose output failed its check, and why


def pytest_addoption(parser: pytest.Parser) -> None:
    """Small sizes, and how many turns."""
    parser.addoption("--tiny", action="store_true")
    parser.addoption("--turns", type=int, default=5)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """All cases of one turn, then those of the next: what the machine does meanwhile meets all contenders alike."""
    tiny, turns = metafunc.config.getoption("tiny"), metafunc.config.getoption("turns")
    if "case" in metafunc.fixturenames:
        found = [(turn, case) for turn in range(turns) for case in cases(TINY if tiny else SIZES)]
        names = [f"{turn}-{case.contender}-{case.distribution}-{case.dtype}-{case.nbytes}" for turn, case in found]
        metafunc.parametrize(("turn", "case"), found, ids=names)
    elif "turn" in metafunc.fixturenames:
        metafunc.parametrize("turn", range(turns))


def pytest_benchmark_update_json(config: pytest.Config, benchmarks: Any, output_json: dict[str, Any]) -> None:
    """One row a case, with the seconds of its turns; and what the report has to name."""
    rows: dict[str, dict[str, Any]] = {}
    for benchmark in output_json["benchmarks"]:
        info = {key: value for key, value in benchmark["extra_info"].items() if key != "turn"}
        row = rows.setdefault(repr(info), {**info, "turns": {}})
        row["turns"][benchmark["extra_info"]["turn"]] = float(f"{benchmark['stats']['median']:.4g}")
    machine = output_json["machine_info"]
    kept = {"datetime": output_json["datetime"], "benchmarks": list(rows.values())}
    output_json.clear()
    output_json.update(
        machine={"cpu": machine["cpu"]["brand_raw"], "python": machine["python_version"], "linux": machine["release"]},
        versions={package: version for package, version in versions().items() if version},
        absent=[package for package, version in versions().items() if not version],
        wrong=wrong,
        **kept,
    )
