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

TARGET = Path(__file__).parent / "vectors.json"
COUNT = 16
DTYPES = ("float16", "bfloat16", "float32", "float64")
STREAMS = ((0, 0, 0), (0, "w", 0), (2**64 - 1, "layers.0.mlp.up", 5), (0x0123456789ABCDEF, 2**63 - 1, 2**34 - 4))

# What decides the bits of a logarithm, a sine and a cosine: coefficients of powers 0, 1, 2, ..., as float64. They are
# part of stream format 1, and so literals here as in the kernels.
POLYNOMIALS: dict[str, dict[str, Any]] = {
    "float32": {
        "scale": 1.0004432,
        "log": [0.99999046, -0.6672642, 0.48736516, -0.5273823, -0.36190656, -2.4174328, -3.2791853, -2.8290985],
        "sin": [6.2804017, -41.28675, 81.41319, -75.21203],
        "cos": [1.0, -19.721724, 64.82432, -85.21637, 59.01965],
    },
    "float64": {
        "scale": 1.00099605,
        "log": [
            0.999999999999985,
            -0.6666666666719429,
            0.4999999993470856,
            -0.40000004124146327,
            0.33333176575830287,
            -0.2857536487313028,
            0.24930708705233198,
            -0.23112189979201164,
            0.11425554234362714,
            -0.8134551482600363,
            -3.435781841737394,
            -16.17308114188722,
            -55.500547625035665,
            -150.58266832364671,
            -313.40046485654005,
            -494.4482519399953,
            -571.1187001899212,
            -457.7258175702935,
            -228.06082545992933,
            -53.94894410164157,
        ],
        "sin": [
            6.2769331678977025,
            -41.21841271940926,
            81.20004634412474,
            -76.17316413058732,
            41.68353175337169,
            -14.930239495960977,
            3.7706758353943552,
            -0.7011833515953694,
        ],
        "cos": [
            1.0,
            -19.699944997127144,
            64.68130548163913,
            -84.94787735537778,
            59.76673255435854,
            -26.164474299961967,
            7.809676180503316,
            -1.6905880054296822,
            0.27503806093850003,
        ],
    },
}

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
        "polynomials": POLYNOMIALS,
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
