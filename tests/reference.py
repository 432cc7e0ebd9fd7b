"""The value contract, slowly: what every element of every tensor is, written to be read.

An element's value is a function of the seed, the tensor's name, the element's index in the whole tensor, the
distribution, and the precision of the computation. This file is that function in NumPy and exact arithmetic. It shares
no code with the kernels, and it is the oracle that they are tested against:

1.  `philox` turns a counter and a key into four random words. The key is the seed; the counter holds the tensor's
    stream, a digest of its name, and the number of a block of elements: `block_words`.
2.  `pairs` takes the words two at a time. A word is 32 bits wide for float32, two joined to 64 for float64.
3.  `uniform` keeps the top bits of each word; `normal` turns a pair of words into a pair of normals.
4.  `truncated` is rejection: a proposal that is not accepted is replaced by another, from words that belong to that
    element and that attempt alone.
5.  `rounded` makes a float16 or bfloat16 of a float32.

Uniforms are exact, bit for bit. What needs a logarithm is computed in a wider float than the kernels', and not rounded
to theirs: a kernel's error can then be measured.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from fastinit.distributions import Distribution, Normal, TruncatedNormal, Uniform

Words = NDArray[np.uint64]  # words in the low bits of uint64
Reals = NDArray[Any]

ROUNDS = 10
MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
WEYL = 0x9E3779B9, 0xBB67AE85  # what the key grows by in each round
# The first attempt of each kind of proposal. A normal's attempt 0 is the element's own, without rejection.
FIRST_ATTEMPT = {"normal": 1, "uniform": 2048, "exponential": 3072}


@dataclass(frozen=True)
class Precision:
    """A precision of computation: its floats, a wider float, the bits of a word, and those that a uniform keeps."""

    real: type[np.floating[Any]]
    wide: type[np.floating[Any]]
    word: int
    kept: int


SINGLE = Precision(np.float32, np.float64, word=32, kept=24)
DOUBLE = Precision(np.float64, np.longdouble, word=64, kept=53)


def stream_of(name: str | int) -> int:
    """The stream of a tensor: an integer name itself, else the 8-byte BLAKE2b digest of the name's UTF-8."""
    if isinstance(name, int):
        return name
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8"), digest_size=8).digest(), "little")


def philox(counter: Words, key: tuple[int, int]) -> Words:
    """Philox4x32-10 (Salmon, Moraes, Dror, Shaw, SC'11) of counters (..., 4): as many blocks of four words."""
    c0, c1, c2, c3 = np.moveaxis(counter.astype(np.uint64), -1, 0)
    k0, k1 = key
    half, low = np.uint64(32), np.uint64(0xFFFFFFFF)
    for _ in range(ROUNDS):
        product_0, product_1 = c0 * np.uint64(MULTIPLIERS[0]), c2 * np.uint64(MULTIPLIERS[1])
        c0, c1 = (product_1 >> half) ^ c1 ^ np.uint64(k0), product_1 & low
        c2, c3 = (product_0 >> half) ^ c3 ^ np.uint64(k1), product_0 & low
        k0, k1 = (k0 + WEYL[0]) % 2**32, (k1 + WEYL[1]) % 2**32
    return np.stack([c0, c1, c2, c3], axis=-1)


def block_words(block: Words, attempt: int, seed: int, name: str | int) -> Words:
    """The four words of each block, at an attempt: where in the counter everything goes."""
    stream = stream_of(name)
    c0 = block % np.uint64(2**32)
    c1 = np.uint64(attempt << 20) | (block >> np.uint64(32))
    c2, c3 = np.full_like(block, stream % 2**32), np.full_like(block, stream >> 32)
    return philox(np.stack([c0, c1, c2, c3], axis=-1), (seed % 2**32, seed >> 32))


def words(index: Words, seed: int, name: str | int) -> Words:
    """The stream as it comes: word n is word n % 4 of the block n // 4."""
    block, place = np.divmod(index, np.uint64(4))
    return np.take_along_axis(block_words(block, 0, seed, name), place.astype(np.int64)[:, None], axis=1)[:, 0]


def pairs(block: Words, attempt: int, precision: Precision, seed: int, name: str | int) -> Words:
    """The pairs of words of each block, as an array (blocks, pairs, 2): two pairs of 32 bits, or one of 64."""
    four = block_words(block, attempt, seed, name)
    if precision.word == 64:
        four = four[:, 0::2] | four[:, 1::2] << np.uint64(32)
    return four.reshape(len(block), -1, 2)


def own(index: Words, precision: Precision, seed: int, name: str | int) -> tuple[Words, NDArray[np.int64]]:
    """The pair of words at attempt 0 that each element shares with a neighbour, and which of the two it is, 0 or 1."""
    block, place = np.divmod(index, np.uint64(128 // precision.word))
    pair, which = np.divmod(place.astype(np.int64), 2)
    return pairs(block, 0, precision, seed, name)[np.arange(len(index)), pair], which


def fused(a: Reals, b: float, c: float, precision: Precision) -> Reals:
    """``a * b + c`` with one rounding, of values of the precision."""
    if precision is DOUBLE:
        factor, term = Fraction(float(b)), Fraction(float(c))
        return np.array([float(Fraction(x) * factor + term) for x in a.tolist()])
    # A product of two float32 is exact in float64. Of the sum, what float64 cannot hold is found (Knuth's TwoSum), and
    # left as a mark in the last bit (rounding to odd): then the second rounding, to float32, falls as one alone would.
    product = a.astype(np.float64) * float(b)
    total = product + float(c)
    part = total - product
    rest = (product - (total - part)) + (float(c) - part)
    even = total.view(np.int64) % 2 == 0
    marked = np.where((rest != 0) & even, np.nextafter(total, np.copysign(np.inf, rest)), total)
    return marked.astype(np.float32)


def top_bits(word: Words, precision: Precision) -> Reals:
    """The leading bits of a word, as many as a float holds, as an integer."""
    return (word >> np.uint64(precision.word - precision.kept)).astype(precision.real)


def given(parameter: float, precision: Precision) -> Any:
    """A parameter of a distribution as a kernel is given it: computed in float64, rounded once to the precision."""
    return precision.wide(precision.real(parameter))


def uniform(word: Words, start: float, width: float, precision: Precision) -> Reals:
    """``start + (k + 1/2) width / 2**kept`` for the top bits k: one fused multiply-add, its constants from float64."""
    step = width * 2.0**-precision.kept
    return fused(top_bits(word, precision), given(step, precision), given(start + step / 2, precision), precision)


def signed_fraction(word: Words, precision: Precision) -> Reals:
    """``(word + 1/2) / 2**bits`` for words of the lower half, that minus one for the upper half: exact."""
    as_64_bits = (word << np.uint64(64 - precision.word)).view(np.int64)
    return (as_64_bits.astype(precision.wide) + 2.0 ** (63 - precision.word)) * precision.wide(2.0**-64)


def minus_two_log(word: Words, precision: Precision) -> Reals:
    """-2 ln u for u = (word + 1/2) / 2**bits: an exponential of mean 2."""
    fraction = signed_fraction(word, precision)
    return -2 * np.where(fraction > 0, np.log(abs(fraction)), np.log1p(fraction))


def cosine_sine(word: Words, precision: Precision) -> tuple[Reals, Reals]:
    """Cosine and sine of (word + 1/2) / 2**bits turns, by the exact distance from the nearest quarter turn."""
    one_quarter = np.uint64(1 << (precision.word - 2))
    word_mask = np.uint64(2**precision.word - 1)
    quarters = (word + one_quarter // np.uint64(2) & word_mask) // one_quarter
    pi = precision.wide("3.14159265358979323846264338327950288")
    angle = 2 * pi * signed_fraction(word - quarters * one_quarter & word_mask, precision)
    c, s = np.cos(angle), np.sin(angle)
    turn = quarters.astype(np.int64)
    return np.choose(turn, [c, -s, -c, s]), np.choose(turn, [s, c, -s, -c])


def normals(pair: Words, mean: float, std: float, precision: Precision) -> tuple[Reals, Reals]:
    """Box and Muller (1958): the radius from the first word, the angle from the second."""
    radius = np.sqrt(minus_two_log(pair[..., 0], precision))
    cosine, sine = cosine_sine(pair[..., 1], precision)
    scaled = radius * given(std, precision)
    return given(mean, precision) + scaled * cosine, given(mean, precision) + scaled * sine


@dataclass(frozen=True)
class Drawn:
    """Values, and the margin of each: how far, relatively, the closest of its decisions was from a tie.

    A kernel rounds, and may decide otherwise where the margin is no larger than its rounding errors.
    """

    values: Reals
    margin: Reals


def draw(distribution: Distribution, index: Words, precision: Precision, seed: int, name: str | int) -> Drawn:
    """The elements of these indices, in the precision's wider float; uniforms as they are."""
    if isinstance(distribution, TruncatedNormal):
        return truncated(distribution, index, precision, seed, name)
    pair, which = own(index, precision, seed, name)
    if isinstance(distribution, Uniform):
        word = pair[np.arange(len(index)), which]
        values = hold(
            uniform(word, distribution.low, distribution.high - distribution.low, precision),
            distribution.support,
            precision.real,
        )
    else:
        assert isinstance(distribution, Normal)
        values = np.choose(which, normals(pair, distribution.mean, distribution.std, precision))
    return Drawn(values, np.full(len(index), np.inf))


# A proposal for each of some elements, by index: the values, and by how much, relatively, each fails to be accepted.
Proposal = Callable[[Words], tuple[Reals, Reals]]


def truncated(distribution: TruncatedNormal, index: Words, precision: Precision, seed: int, name: str | int) -> Drawn:
    """Rejection: every element takes the first of its own proposals that is accepted."""
    values = np.full(len(index), np.nan, precision.wide)
    margin = np.full(len(index), np.inf)
    todo = np.arange(len(index))
    for propose in proposals(distribution, precision, seed, name):
        value, failure = propose(index[todo])
        accepted = failure <= 0
        values[todo[accepted]] = value[accepted]
        margin[todo] = np.minimum(margin[todo], abs(failure))
        todo = todo[~accepted]
        if len(todo) == 0:
            break
    return Drawn(hold(values, distribution.support, precision.real), margin)


def proposals(distribution: TruncatedNormal, precision: Precision, seed: int, name: str | int) -> Iterator[Proposal]:
    """An element's proposals, in order: its own normal where normals are proposed, then the pairs of block = index."""
    kind = kind_of(distribution)

    def first(index: Words) -> tuple[Reals, Reals]:
        pair, which = own(index, precision, seed, name)
        both = normal_proposal(distribution, pair, 0, precision), normal_proposal(distribution, pair, 1, precision)
        return np.choose(which, [both[0][0], both[1][0]]), np.choose(which, [both[0][1], both[1][1]])

    def later(attempt: int, number: int, which: int, index: Words) -> tuple[Reals, Reals]:
        pair = pairs(index, attempt, precision, seed, name)[:, number]
        if kind == "normal":
            return normal_proposal(distribution, pair, which, precision)
        return (uniform_proposal if kind == "uniform" else exponential_proposal)(distribution, pair, precision)

    if kind == "normal":
        yield first
    for attempt in range(FIRST_ATTEMPT[kind], 4096):
        for number in range(64 // precision.word):
            for which in range(2 if kind == "normal" else 1):
                yield partial(later, attempt, number, which)


def kind_of(distribution: TruncatedNormal) -> str:
    """Which proposal a distribution uses, by its bounds a, b in sigma.

    Normals where at least a quarter of them fall inside. Else, beyond a bound of alpha > 0, an exponential of rate
    r = (alpha + sqrt(alpha**2 + 4)) / 2 (Robert 1995) if that is accepted more often than a uniform is: their rates of
    acceptance are as r exp(-(r - alpha)**2 / 2) to 1 / (b - a).
    """
    a, b = distribution.bounds
    if ndtr(b) - ndtr(a) >= 1 / 4:
        return "normal"
    alpha = max(a, -b)
    rate = (alpha + math.sqrt(alpha**2 + 4)) / 2
    return "exponential" if alpha > 0 and rate * math.exp(-((rate - alpha) ** 2) / 2) > 1 / (b - a) else "uniform"


def normal_proposal(
    distribution: TruncatedNormal, pair: Words, which: int, precision: Precision
) -> tuple[Reals, Reals]:
    """One of a pair's normals, accepted inside the bounds."""
    value = normals(pair, distribution.parent_mean, distribution.parent_std, precision)[which]
    low, high = inside(distribution.support, precision.real)
    size = abs(distribution.parent_mean) + abs(value - distribution.parent_mean)
    return value, np.maximum(low - value, value - high) / size


def frame(distribution: TruncatedNormal, precision: Precision) -> tuple[float, float, float]:
    """Where the density is largest, as sigmas from the mean and as a value, and sigma, negative towards the left."""
    a, b = distribution.bounds
    if a > 0:
        return a, given(distribution.lower, precision), given(distribution.parent_std, precision)
    if b < 0:
        return -b, given(distribution.upper, precision), given(-distribution.parent_std, precision)
    return 0.0, given(distribution.parent_mean, precision), given(distribution.parent_std, precision)


def uniform_proposal(distribution: TruncatedNormal, pair: Words, precision: Precision) -> tuple[Reals, Reals]:
    """A uniform t, in sigmas from the peak; accepted with probability exp(-t (t + 2 alpha) / 2), by an exponential."""
    a, b = distribution.bounds
    alpha, origin, slope = frame(distribution, precision)
    t = uniform(pair[:, 0], 0.0 if alpha > 0 else a, b - a, precision)
    wide = t.astype(precision.wide)
    limit = minus_two_log(pair[:, 1], precision)
    return fused(t, slope, origin, precision), wide * (wide + given(2 * alpha, precision)) / limit - 1


def exponential_proposal(distribution: TruncatedNormal, pair: Words, precision: Precision) -> tuple[Reals, Reals]:
    """An exponential t, sigmas beyond the bound; accepted inside with probability exp(-(t - (r - alpha))**2 / 2)."""
    a, b = distribution.bounds
    alpha, origin, slope = frame(distribution, precision)
    rate = (alpha + math.sqrt(alpha**2 + 4)) / 2
    t = minus_two_log(pair[:, 0], precision) * given(0.5 / rate, precision)
    gap, width = given(rate - alpha, precision), given(b - a, precision)
    limit = minus_two_log(pair[:, 1], precision)
    failure = ((t - gap) ** 2 - limit) / (t**2 + gap**2 + limit)
    return origin + slope * t, np.maximum(failure, t / width - 1)


def inside(support: tuple[float, float], dtype: Any) -> tuple[float, float]:
    """The smallest and the largest value of a dtype in a closed interval."""
    low, high = (np.asarray(bound, np.float64).astype(dtype) for bound in support)
    if float(low) < support[0]:
        low = np.nextafter(low, np.asarray(np.inf, dtype))
    if float(high) > support[1]:
        high = np.nextafter(high, np.asarray(-np.inf, dtype))
    return float(low), float(high)


def hold(values: Reals, support: tuple[float, float], dtype: Any) -> Reals:
    """The values, or the last value of the dtype within the bound that they passed."""
    low, high = inside(support, dtype)
    real = values.dtype.type
    return np.where(values < real(low), real(low), np.where(values > real(high), real(high), values))


def rounded(values: Reals, distribution: Distribution, dtype: Any) -> Reals:
    """float16 or bfloat16 of float32 values: rounded once, to nearest even, then clamped to the support."""
    with np.errstate(over="ignore"):
        return hold(values.astype(dtype), distribution.support, dtype)
