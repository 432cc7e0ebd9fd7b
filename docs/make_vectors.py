"""Write docs/vectors.json, the test vectors of the value contract: ``python docs/make_vectors.py``.

The bits are those of `fastinit.fill` and `fastinit.words`. tests/test_docs.py compares them with fastinit again, with
the NumPy reference of tests/reference.py, and with examples/contract.py, which is written from the specification.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

import fastinit as fi
from fastinit.kernels.transforms import FLOAT32, FLOAT64

TARGET = Path(__file__).parent / "vectors.json"
COUNT = 16
DTYPES = ("float16", "bfloat16", "float32", "float64")
STREAMS = ((0, 0, 0), (0, "w", 0), (2**64 - 1, "layers.0.mlp.up", 5), (0x0123456789ABCDEF, 2**63 - 1, 2**34 - 4))

# Uniforms whose ends lie between two values of a dtype; normals; and truncated normals of every proposal. The comment
# says which proposal it is, and on which side of the mean.
INITIALIZERS = (
    fi.uniform(),
    fi.uniform(-0.3, 0.7),
    fi.uniform(0.1, 0.3),
    fi.normal(),
    fi.normal(-3.0, 0.5),
    fi.normal(std=0.02),
    fi.truncated_normal(),  # normal
    fi.truncated_normal(0.5, 0.02, -1.0, 0.3),  # normal, with many retries
    fi.truncated_normal(lower=0.0, upper=math.inf),  # normal, half a line
    fi.truncated_normal(lower=-0.1, upper=0.2),  # uniform, around the mean
    fi.truncated_normal(lower=1.0, upper=1.7),  # uniform, above
    fi.truncated_normal(2.0, 0.1, lower=-1.7, upper=-1.0),  # uniform, below
    fi.truncated_normal(lower=3.0, upper=math.inf),  # exponential, above
    fi.truncated_normal(-1.0, 3.0, lower=1.0, upper=3.5),  # exponential, bounded
    fi.truncated_normal(lower=-math.inf, upper=-1.5),  # exponential, below
    fi.truncated_normal(lower=-0.5, upper=0.0),  # uniform, up to the mean
)


def polynomials() -> dict[str, dict[str, Any]]:
    """Return the kernels' coefficients of powers 0, 1, 2, ..., as the shortest decimals that round to them."""
    found: dict[str, dict[str, Any]] = {}
    for name, form, width in (("float32", FLOAT32, 32), ("float64", FLOAT64, 64)):
        series = {one: [float(str(term)) for term in getattr(form, one)] for one in ("log", "sin", "cos")}
        found[name] = {"scale": float(str(form.angle * 2.0 ** (width + 2))), **series}
    return found


def described(distribution: fi.Distribution) -> dict[str, Any]:
    """Return a distribution as JSON: its kind and parameters, an infinity as text."""
    match distribution:
        case fi.Uniform():
            found: dict[str, Any] = {"kind": "uniform", "low": distribution.low, "high": distribution.high}
        case fi.Normal():
            found = {"kind": "normal", "mean": distribution.mean, "std": distribution.std}
        case fi.TruncatedNormal():
            found = {
                "kind": "truncated_normal",
                "mean": distribution.parent_mean,
                "std": distribution.parent_std,
                "lower": distribution.lower,
                "upper": distribution.upper,
            }
        case _:
            raise ValueError(f"no test vectors for {distribution}")
    return {key: str(value) if value in (math.inf, -math.inf) else value for key, value in found.items()}


def hexadecimal(values: np.ndarray[Any, Any]) -> list[str]:
    """Return the bit pattern of each element."""
    patterns = values.view(f"u{values.itemsize}").tolist()
    return [f"{pattern:0{2 * values.itemsize}x}" for pattern in patterns]


def region(init: fi.Initializer, dtype: str, seed: int, name: str | int, start: int) -> np.ndarray[Any, Any]:
    """Return elements start, start + 1, ... of a tensor of one axis."""
    out = np.empty_like(fi.array(COUNT, fi.zeros(), seed=0, name=0, dtype=dtype))
    return fi.fill(out, init, seed=seed, name=name, global_shape=(start + COUNT,), global_offset=(start,))


def vectors() -> dict[str, Any]:
    """Return the content of the file."""
    words = [
        {"seed": seed, "name": name, "start": start, "bits": hexadecimal(found)}
        for seed, name, start in STREAMS
        for found in [fi.words(COUNT, seed=seed, name=name, start=start)]
    ]
    values = []
    for number, init in enumerate(INITIALIZERS):
        for dtype in DTYPES:
            seed, name, start = STREAMS[1 + number % (len(STREAMS) - 1)]
            values.append(
                {
                    "distribution": described(init.distribution((COUNT,))),
                    "dtype": dtype,
                    "seed": seed,
                    "name": name,
                    "start": start,
                    "bits": hexadecimal(region(init, dtype, seed, name, start)),
                }
            )
    sparse = []
    for shape, sparsity in (((10, 4), 0.3), ((7, 5), 0.5)):
        matrix = fi.array(shape, fi.sparse(sparsity), seed=7, name="w")
        rows = [np.flatnonzero(column == 0).tolist() for column in matrix.T]
        sparse.append(
            {
                "shape": list(shape),
                "sparsity": sparsity,
                "seed": 7,
                "name": "w",
                "zeros": len(rows[0]),
                "zero_rows": rows,
            }
        )
    return {
        "stream_format": fi.STREAM_FORMAT,
        "polynomials": polynomials(),
        "words": words,
        "values": values,
        "sparse": sparse,
    }


def text(content: dict[str, Any]) -> str:
    """Return JSON with one case a line."""
    parts = [f' "stream_format": {content["stream_format"]}', f' "polynomials": {json.dumps(content["polynomials"])}']
    for key in ("words", "values", "sparse"):
        cases = ",\n  ".join(map(json.dumps, content[key]))
        parts += [f' "{key}": [\n  {cases}\n ]']
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    TARGET.write_text(text(vectors()))
    print(TARGET)
