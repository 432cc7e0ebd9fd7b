"""Defects that `bench.power` and the tests plant into right normal arrays, each of any size."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import fastinit as fi

Array = np.ndarray[Any, Any]
F = np.float32


class Defect(NamedTuple):
    """A defect: what is done to an array for a size, the largest size, and what the size is."""

    plant: Callable[[Array, float], Array]
    largest: float = 0.0
    unit: str = ""
    most_side: int = 1 << 30  # of an array that it is planted into in reasonable time


def _noise(x: Array, number: int = 1) -> Array:
    return fi.array(x.shape, fi.normal(), seed=number, name="noise")


def _blend(x: Array, other: Array, r: float) -> Array:
    """Return x with a correlation r with another."""
    return np.asarray(F(math.sqrt(1 - r * r)) * x + F(r) * other, F)


def _by_row(x: Array, factors: Array) -> Array:
    return np.asarray(x * factors.astype(F)[:, None])


def _ramp(x: Array) -> Array:
    return np.linspace(-1, 1, len(x))


def _lag(lag: int) -> Callable[[Array, float], Array]:
    def plant(x: Array, r: float) -> Array:
        flat = x.ravel()
        return _blend(flat[lag:], flat[:-lag], r)[: x.size // 2 // x.shape[1] * x.shape[1]].reshape(-1, x.shape[1])

    return plant


def _rows_equal(sign: float) -> Callable[[Array, float], Array]:
    def plant(x: Array, r: float) -> Array:
        y = x.copy()
        y[len(x) // 3] = sign * _blend(x[len(x) // 3], x[len(x) // 7], r)
        return y

    return plant


def _columns_equal(x: Array, r: float) -> Array:
    return _rows_equal(1.0)(np.ascontiguousarray(x.T), r).T.copy()


def _copy(x: Array, rows: float, reverse: bool = False) -> Array:
    y, count = x.copy(), max(round(rows), 1)
    begin = len(x) // 2
    y[begin : begin + count] = -x[:count, ::-1] if reverse else x[:count]
    return y


def _block(x: Array, side: float, turn: bool = False) -> Array:
    y, count = x.copy(), max(round(side), 2)
    y[-count:, -count:] = x[:count, :count].T if turn else x[:count, :count]
    return y


def _rank(x: Array, rank: float) -> Array:
    generator, r = np.random.default_rng(0), max(round(rank), 1)
    left, right = generator.standard_normal((len(x), r), F), generator.standard_normal((r, x.shape[1]), F)
    product = left @ right
    return np.asarray(product / F(math.sqrt(r)), F)


def _spike(x: Array, strength: float) -> Array:
    generator = np.random.default_rng(0)
    u, v = (generator.standard_normal(size).astype(F) for size in x.shape)
    return _blend(x, np.outer(u, v), strength)


def _some(x: Array, share: float) -> Array:
    return np.asarray(np.random.default_rng(3).random(x.size, F).reshape(x.shape) < share)


def _put(x: Array, share: float, value: float) -> Array:
    return np.asarray(np.where(_some(x, share), F(value), x))


def _halves(x: Array, r: float, sense: int = 1) -> Array:
    y, half = x.copy(), len(x) // 2
    y[-half:] = _blend(x[-half:], x[:half][::sense], r)
    return y


def _unit_rows(x: Array, _: float) -> Array:
    return np.asarray(x / np.sqrt((x.astype(float) ** 2).mean(1, keepdims=True)), F)


def _standardised(x: Array, _: float) -> Array:
    return np.asarray((x - x.mean(dtype=float)) / x.std(dtype=float), F)


def _strata(x: Array, _: float) -> Array:
    from scipy.special import ndtri

    generator = np.random.default_rng(2)
    ranks = (generator.permutation(x.size) + generator.random(x.size)) / x.size
    return np.asarray(ndtri(ranks), F).reshape(x.shape)


def _orthogonal(x: Array, _: float) -> Array:
    return np.asarray(np.linalg.qr(x)[0] * math.sqrt(len(x)), F)


def _heads(x: Array, amount: float) -> Array:
    heads = np.repeat(np.random.default_rng(4).standard_normal(len(x) // 64), 64)
    return _by_row(x, 1 + amount * heads)


def _bits(x: Array, bits: int) -> Array:
    return np.asarray((x.view(np.uint32) >> bits << bits).view(F))


def _sorted(x: Array, rows: float) -> Array:
    y, count = x.copy(), max(round(rows), 1)
    y[:count] = np.sort(y[:count], axis=1)
    return y


def _mixture(x: Array, amount: float) -> Array:
    return np.asarray(x * np.where(_some(x, 0.5), F(1 + amount), F(1 - amount)))


def _board(x: Array, amount: float) -> Array:
    i, j = np.ogrid[: x.shape[0], : x.shape[1]]
    return np.asarray(x * (1 + F(amount) * (1 - 2 * ((i + j) % 2))).astype(F))


def _patches(x: Array, amount: float) -> Array:
    i, j = np.ogrid[: x.shape[0], : x.shape[1]]
    return np.asarray(x * (1 + F(amount) * (1 - 2 * ((i // 128 + j // 128) % 2))).astype(F))


def _period(period: int) -> Callable[[Array, float], Array]:
    def plant(x: Array, amount: float) -> Array:
        mask = np.arange(x.size) % period == 0
        return np.asarray(x.ravel() * np.where(mask, F(1 + amount), F(1))).reshape(x.shape)

    return plant


def _tiled(period: int) -> Callable[[Array, float], Array]:
    return lambda x, _: np.resize(x.ravel()[:period], x.size).reshape(x.shape)


def _interpolated(x: Array, share: float) -> Array:
    y = x.ravel().copy()
    some = np.flatnonzero(_some(x, share).ravel()[1:-1]) + 1
    y[some] = (y[some - 1] + y[some + 1]) / F(math.sqrt(2))
    return y.reshape(x.shape)


def _antithetic(x: Array, _: float) -> Array:
    y = x.ravel().copy()
    y[x.size // 2 :] = -y[: x.size // 2]
    return y.reshape(x.shape)


def _fused(x: Array, amount: float) -> Array:
    y = x.copy()
    y[len(x) // 3 : 2 * len(x) // 3] *= F(1 + amount)
    return y


def _one(x: Array, sigmas: float) -> Array:
    y = x.copy()
    y[5, 7] = F(sigmas)
    return y


def _quantised(x: Array, levels: float) -> Array:
    step = F(16 / levels)
    return np.asarray(np.rint(x / step) * step)


def _one_row(x: Array, amount: float) -> Array:
    y = x.copy()
    y[77] *= F(1 + amount)
    return y


def _diagonal(x: Array, amount: float) -> Array:
    return np.asarray(x + F(amount) * np.eye(*x.shape, dtype=F))


def _neighbours(x: Array, r: float) -> Array:
    y = x.copy()
    y[1:, 1:] = _blend(x[1:, 1:], x[:-1, :-1], r)
    return y


def _leverage(x: Array, r: float) -> Array:
    g = x.ravel()
    before = (abs(np.roll(g, 1)) - F(math.sqrt(2 / math.pi))) / F(math.sqrt(1 - 2 / math.pi))
    return _blend(g, before, r).reshape(x.shape)


def _congruential(x: Array, multiplier: int, modulus: int) -> Array:
    from scipy.special import ndtri

    runs = np.array([pow(multiplier, k, modulus) for k in range(1, 2049)], np.uint64)
    jumps = [pow(multiplier, 2048 * k, modulus) for k in range(-(-x.size // 2048))]
    numbers = np.concatenate([runs * np.uint64(jump) % np.uint64(modulus) for jump in jumps])[: x.size]
    return np.asarray(ndtri((numbers + 0.5) / modulus), F).reshape(x.shape)


def _centred(x: Array, part: float) -> Array:
    return np.asarray(x - F(part) * x.mean(1, keepdims=True))


DEFECTS: dict[str, Defect] = {
    "std of all": Defect(lambda x, s: x * F(1 + s), 0.1, "relative"),
    "mean of all": Defect(lambda x, s: x + F(s), 0.1, "std"),
    "mean falls along the rows": Defect(lambda x, s: x + (F(s) * _ramp(x).astype(F))[:, None], 0.5, "std, half"),
    "mean differs by column": Defect(
        lambda x, s: x + F(s) * np.random.default_rng(1).standard_normal(x.shape[1], F), 0.5, "std"
    ),
    "std falls along the rows": Defect(lambda x, s: _by_row(x, 1 + s * _ramp(x)), 0.5, "relative, half"),
    "std differs by row": Defect(
        lambda x, s: _by_row(x, 1 + s * np.random.default_rng(1).standard_normal(len(x))), 0.5, "relative"
    ),
    "std differs by head of 64 rows": Defect(_heads, 0.5, "relative"),
    "one third of the rows scaled": Defect(_fused, 0.5, "relative"),
    "one row scaled": Defect(_one_row, 1.0, "relative"),
    "rows centred": Defect(_centred, 1.0, "part of the mean"),
    "rows of unit norm": Defect(_unit_rows),
    "whole array standardised": Defect(_standardised),
    "stratified draws": Defect(_strata),
    "orthogonal matrix": Defect(_orthogonal, most_side=2048),
    "low rank": Defect(_rank, 4.0, "rank", most_side=2048),
    "a rank-one part": Defect(_spike, 0.5, "share of std"),
    "lag 1": Defect(_lag(1), 0.5, "correlation"),
    "lag 5": Defect(_lag(5), 0.5, "correlation"),
    "lag 100": Defect(_lag(100), 0.5, "correlation"),
    "lag 12345": Defect(_lag(12345), 0.5, "correlation"),
    "neighbours on the diagonal": Defect(_neighbours, 0.5, "correlation"),
    "mean follows the magnitude before": Defect(_leverage, 0.5, "correlation"),
    "RANDU": Defect(lambda x, _: _congruential(x, 65539, 2**31)),
    "MINSTD": Defect(lambda x, _: _congruential(x, 16807, 2**31 - 1)),
    "second half is minus the first": Defect(_antithetic),
    "two rows": Defect(_rows_equal(1.0), 1.0, "correlation"),
    "two rows, negated and scaled": Defect(_rows_equal(-0.999), 1.0, "correlation"),
    "two columns": Defect(_columns_equal, 1.0, "correlation"),
    "each row and the one half the array on": Defect(_halves, 1.0, "correlation"),
    "each row and its mirror image": Defect(lambda x, r: _halves(x, r, -1), 1.0, "correlation"),
    "rows copied": Defect(_copy, 512.0, "rows"),
    "rows copied, reversed and negated": Defect(lambda x, s: _copy(x, s, reverse=True), 512.0, "rows"),
    "a square block copied": Defect(_block, 512.0, "side"),
    "a square block copied, transposed": Defect(lambda x, s: _block(x, s, turn=True), 1024.0, "side"),
    "half of it, signs flipped at random": Defect(
        lambda x, _: np.concatenate([x[: len(x) // 2], np.where(_some(x, 0.5), -x, x)[: len(x) // 2]])
    ),
    "half of it, last 8 bits XORed": Defect(
        lambda x, _: np.concatenate([x[: len(x) // 2], (x[: len(x) // 2].view(np.uint32) ^ np.uint32(0xA5)).view(F)])
    ),
    "repeated every 100 elements": Defect(_tiled(100)),
    "repeated every 999983 elements": Defect(_tiled(999_983)),
    "every 2nd element scaled": Defect(_period(2), 0.5, "relative"),
    "every 7th element scaled": Defect(_period(7), 0.5, "relative"),
    "every 1000th element scaled": Defect(_period(1000), 1.0, "relative"),
    "checkerboard of stds": Defect(_board, 0.5, "relative"),
    "squares of 128, stds": Defect(_patches, 0.5, "relative"),
    "mixture of two stds": Defect(_mixture, 0.5, "relative"),
    "interpolated neighbours": Defect(_interpolated, 0.5, "share"),
    "sorted rows": Defect(_sorted, 512.0, "rows"),
    "exact zeros": Defect(lambda x, s: _put(x, s, 0.0), 0.5, "share"),
    "exact ones": Defect(lambda x, s: _put(x, s, 1.0), 0.5, "share"),
    "NaN": Defect(lambda x, s: _put(x, s, math.nan), 0.5, "share"),
    "clipped at 3": Defect(lambda x, _: np.clip(x, -3, 3)),
    "clipped at 4": Defect(lambda x, _: np.clip(x, -4, 4)),
    "clipped at 4.5": Defect(lambda x, _: np.clip(x, F(-4.5), F(4.5))),
    "one element of 7 std": Defect(lambda x, _: _one(x, 7.0)),
    "one element of 8 std": Defect(lambda x, _: _one(x, 8.0)),
    "quantised to 2^10 levels": Defect(lambda x, _: _quantised(x, 2.0**10)),
    "quantised to 2^16 levels": Defect(lambda x, _: _quantised(x, 2.0**16)),
    "last bit zero": Defect(lambda x, _: _bits(x, 1)),
    "last 8 bits zero": Defect(lambda x, _: _bits(x, 8)),
    "rounded to bfloat16": Defect(lambda x, _: _bits(x, 16)),
    "added to the diagonal": Defect(_diagonal, 4.0, "std"),
    "blended with its transpose": Defect(lambda x, s: _blend(x, x.T, s), 0.9, "correlation"),
    "uniform of this std": Defect(
        lambda x, _: fi.array(x.shape, fi.uniform(-math.sqrt(3), math.sqrt(3)), seed=1, name="u")
    ),
    "noise added": Defect(lambda x, s: x + F(s) * _noise(x), 0.5, "std"),
}
