"""docs/vectors.json, the test vectors of the value contract, as fastinit's arguments and results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fastinit as fi

VECTORS = json.loads((Path(__file__).resolve().parent.parent / "docs" / "vectors.json").read_text())


def case_id(case: dict[str, Any]) -> str:
    parameters = "_".join(str(value) for value in case["distribution"].values())
    return f"{parameters}-{case['dtype']}"


def distribution_of(case: dict[str, Any]) -> fi.Distribution:
    values = {key: float(value) for key, value in case["distribution"].items() if key != "kind"}
    kinds = {"uniform": fi.Uniform, "normal": fi.Normal, "truncated_normal": fi.TruncatedNormal}
    return kinds[case["distribution"]["kind"]](**values)  # type: ignore[no-any-return]


def filled(case: dict[str, Any], out: Any) -> Any:
    """The elements of a case by `fastinit.fill`, in an array of as many."""
    found, count = distribution_of(case), len(case["bits"])
    init = {
        fi.Uniform: lambda d: fi.uniform(d.low, d.high),
        fi.Normal: lambda d: fi.normal(d.mean, d.std),
        fi.TruncatedNormal: lambda d: fi.truncated_normal(
            d.parent_mean, d.parent_std, d.lower, d.upper, bounds="absolute"
        ),
    }[type(found)](found)
    whole, start = (case["start"] + count,), (case["start"],)
    return fi.fill(out, init, seed=case["seed"], name=case["name"], global_shape=whole, global_offset=start)


def hexadecimal(values: Any) -> list[str]:
    return [f"{pattern:0{2 * values.itemsize}x}" for pattern in values.view(f"u{values.itemsize}").tolist()]
