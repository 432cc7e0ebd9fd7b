"""The value contract in plain Python: every bit of docs/vectors.json, from exact fractions and explicit roundings.

This file was written from docs/value-contract.md and imports nothing of fastinit. It is slow, and meant to be read
beside the specification or translated. ``python examples/contract.py`` checks it against the test vectors.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).resolve().parent.parent / "docs" / "vectors.json"


# 1. Formats and rounding


@dataclass(frozen=True)
class Format:
    """A binary floating-point format: digits of the significand, and the exponents of its ends."""

    digits: int
    least: int  # every value is a multiple of 2**least
    most: int  # every finite value is below 2**most
    bits: int

    def quantum(self, exact: Fraction) -> Fraction:
        """Return the distance of the format's values around a number."""
        size = abs(exact)
        exponent = size.numerator.bit_length() - size.denominator.bit_length() if size else self.least
        if size < Fraction(2) ** exponent:
            exponent -= 1
        return Fraction(2) ** max(exponent - self.digits + 1, self.least)

    def round(self, x: Fraction | float) -> float:
        """Round once, to nearest, ties to even."""
        if isinstance(x, float) and math.isinf(x):
            return x
        exact = Fraction(x)
        if exact == 0:
            return 0.0
        quantum = self.quantum(exact)
        value = round(abs(exact) / quantum) * quantum
        return math.copysign(math.inf if value >= 2**self.most else float(value), exact)

    def encode(self, value: float) -> str:
        """Return the bit pattern as hexadecimal digits."""
        sign = 1 << (self.bits - 1) if math.copysign(1.0, value) < 0 else 0
        size = Fraction(abs(value))
        stored = self.digits - 1
        bias = self.most - 1
        exponent = max(math.frexp(abs(value))[1] - 1, 1 - bias)
        significand = int(size / Fraction(2) ** (exponent - stored))
        pattern = significand if significand < 1 << stored else significand + ((exponent + bias - 1) << stored)
        return f"{sign | pattern:0{self.bits // 4}x}"

    def inside(self, low: float, high: float) -> tuple[float, float]:
        """Return the smallest and the largest value of the format in [low, high]."""
        ends = [
            bound if math.isinf(bound) else float(toward(Fraction(bound) / unit) * unit)
            for bound, toward in ((low, math.ceil), (high, math.floor))
            for unit in [Fraction(1) if math.isinf(bound) else self.quantum(Fraction(bound))]
        ]
        return ends[0], ends[1]


FORMATS = {
    "float16": Format(digits=11, least=-24, most=16, bits=16),
    "bfloat16": Format(digits=8, least=-133, most=128, bits=16),
    "float32": Format(digits=24, least=-149, most=128, bits=32),
    "float64": Format(digits=53, least=-1074, most=1024, bits=64),
}


# 2. Words


def philox(counter: list[int], key: tuple[int, int]) -> list[int]:
    """Return the four words of a block: Philox4x32-10."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        first, second = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (second >> 32) ^ c1 ^ k0, second % 2**32, (first >> 32) ^ c3 ^ k1, first % 2**32
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return [c0, c1, c2, c3]


@dataclass(frozen=True)
class Stream:
    """The words of one tensor."""

    seed: int
    name: str | int

    def block(self, block: int, attempt: int = 0) -> list[int]:
        """Return the four words of a block at an attempt."""
        number = self.name
        if isinstance(number, str):
            number = int.from_bytes(hashlib.blake2b(number.encode(), digest_size=8).digest(), "little")
        counter = [block % 2**32, attempt << 20 | block >> 32, number % 2**32, number >> 32]
        return philox(counter, (self.seed % 2**32, self.seed >> 32))

    def pairs(self, block: int, attempt: int, width: int) -> list[tuple[int, int]]:
        """Return a block as pairs of words: two pairs of 32 bits, or one of 64."""
        w = self.block(block, attempt)
        if width == 32:
            return [(w[0], w[1]), (w[2], w[3])]
        return [(w[0] | w[1] << 32, w[2] | w[3] << 32)]

    def own(self, index: int, width: int) -> tuple[tuple[int, int], int]:
        """Return the pair of words that an element shares with its neighbour, and its place in it."""
        block, place = divmod(index, 128 // width)
        return self.pairs(block, 0, width)[place // 2], place % 2


# 3. Arithmetic in the precision of the computation


class Arithmetic:
    """float32 or float64: operations with one rounding each, and the functions made of them."""

    def __init__(self, name: str, table: dict[str, Any]) -> None:
        self.format = FORMATS[name]
        self.width = self.format.bits
        self.kept = self.format.digits
        self.log, self.sin, self.cos = ([self.round(x) for x in table[key]] for key in ("log", "sin", "cos"))
        self.scale = float(table["scale"])

    def round(self, x: Fraction | float) -> float:
        """Round to the precision."""
        return self.format.round(x)

    def fma(self, a: float, b: float, c: float) -> float:
        """Return a b + c, rounded once."""
        exact = Fraction(a) * Fraction(b) + Fraction(c)
        return self.round(exact)

    def times(self, a: float, b: float) -> float:
        """Return a b, rounded once."""
        return self.round(Fraction(a) * Fraction(b))

    def plus(self, a: float, b: float) -> float:
        """Return a + b, rounded once."""
        return self.round(Fraction(a) + Fraction(b))

    def root(self, x: float) -> float:
        """Return the nearest value to the square root."""
        return self.round(math.sqrt(x))  # of a float32, float64's root rounds to the same

    def horner(self, x: float, coefficients: list[float]) -> float:
        """Return the sum of coefficients[k] x**k, one fused multiply-add a term."""
        value = coefficients[-1]
        for c in reversed(coefficients[:-1]):
            value = self.fma(value, x, c)
        return value

    def signed(self, word: int) -> float:
        """Return the word as a two's-complement integer, rounded to the precision."""
        word %= 2**self.width
        return self.round(Fraction(word - 2**self.width if word >> (self.width - 1) else word))

    def top_bits(self, word: int) -> float:
        """Return the leading bits of a word as an integer: 24 of 32, or 53 of 64."""
        return float(word >> (self.width - self.kept))

    def minus_two_log(self, word: int) -> float:
        """Return -2 ln((word + 1/2) / 2**width)."""
        u = self.fma(self.signed(word), 2.0**-self.width, 2.0 ** -(self.width + 1))
        if u < 0:
            exponent, f = 0, u
        else:
            significand, exponent = math.frexp(u)  # the significand in [1/2, 1)
            f = significand - 1.0
        inner = self.fma(self.times(f, f), self.horner(f, self.log), -2.0 * f)
        return self.fma(float(exponent), self.round(-1.3862943611198906), inner)

    def cosine_sine(self, word: int) -> tuple[float, float]:
        """Return cosine and sine of (word + 1/2) / 2**width turns."""
        w = self.width
        x = self.fma(
            self.signed(word << 2), self.round(2.0 ** -(w + 2) * self.scale), self.round(2.0 ** -(w + 1) * self.scale)
        )
        square = self.times(x, x)
        cosine, sine = self.horner(square, self.cos), self.times(x, self.horner(square, self.sin))
        quarter = (word + (1 << (w - 3)) & (1 << w) - 1) >> (w - 2)
        turned: list[tuple[float, float]] = [(cosine, sine), (-sine, cosine), (-cosine, -sine), (sine, -cosine)]
        return turned[quarter]

    def normals(self, pair: tuple[int, int], mean: float, std: float) -> tuple[float, float]:
        """Return the two normals of a pair of words."""
        radius = self.times(self.root(self.minus_two_log(pair[0])), self.round(std))
        cosine, sine = self.cosine_sine(pair[1])
        return self.fma(radius, cosine, self.round(mean)), self.fma(radius, sine, self.round(mean))


# 4. Distributions


def uniform(real: Arithmetic, stream: Stream, index: int, low: float, high: float) -> float:
    """Return an element of Uniform(low, high), before it is clamped."""
    pair, which = stream.own(index, real.width)
    step = (high - low) * 2.0**-real.kept
    return real.fma(real.top_bits(pair[which]), real.round(step), real.round(low + step / 2))


def normal(real: Arithmetic, stream: Stream, index: int, mean: float, std: float) -> float:
    """Return an element of Normal(mean, std)."""
    pair, which = stream.own(index, real.width)
    return real.normals(pair, mean, std)[which]


def probability(a: float, b: float) -> float:
    """Return the probability of [a, b] under a standard normal."""
    return (math.erf(b / math.sqrt(2)) - math.erf(a / math.sqrt(2))) / 2


def proposal_of(a: float, b: float) -> str:
    """Return the proposal for an interval in sigmas."""
    if probability(a, b) >= 1 / 4:
        return "normal"
    alpha = max(a, -b)
    if alpha <= 0:
        return "uniform"
    rate = (alpha + math.sqrt(alpha * alpha + 4)) / 2
    exponential = rate * math.exp(-(rate - alpha) * (rate - alpha) / 2)
    return "uniform" if 1 / (b - a) >= exponential else "exponential"


def candidates(
    real: Arithmetic, stream: Stream, index: int, mean: float, std: float, lower: float, upper: float
) -> Iterator[tuple[float, bool]]:
    """Yield an element's proposals in order: the value, and whether it is accepted."""
    low, high = real.format.inside(lower, upper)
    a, b = (lower - mean) / std, (upper - mean) / std
    kind = proposal_of(a, b)
    if kind == "normal":
        first = normal(real, stream, index, mean, std)
        yield first, low <= first <= high
        for attempt in range(1, 2048):
            for pair in stream.pairs(index, attempt, real.width):
                for value in real.normals(pair, mean, std):
                    yield value, low <= value <= high
    alpha = max(a, -b, 0.0)
    slope = real.round(-std if b < 0 else std)
    origin = real.round(mean if alpha == 0 else upper if b < 0 else lower)
    for attempt in range(2048, 3072) if kind == "uniform" else range(3072, 4096):
        for first_word, second_word in stream.pairs(index, attempt, real.width):
            limit = real.minus_two_log(second_word)
            if kind == "uniform":
                step = (b - a) * 2.0**-real.kept
                start = (0.0 if alpha > 0 else a) + step / 2
                t = real.fma(real.top_bits(first_word), real.round(step), real.round(start))
                accepted = real.times(t, real.plus(t, real.round(2 * alpha))) <= limit
            else:
                rate = (alpha + math.sqrt(alpha * alpha + 4)) / 2
                t = real.times(real.minus_two_log(first_word), real.round(0.5 / rate))
                miss = real.plus(t, -real.round(rate - alpha))
                accepted = t <= real.round(b - a) and real.times(miss, miss) <= limit
            yield min(max(real.fma(t, slope, origin), low), high), accepted


def element(real: Arithmetic, stream: Stream, index: int, distribution: dict[str, Any]) -> tuple[float, float, float]:
    """Return an element in the precision of the computation, and the ends of its support."""
    p = {key: float(value) for key, value in distribution.items() if key != "kind"}
    match distribution["kind"]:
        case "uniform":
            low, high = real.format.inside(p["low"], p["high"])
            return min(max(uniform(real, stream, index, **p), low), high), p["low"], p["high"]
        case "normal":
            return normal(real, stream, index, **p), -math.inf, math.inf
        case "truncated_normal":
            value = next(value for value, accepted in candidates(real, stream, index, **p) if accepted)
            return value, p["lower"], p["upper"]
    raise ValueError(distribution["kind"])


def bits(real: Arithmetic, stream: Stream, index: int, distribution: dict[str, Any], dtype: str) -> str:
    """Return an element's bit pattern in a dtype."""
    value, lower, upper = element(real, stream, index, distribution)
    target = FORMATS[dtype]
    if dtype in ("float16", "bfloat16"):
        low, high = target.inside(lower, upper)
        value = min(max(target.round(value), low), high)
    return target.encode(value)


def sparse_zeros(stream: Stream, rows: int, columns: int, zeros: int) -> list[list[int]]:
    """Return the rows that are zero in each column of a (rows, columns) sparse tensor."""

    def key(row: int, column: int) -> int:
        index = row * columns + column
        return stream.block(index // 4, 1)[index % 4]

    return [sorted(sorted(range(rows), key=lambda row: (key(row, c), row))[:zeros]) for c in range(columns)]


def main() -> None:
    """Compare all of the test vectors."""
    vectors = json.loads(VECTORS.read_text())
    compared = 0
    for case in vectors["words"]:
        stream = Stream(case["seed"], case["name"])
        found = [f"{stream.block(n // 4)[n % 4]:08x}" for n in range(case["start"], case["start"] + len(case["bits"]))]
        assert found == case["bits"], case
        compared += len(found)
    for case in vectors["values"]:
        precision = "float64" if case["dtype"] == "float64" else "float32"
        real = Arithmetic(precision, vectors["polynomials"][precision])
        stream = Stream(case["seed"], case["name"])
        indices = range(case["start"], case["start"] + len(case["bits"]))
        found = [bits(real, stream, index, case["distribution"], case["dtype"]) for index in indices]
        assert found == case["bits"], (case, found)
        compared += len(found)
    for case in vectors["sparse"]:
        rows, columns = case["shape"]
        assert sparse_zeros(Stream(case["seed"], case["name"]), rows, columns, case["zeros"]) == case["zero_rows"], case
        compared += rows * columns
    print(f"{compared} vectors agree")


if __name__ == "__main__":
    main()
