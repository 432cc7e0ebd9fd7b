"""Words to values: the only mathematics that is compiled, as scalar functions that every target shares.

A *pair* of words makes a pair of values. A word has the width of the floats that it makes: uint32 for float32 (whose
values float16 and bfloat16 round), uint64 for float64; a Philox block is two pairs of the one or one pair of the other.

The parameters of a transform, finished scalars of one width, are a small named tuple, and its class chooses the
functions: one makes a pair of values from a pair of words, one proposes a candidate and says whether it is accepted. To
add a transform, write its class, its function and a row of `TRANSFORMS`. No function here branches: a loop over any of
them becomes vector code.
"""

# These functions are compiled, and their types are those of their arguments.
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba.extending import overload, register_jitable

from fastinit.core.environment import in_default
from fastinit.kernels.intrinsics import (
    add,
    and_,
    ashr,
    bits,
    fma,
    from_bits,
    horner,
    lshr,
    real,
    select,
    shl,
    signed,
    square_root,
    sub,
    xor,
)


class Format(NamedTuple):
    """The constants of one width; the polynomials are minimax fits, see bench/coefficients.py."""

    zero: Any
    half: Any
    one: Any
    dropped: Any  # low bits of a word that a uniform leaves unused, so that the rest is an exact float
    ulp: Any  # 2**-width, the weight of a word's last bit as a fraction of all words
    half_ulp: Any
    mantissa: Any  # stored bits of the significand
    half_bits: Any  # the bits of 1/2
    minus_two_ln2: Any
    minus_two: Any
    log: Any  # q, with -2 ln(1 + f) = -2 f + f**2 q(f) for f in [-1/2, 0]
    eighth_turn: Any  # as a word
    sign: Any  # the top bit of a word
    quarter_turn: Any  # as a word
    angle: Any  # the scale of the angle, x = scale * turns, times ulp / 4
    half_angle: Any  # the same, times ulp / 2
    sin: Any  # s, with sin = x s(x**2), up to an eighth of a turn
    cos: Any  # c, with cos = c(x**2)


@in_default  # or the coefficients would be rounded as this thread happens to
def _format(real: type[Any], word: type[Any], width: int, mantissa: int, scale: float, **series: list[float]) -> Format:
    return Format(
        zero=real(0),
        half=real(0.5),
        one=real(1),
        dropped=width - mantissa - 1,
        ulp=real(2.0**-width),
        half_ulp=real(2.0 ** -(width + 1)),
        mantissa=mantissa,
        half_bits=int(np.array(0.5, real).view(word)),
        minus_two_ln2=real(-1.3862943611198906),  # not by a library's log, whose last bit may differ
        minus_two=real(-2),
        eighth_turn=1 << (width - 3),
        sign=1 << (width - 1),
        quarter_turn=1 << (width - 2),
        angle=real(2.0 ** -(width + 2) * scale),
        half_angle=real(2.0 ** -(width + 1) * scale),
        **{name: tuple(real(value) for value in values) for name, values in series.items()},
    )


FLOAT32 = _format(
    np.float32,
    np.uint32,
    width=32,
    mantissa=23,
    scale=1.0004432,
    log=[0.99999046, -0.6672642, 0.48736516, -0.5273823, -0.36190656, -2.4174328, -3.2791853, -2.8290985],
    sin=[6.2804017, -41.28675, 81.41319, -75.21203],
    cos=[1.0, -19.721724, 64.82432, -85.21637, 59.01965],
)
FLOAT64 = _format(
    np.float64,
    np.uint64,
    width=64,
    mantissa=52,
    scale=1.00099605,
    log=[
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
    sin=[
        6.2769331678977025,
        -41.21841271940926,
        81.20004634412474,
        -76.17316413058732,
        41.68353175337169,
        -14.930239495960977,
        3.7706758353943552,
        -0.7011833515953694,
    ],
    cos=[
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
)


def constants(word):
    """Return the `Format` of a word's width, selected when the caller is compiled."""
    return FLOAT32 if word.dtype == np.uint32 else FLOAT64


@overload(constants)
def _constants(word):
    narrow = word.bitwidth == 32
    return (lambda word: FLOAT32) if narrow else (lambda word: FLOAT64)


@register_jitable(forceinline=True)
def clamp(value, low, high):
    """Return the value, or the bound that it passed: a value in [low, high]."""
    value = select(value > low, value, low)
    return select(value < high, value, high)


@register_jitable(forceinline=True)
def top_bits(word):
    """Return the top 24 (of a uint64: 53) bits of a word as a float, exact."""
    return real(signed(lshr(word, constants(word).dropped)))


@register_jitable(forceinline=True)
def minus_two_log(word):
    """Return -2 ln u for u = (word + 1/2) 2**-32 (of a uint64: 2**-64), every bit of the word alive at both ends.

    The square of Box and Muller's radius, in [2**-32, 45.8] (float64: [2**-64, 90.2]). As a signed integer, the word is
    u for its lower half and u - 1 for its upper half: near one it is the distance from one that is precise, and that is
    all the logarithm needs there. Below, u = 2**e (1 + f) with f in [-1/2, 0]. All terms have one sign: none cancels.
    """
    c = constants(word)
    fraction = fma(real(signed(word)), c.ulp, c.half_ulp)
    upper = fraction < c.zero
    pattern = bits(select(upper, c.half, fraction))
    exponent = ashr(sub(pattern, c.half_bits), c.mantissa)
    reduced = from_bits(sub(pattern, shl(exponent, c.mantissa))) - c.one
    f = select(upper, fraction, reduced)
    return fma(real(exponent), c.minus_two_ln2, fma(f * f, horner(f, c.log), f * c.minus_two))


@register_jitable(forceinline=True)
def cosine_sine(word):
    """Return cos and sin of 2 pi (word + 1/2) 2**-32 (of a uint64: 2**-64).

    The polynomials see the distance from the nearest quarter turn, at most an eighth; the number of quarter turns, in
    the two top bits once an eighth is added, swaps the two and sets their signs.
    """
    c = constants(word)
    x = fma(real(signed(shl(word, 2))), c.angle, c.half_angle)
    square = x * x
    cosine, sine = horner(square, c.cos), x * horner(square, c.sin)
    turned = add(word, c.eighth_turn)
    odd = and_(turned, c.quarter_turn) != 0
    sign = and_(turned, c.sign)
    next_sign = and_(add(turned, c.quarter_turn), c.sign)
    first, second = select(odd, sine, cosine), select(odd, cosine, sine)
    return from_bits(xor(bits(first), signed(next_sign))), from_bits(xor(bits(second), signed(sign)))


class UniformTransform(NamedTuple):
    """k scale + offset for the top bits k of a word, held in [low, high]."""

    scale: Any
    offset: Any
    low: Any
    high: Any


@register_jitable(forceinline=True)
def uniform_pair(transform, a, b):
    """Return the uniform of each word: one fused multiply-add."""
    first = fma(top_bits(a), transform.scale, transform.offset)
    second = fma(top_bits(b), transform.scale, transform.offset)
    return clamp(first, transform.low, transform.high), clamp(second, transform.low, transform.high)


class NormalTransform(NamedTuple):
    """A normal by mean and standard deviation."""

    mean: Any
    std: Any


@register_jitable(forceinline=True)
def normal_pair(transform, a, b):
    """Return two independent normals, Box and Muller (1958): radius from the first word, angle from the second.

    Not a ziggurat, whose rejections would make a value depend on its neighbours; not the inverse of the distribution
    function, which loses the tail that a word's 32 bits still hold.
    """
    radius = square_root(minus_two_log(a)) * transform.std
    cosine, sine = cosine_sine(b)
    return fma(radius, cosine, transform.mean), fma(radius, sine, transform.mean)


class TruncatedTransform(NamedTuple):
    """A normal that is drawn again until it falls in [lower, upper]."""

    mean: Any
    std: Any
    lower: Any
    upper: Any


@register_jitable(forceinline=True)
def _inside(value, transform):
    return (value >= transform.lower) & (value <= transform.upper)


@register_jitable(forceinline=True)
def propose_normal(transform, a, b):
    """Return the first of the pair's two normals that is inside."""
    first, second = normal_pair(transform, a, b)
    good = _inside(first, transform)
    return select(good, first, second), good | _inside(second, transform)


class NarrowTransform(NamedTuple):
    """A truncated normal by uniform proposals t = k step + start, worth origin + t slope.

    t is in units of sigma, from the mean where the interval holds it (bend = 0), else from the bound that is nearest to
    it, at distance bend / 2 from the mean. A proposal survives with probability exp(-t (t + bend) / 2).
    """

    step: Any
    start: Any
    bend: Any
    slope: Any
    origin: Any
    lower: Any
    upper: Any


@register_jitable(forceinline=True)
def propose_uniform(transform, a, b):
    """Return a proposal from the first word; the second, as an exponential of mean 2, decides."""
    t = fma(top_bits(a), transform.step, transform.start)
    value = clamp(fma(t, transform.slope, transform.origin), transform.lower, transform.upper)
    return value, t * (t + transform.bend) <= minus_two_log(b)


class TailTransform(NamedTuple):
    """A truncated normal by exponential proposals t of mean 2 half_mean beyond the bound ``origin``.

    Robert (1995), Simulation of truncated normal variables: at a bound of alpha sigma the best rate is
    r = (alpha + sqrt(alpha**2 + 4)) / 2, and a proposal survives with probability exp(-(t - gap)**2 / 2), gap = r -
    alpha, if it falls within the interval's ``width``. ``slope`` is sigma, negative below the mean.
    """

    half_mean: Any
    gap: Any
    width: Any
    slope: Any
    origin: Any
    lower: Any
    upper: Any


@register_jitable(forceinline=True)
def propose_exponential(transform, a, b):
    """Return a proposal from the first word; the second, as an exponential of mean 2, decides."""
    t = minus_two_log(a) * transform.half_mean
    value = clamp(fma(t, transform.slope, transform.origin), transform.lower, transform.upper)
    miss = t - transform.gap
    return value, (t <= transform.width) & (miss * miss <= minus_two_log(b))


class WordsTransform(NamedTuple):
    """The words themselves, as the bits of floats: for `fastinit.words`."""

    width: Any  # of no use but its type


@register_jitable(forceinline=True)
def words_pair(transform, a, b):
    """Return the bits of each word."""
    return from_bits(signed(a)), from_bits(signed(b))


class Transform(NamedTuple):
    """A row of the registry: the class of a transform's parameters, and the functions that compute with them."""

    parameters: Any  # a named tuple's class
    pair: Callable[..., Any] | None = None  # of attempt 0; None where that is skipped
    first_attempt: int = 0  # of the proposals
    propose: Callable[..., Any] | None = None  # None where nothing is rejected
    bounded: bool = True  # rounded values are clamped to the distribution's support
    clamps: bool = False  # the function of pairs does so: no value is rounded past a bound that the dtype has
    grain: float = 1.0  # times the smallest parameter but zeros, as float32: all values of pairs are multiples of it


# The registry. Every kind of proposal has its own attempts, so that distributions that differ in kind share no word; no
# kind's acceptance is below 1/4, so that none ever uses up its attempts.
TRANSFORMS: dict[str, Transform] = {
    "words": Transform(WordsTransform, words_pair),
    "uniform": Transform(UniformTransform, uniform_pair, clamps=True, grain=2.0**-24),
    "normal": Transform(NormalTransform, normal_pair, bounded=False, grain=2.0**-98),
    "truncated": Transform(TruncatedTransform, normal_pair, 1, propose_normal),
    "narrow": Transform(NarrowTransform, None, 2048, propose_uniform),
    "tail": Transform(TailTransform, None, 3072, propose_exponential),
}
ROWS = {row.parameters: row for row in TRANSFORMS.values()}  # by the class, by which kernels look them up
