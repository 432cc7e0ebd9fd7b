"""The value contract: known answers, the reference implementation, the ends of every range, and pinned values."""

# The loops that call compiled functions are compiled too, and their types are those of their arguments.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray
from scipy import stats

import fastinit as fi
from bench.exhaustive import BOUNDS
from fastinit.core.dtypes import dtype_of
from fastinit.core.keys import stream_of
from fastinit.kernels.intrinsics import to_bfloat16, to_float16
from fastinit.kernels.philox import philox
from fastinit.kernels.transforms import cosine_sine, minus_two_log, normal_pair, uniform_pair
from fastinit.sampling.lowering import lower
from tests import reference
from tests.helpers import DTYPE_NAMES, assert_same, bits
from tests.reference import DOUBLE, SINGLE, Precision

Array = NDArray[Any]

SEED, NAME = 0x0123456789ABCDEF, "layers.0.mlp.up"
# Elements of a comparison: one rule in a thousand elements goes unseen with probability exp(-12). float64's uniforms
# are exact fractions in the reference, and slow.
COUNT, FEW = 12_000, 2_000
# The largest error of a normal, in ulp of the exact value. The radius and the cosine or sine are off by what the
# exhaustive sweep promises, and the product with std rounds by half an ulp. Relative errors add up, and what is one ulp
# at a power of two is two ulp just below the next. The last operation rounds once more. float64's polynomials are as
# good in its own ulp: in a million words the radius was off by 2.28, a cosine by 2.95. A wrong word is off by far more.
TURN_ULPS, RADIUS_ULPS = BOUNDS["cosine error, ulp"], BOUNDS["radius error, ulp"]
NORMAL_ULPS = 2 * (RADIUS_ULPS + TURN_ULPS + 0.5) + 0.5
LOG_ULPS = 1.0  # at the ends of the words, where the logarithm is nearly linear
# Where a decision is closer to a tie than so many ulp, the reference cannot say how a kernel decides. A float32's
# proposal is so with a probability of some 32 * 2**-24: of `COUNT` elements with two proposals each, 0.05 are.
TIE_ULPS, MOST_TIES = 32.0, 2

PRECISIONS = {"float32": SINGLE, "float64": DOUBLE}
RANGES = (
    (0.0, 1.0),
    (-1.0, 1.0),
    (-0.3, 0.7),
    (0.1, 0.3),  # both ends between two values, in every dtype
    (-5.0, -1e-3),
    (1000.0, 1001.0),  # float16 has three values there, bfloat16 one
    (0.0, 1e-7),  # float16: two values
    (0.0, 1e-30),  # float32's step is hardly above the subnormals
    (0.0, 5e-324),
    (-65504.0, 65504.0),
    (-1e38, 2e38),
    (-1e308, 7e307),
)
NORMALS = (fi.normal(), fi.normal(0.0, 0.02), fi.normal(-3.0, 0.5), fi.normal(1e-3, 1e3))
TRUNCATED = (
    fi.truncated_normal(),
    fi.truncated_normal(0.5, 0.02, -1.0, 0.3),
    fi.truncated_normal(lower=-0.4, upper=0.4),
    fi.truncated_normal(lower=0.0, upper=math.inf),
    # uniform proposals: around the mean, and on either side of it, where a third is rejected
    fi.truncated_normal(lower=-0.001, upper=0.001),
    fi.truncated_normal(lower=-0.1, upper=0.3),
    fi.truncated_normal(lower=1.0, upper=1.7),
    fi.truncated_normal(2.0, 0.1, lower=-1.7, upper=-1.0),
    # exponential proposals
    fi.truncated_normal(lower=5.0, upper=math.inf),
    fi.truncated_normal(lower=-math.inf, upper=-1.0),
    fi.truncated_normal(-1.0, 3.0, lower=1.0, upper=2.5),
    fi.truncated_normal(lower=-30.0, upper=-20.0),
)
KNOWN = [
    [int(word, 16) for word in line.split()]
    for line in (Path(__file__).parent / "data" / "kat_vectors.txt").read_text().splitlines()
    if not line.startswith("#")
]


# No loop here is cached: Numba would not see that a function it calls has changed.


@njit
def _philox(counter, key, out):
    for j in range(len(counter)):
        c = counter[j]
        words = philox(c[0], c[1], c[2], c[3], key[0], key[1])
        for k in range(4):
            out[j, k] = words[k] & np.uint64(0xFFFFFFFF)


def _each(function: Callable[..., Any]) -> Any:
    """A loop over a compiled function of one argument."""

    @njit
    def loop(a, out):
        for j in range(len(a)):
            out[j] = function(a[j])

    return loop


def _each_pair(function: Callable[..., Any]) -> Any:
    """A loop over a compiled function that makes a pair from a distribution and a pair of words."""

    @njit
    def loop(distribution, a, b, out):
        for j in range(len(a)):
            out[j, 0], out[j, 1] = function(distribution, a[j], b[j])

    return loop


@njit
def _turns(words, out):
    for j in range(len(words)):
        out[j, 0], out[j, 1] = cosine_sine(words[j])


_logs, _uniforms, _normals = _each(minus_two_log), _each_pair(uniform_pair), _each_pair(normal_pair)
_float16, _bfloat16 = _each(to_float16), _each(to_bfloat16)


def made(init: fi.Initializer, dtype: str, start: int = 0, count: int = COUNT) -> Array:
    """Elements of a tensor of one axis."""
    out = np.empty(count, dtype_of(dtype))
    return fi.fill(out, init, seed=SEED, name=NAME, global_shape=(start + count,), global_offset=(start,))


def fits(low: float, high: float, dtype: str) -> bool:
    """Whether the dtype reaches that far."""
    return max(-low, high) <= float(ml_dtypes.finfo(dtype_of(dtype)).max)


def indices(start: int, count: int) -> reference.Words:
    return np.uint64(start) + np.arange(count, dtype=np.uint64)


def ulp(exact: Array, precision: Precision) -> Array:
    """The spacing of the precision's floats at exact values."""
    least = np.finfo(precision.real).minexp + 1  # subnormals are as far apart as the smallest normals
    exponent = np.maximum(np.frexp(exact)[1], least)
    return np.asarray(np.ldexp(precision.wide(1), exponent - precision.kept))


def assert_near(found: Array, exact: Array, ulps: float, precision: Precision, offset: float = 0.0) -> None:
    """Every value within so many ulp; where an offset was added to it, of the value before and of the value after."""
    assert found.dtype == precision.real
    unit = ulp(exact, precision) + (ulp(exact - offset, precision) if offset else 0)
    error = abs(found.astype(precision.wide) - exact) / unit
    assert error.max() <= ulps, f"{error.max()} ulp at {error.argmax()}"


def drawn(init: fi.Initializer, precision: Precision, start: int, count: int) -> reference.Drawn:
    return reference.draw(init.distribution((start + count,)), indices(start, count), precision, SEED, NAME)


def check_words(seed: int, name: str | int, start: int, count: int) -> None:
    found = fi.words(count, seed=seed, name=name, start=start)
    np.testing.assert_array_equal(found, reference.words(indices(start, count), seed, name))


def check_uniform(low: float, high: float, dtype: str) -> None:
    init = fi.uniform(low, high)
    precision = PRECISIONS.get(dtype, SINGLE)
    count = FEW if precision is DOUBLE else COUNT
    found, expected = made(init, dtype, 3, count), drawn(init, precision, 3, count).values.astype(precision.real)
    distribution = init.distribution((count,))
    assert_same(found, expected if dtype in PRECISIONS else reference.rounded(expected, distribution, dtype_of(dtype)))
    assert low <= float(found.min()) <= float(found.max()) <= high


def check_16_bits(init: fi.Initializer, dtype: str) -> None:
    expected = reference.rounded(made(init, "float32"), init.distribution((COUNT,)), dtype_of(dtype))
    assert_same(made(init, dtype), expected)


def check_drawn(init: fi.Initializer, dtype: str, start: int = 5, count: int = COUNT) -> None:
    precision = PRECISIONS[dtype]
    found, expected = made(init, dtype, start, count), drawn(init, precision, start, count)
    clear = expected.margin > TIE_ULPS * 2.0**-precision.kept
    assert (~clear).sum() <= MOST_TIES
    distribution: Any = init.distribution((count,))
    mean = distribution.mean if isinstance(distribution, fi.Normal) else distribution.parent_mean
    assert_near(found[clear], expected.values[clear], NORMAL_ULPS, precision, float(precision.real(mean)))
    assert distribution.support[0] <= found.min()
    assert found.max() <= distribution.support[1]


@pytest.mark.parametrize("row", KNOWN, ids=lambda row: f"{row[0]:08x}")
def test_known_answers(row: list[int]) -> None:
    counter, key, expected = np.array([row[:4]], np.uint64), row[4:6], np.array([row[6:]], np.uint64)
    np.testing.assert_array_equal(reference.philox(counter, (key[0], key[1])), expected)
    found = np.empty_like(expected)
    _philox(counter, np.array(key, np.uint64), found)
    np.testing.assert_array_equal(found, expected)


def test_known_answer_of_words() -> None:
    assert fi.words(4, seed=0, name=0).tolist() == KNOWN[0][6:]


def test_streams() -> None:
    assert stream_of("layers.0.mlp.up") == 0xC774B924B68C7364
    for name in ("", "w", "a" * 1000, "größe", "層", 0, 1, 2**63 - 1):
        assert stream_of(name) == reference.stream_of(name)


@pytest.mark.parametrize(("seed", "name"), [(0, 0), (1, "w"), (2**32, 2**32), (2**64 - 1, 2**63 - 1), (SEED, NAME)])
@pytest.mark.parametrize(
    "start", [0, 1, 2, 3, 1023, 2**32 - 2, 2**34 - 4096, 2**34 - 1, 2**34, 2**34 + 2, 2**54 - 5000]
)
@pytest.mark.parametrize("count", [0, 1, 6, 5000])
def test_words(seed: int, name: str | int, start: int, count: int) -> None:
    check_words(seed, name, start, count)


def test_the_last_word() -> None:
    check_words(SEED, NAME, 2**54 - 1, 1)
    with pytest.raises(ValueError, match="2\\*\\*54"):
        fi.words(2, seed=SEED, name=NAME, start=2**54 - 1)


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [(low, high, dtype) for low, high in RANGES for dtype in DTYPE_NAMES if fits(low, high, dtype)],
)
def test_uniforms(low: float, high: float, dtype: str) -> None:
    check_uniform(low, high, dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("init", [fi.uniform(0.1, 0.3), *NORMALS, *TRUNCATED], ids=repr)
def test_16_bits_are_the_rounded_float32(init: fi.Initializer, dtype: str) -> None:
    check_16_bits(init, dtype)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("init", [*NORMALS, *TRUNCATED], ids=repr)
def test_normals_and_truncated_normals(init: fi.Initializer, dtype: str) -> None:
    check_drawn(init, dtype)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize(
    "init", [fi.uniform(-0.3, 0.7), NORMALS[0], TRUNCATED[0], TRUNCATED[6], TRUNCATED[8]], ids=repr
)
@pytest.mark.parametrize("offset", [(0, 2**14 + 1, 3), (2**9 - 1, 2**15 - 3, 2**20 - 40)])  # around 2**34; the end
def test_a_region_of_a_huge_tensor(init: fi.Initializer, dtype: str, offset: tuple[int, ...]) -> None:
    whole, shape = (2**9, 2**15, 2**20) if offset[0] else (4, 2**15, 2**20), (1, 3, 37)
    precision = PRECISIONS[dtype]
    found = np.empty(shape, dtype)
    fi.fill(found, init, seed=SEED, name=NAME, global_shape=whole, global_offset=offset)
    places = np.meshgrid(*(range(at, at + size) for at, size in zip(offset, shape, strict=True)), indexing="ij")
    index = np.ravel_multi_index(tuple(place.ravel() for place in places), whole).astype(np.uint64)
    assert index.max() > 2**34
    expected = reference.draw(init.distribution(whole), index, precision, SEED, NAME)
    assert_near(found.ravel(), expected.values, NORMAL_ULPS, precision)


@pytest.mark.parametrize(
    "start", [2**32 - 500, 2**34 - 500, 2**52 - 1000]
)  # where an element's block, its retries' block, and the tensor end
@pytest.mark.parametrize("dtype", PRECISIONS)
def test_truncated_normals_far_out(dtype: str, start: int) -> None:
    check_drawn(fi.truncated_normal(lower=-0.4, upper=0.4), dtype, start, 1000)


def _round_up(values: Array, distribution: fi.Distribution, dtype: Any) -> Array:
    return np.asarray(np.nextafter(values.astype(dtype), np.asarray(np.inf, dtype)))


def _two_roundings(a: Array, b: float, c: float, precision: Precision) -> Array:
    return np.asarray(a * precision.real(b) + precision.real(c))


_exact_log, _exact_turn, _exact_uniform = reference.minus_two_log, reference.cosine_sine, reference.uniform


@pytest.mark.parametrize(
    ("attribute", "wrong", "check"),
    [
        ("ROUNDS", 9, lambda: check_words(SEED, NAME, 0, 4)),
        ("WEYL", (0xBB67AE85, 0x9E3779B9), lambda: check_words(SEED, NAME, 0, 4)),
        ("fused", _two_roundings, lambda: check_uniform(0.1, 0.3, "float32")),
        ("fused", _two_roundings, lambda: check_uniform(0.1, 0.3, "float64")),
        (
            "uniform",
            lambda word, start, width, p: _exact_uniform(word, start - width / 2 ** (p.kept + 1), width, p),
            lambda: check_uniform(0.0, 1.0, "float32"),
        ),
        ("hold", lambda values, support, dtype: values, lambda: check_16_bits(fi.uniform(0.1, 0.3), "bfloat16")),
        ("rounded", _round_up, lambda: check_16_bits(fi.normal(), "float16")),
        (
            "minus_two_log",  # a radius of 24 bits
            lambda word, p: _exact_log(word & np.uint64(0xFFFFFF00), p),
            lambda: check_drawn(fi.normal(), "float32"),
        ),
        ("cosine_sine", lambda word, p: _exact_turn(word, p)[::-1], lambda: check_drawn(fi.normal(), "float32")),
        ("minus_two_log", lambda w, p: _exact_log(w, p) * (1 + 4e-6), lambda: check_drawn(fi.normal(), "float32")),
        ("minus_two_log", lambda w, p: _exact_log(w, p) * (1 + 8e-15), lambda: check_drawn(fi.normal(), "float64")),
        *(
            (
                "FIRST_ATTEMPT",
                {kind: attempt + 1 for kind, attempt in reference.FIRST_ATTEMPT.items()},
                lambda init=init: check_drawn(init, "float32"),
            )
            for init in (TRUNCATED[0], TRUNCATED[6], TRUNCATED[8])
        ),
    ],
)
def test_a_wrong_reference_is_noticed(
    attribute: str, wrong: Any, check: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    check()
    monkeypatch.setattr(reference, attribute, wrong)
    with pytest.raises(AssertionError):
        check()


def end_words(precision: Precision) -> Array:
    """Words at both ends, and around the middle and every eighth of a turn."""
    eighths = [k << (precision.word - 3) for k in range(9)]
    near = {word + step for word in eighths for step in (-2, -1, 0, 1, 2)}
    return np.array(sorted(word for word in near if 0 <= word < 1 << precision.word), f"u{precision.word // 8}")


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_uniforms_at_the_ends(dtype: str) -> None:
    precision = PRECISIONS[dtype]
    words = end_words(precision)
    found = np.empty((len(words), 2), dtype)
    for low, high in (ends for ends in RANGES if fits(*ends, dtype)):
        distribution = fi.Uniform(low, high)
        _uniforms(lower(distribution, np.dtype(dtype)).transform, words, words[::-1], found)
        expected = reference.uniform(words.astype(np.uint64), low, high - low, precision)
        expected = reference.hold(expected, distribution.support, dtype).astype(dtype)
        assert_same(found, np.stack([expected, expected[::-1]], axis=1))
        assert low <= float(found.min()) <= float(found.max()) <= high


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_a_unit_uniform_at_the_ends(dtype: str) -> None:
    kept, word = PRECISIONS[dtype].kept, PRECISIONS[dtype].word
    words = np.array([0, (1 << word - 1) - 1, 1 << word - 1, (1 << word - 1) + 1, (1 << word) - 1], f"u{word // 8}")
    found = np.empty((5, 2), dtype)
    _uniforms(lower(fi.Uniform(0.0, 1.0), np.dtype(dtype)).transform, words, words, found)
    below, above = 0.5 - 2.0 ** -(kept + 1), 0.5  # 1/2 + 2**-25 is halfway to the next float32, and 1/2 is even
    assert found[:, 0].tolist() == [2.0 ** -(kept + 1), below, above, above, 1.0]


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_the_logarithm_at_the_ends(dtype: str) -> None:
    precision = PRECISIONS[dtype]
    words = end_words(precision)
    found = np.empty(len(words), dtype)
    _logs(words, found)
    assert_near(found, reference.minus_two_log(words.astype(np.uint64), precision), LOG_ULPS, precision)
    assert found[-1] == 2.0**-precision.word  # -2 ln(1 - h) = 2 h + h**2 ...
    assert found[0] == precision.real(2 * (precision.word + 1) * math.log(2))


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_the_turn_at_the_ends(dtype: str) -> None:
    precision = PRECISIONS[dtype]
    words = end_words(precision)
    found = np.empty((len(words), 2), dtype)
    _turns(words, found)
    for column, exact in enumerate(reference.cosine_sine(words.astype(np.uint64), precision)):
        assert_near(found[:, column], exact, TURN_ULPS, precision)
    assert (found != 0).all()
    assert abs(found).max() == 1


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_normals_have_no_atom_at_zero(dtype: str) -> None:
    precision = PRECISIONS[dtype]
    words = end_words(precision)
    radii, angles = (grid.ravel() for grid in np.meshgrid(words, words))
    found = np.empty((radii.size, 2), dtype)
    _normals(lower(fi.Normal(0.0, 1.0), np.dtype(dtype)).transform, radii, angles, found)
    exact = reference.normals(np.stack([radii, angles], axis=1).astype(np.uint64), 0.0, 1.0, precision)
    assert_near(found, np.stack(exact, axis=1), NORMAL_ULPS, precision)
    smallest = 2.0 ** (-precision.word / 2) * math.pi * 2.0**-precision.word
    assert abs(found).min() == pytest.approx(smallest, rel=1e-6)
    assert abs(found).max() == pytest.approx(math.sqrt(2 * (precision.word + 1) * math.log(2)), rel=1e-6)


@pytest.mark.parametrize(("dtype", "function"), [("float16", _float16), ("bfloat16", _bfloat16)])
def test_rounding_to_16_bits(dtype: str, function: Any) -> None:
    """Every upper half of a float32, with lower halves that lie below, on and above the ties of both dtypes."""
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    lower = [0, 1, 0x0FFF, 0x1000, 0x1001, 0x2000, 0x3000, 0x7FFF, 0x8000, 0x8001, 0xF000, 0xF001, 0xFFFF]
    values = np.concatenate([upper | np.uint32(half) for half in lower]).view(np.float32)
    values = values[~np.isnan(values)]
    found = np.empty(len(values), np.uint16)
    function(values, found)
    with np.errstate(over="ignore", under="ignore"):
        expected = bits(values.astype(dtype_of(dtype)))
    np.testing.assert_array_equal(found, expected)
    cut = np.empty_like(found)
    function((values.view(np.uint32) & np.uint32(0xFFFFF000)).view(np.float32), cut)
    assert (cut != expected).any()  # the lower halves matter


# The first values of a tensor, as bits, and a digest of its first 2**16, which every changed coefficient changes. The
# first normals hold one beyond 2 sigma, which the truncated distribution redraws. To change any value here is
# value-breaking: it takes a new `STREAM_FORMAT`, and a line in the changelog that says so.
PINNED_SEED, PINNED_NAME = 11, "pinned"
PINNED = {
    ("uniform", "float16"): ("27b4 ac0d ad2b 245d", "2e0cf69124cda017"),
    ("uniform", "bfloat16"): ("3cf7 bd82 bda5 3c8c", "897e653b3d44b2bc"),
    ("uniform", "float32"): ("3cf689e2 bd81a025 bda56df8 3c8b9e7b", "50e6e309768f1384"),
    ("uniform", "float64"): ("bfb0340475deb218 3f9173ce667a15d5 bf9827695881da52 bfa662339d1b5dbc", "8621d3ff03070d6d"),
    ("normal", "float16"): ("266f 242f a2ad 2a15", "b143d873fc84e4d6"),
    ("normal", "bfloat16"): ("3cce 3c86 bc56 3d43", "7e3636cfeda190d6"),
    ("normal", "float32"): ("3ccddd08 3c85df17 bc5591fa 3d42a653", "7790a750784ec330"),
    ("normal", "float64"): ("bf87ae84ddb6ba25 3fa5956e691a0150 3f97a017ba21a478 3f9cd1302a342863", "a670dff28b252cbe"),
    ("truncated", "float16"): ("266f 242f a2ad 2476", "6044005b0901f6a0"),
    ("truncated", "bfloat16"): ("3cce 3c86 bc56 3c8f", "42406c7ac35dff29"),
    ("truncated", "float32"): ("3ccddd08 3c85df17 bc5591fa 3c8ecbb2", "6223adebb0e0a63c"),
    ("truncated", "float64"): (
        "bf87ae84ddb6ba25 3f9758be714b51a1 3f97a017ba21a478 3f9cd1302a342863",
        "05f1b070a1c3303d",
    ),
    ("narrow", "float16"): ("0799 93ea 0500 0d70", "d06df7a62d2d7ad3"),
    ("narrow", "bfloat16"): ("38f3 ba7d 38a0 39ae", "53d93e431df307dd"),
    ("narrow", "float32"): ("38f32b85 ba7d374b 38a002b0 39adfdd3", "626b4b6d1575ad12"),
    ("narrow", "float64"): ("bf41e9e4c164a602 3f3cfcce5918c294 3f44aa965562c196 3f3165a0f30769b6", "604475b4bdc7d8e6"),
    ("tail", "float16"): ("4569 4568 450a 451a", "74f0a77b59ef47c8"),
    ("tail", "bfloat16"): ("40ad 40ad 40a1 40a3", "db7c76a66fb00732"),
    ("tail", "float32"): ("40ad1183 40ad0975 40a1348c 40a34277", "52ff4d2d362f2fe4"),
    ("tail", "float64"): ("40142bff0d7094ed 401693fc04c93c33 4015456a630243d1 4015186a702403d5", "b48304bf8bef0311"),
}
PINNED_LAWS = {
    "uniform": fi.uniform(-0.1, 0.3),
    "normal": fi.normal(0.0, 0.02),
    "truncated": fi.truncated_normal(0.0, 0.02),
    "narrow": fi.truncated_normal(lower=-0.001, upper=0.001),
    "tail": fi.truncated_normal(lower=5.0, upper=math.inf),
}


@pytest.mark.parametrize(("distribution", "dtype"), PINNED)
def test_values_are_pinned(distribution: str, dtype: str) -> None:
    assert fi.STREAM_FORMAT == 1
    found = fi.array(1 << 16, PINNED_LAWS[distribution], seed=PINNED_SEED, name=PINNED_NAME, dtype=dtype)
    digits = 2 * found.itemsize
    first = " ".join(f"{value:0{digits}x}" for value in bits(found[:4]).tolist())
    assert (first, hashlib.blake2b(found.tobytes(), digest_size=8).hexdigest()) == PINNED[distribution, dtype]


def test_the_pinned_normals_are_beyond_the_bounds() -> None:
    for dtype in PRECISIONS:
        assert abs(fi.array(4, fi.normal(), seed=PINNED_SEED, name=PINNED_NAME, dtype=dtype)).max() > 2


@pytest.mark.parametrize("dtype", list(PRECISIONS))
@pytest.mark.parametrize(("lower", "upper"), [(-0.5, 0.0), (0.0, 0.5), (-0.5, -0.0), (-1e-3, 0.0)])
def test_an_interval_may_end_at_the_mean(lower: float, upper: float, dtype: str) -> None:
    """Neither bound is then nearer to the mean than the other: t counts from the mean, upwards from the lower one."""
    init = fi.truncated_normal(0.25, 2.0, lower, upper)
    check_drawn(init, dtype)
    found = made(init, dtype).astype(np.float64)
    assert stats.kstest(found, init.distribution((COUNT,)).cdf).pvalue > 1e-6


@pytest.mark.parametrize(
    "init",
    [
        fi.normal(std=1e-39),
        fi.normal(std=2.0**-120),
        fi.normal(mean=2.0**-125, std=2.0**-126),
        fi.truncated_normal(std=2.0**-126),
    ],
    ids=str,
)
def test_subnormal_values_are_rounded_like_others(init: fi.Initializer) -> None:
    """Instructions that round to bfloat16 take subnormals for zero: where there are some, none may be used."""
    wide = fi.array((64, 256), init, seed=0, name="w")
    assert (abs(wide[wide != 0]) < 2.0**-126).any()
    wanted = wide.astype(dtype_of("bfloat16"))
    assert fi.array((64, 256), init, seed=0, name="w", dtype="bfloat16").tobytes() == wanted.tobytes()
