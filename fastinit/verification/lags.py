"""Correlations at all lags, periods at all frequencies: spectra of scores and of their magnitudes, block by block."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fastinit.core.arrays import Floats
from fastinit.verification import pvalues
from fastinit.verification.evidence import Evidence
from fastinit.verification.null_distribution import Null

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 1 << 14  # elements of a block, of which a slab has some: lags up to half of it are seen
SMALL = 1 << 16  # elements of an array that is one block
SAMPLES = 1 << 20, 1 << 25  # elements that are looked at, about, on the levels "fast" and "full"
LEAST = 1 << 10  # elements for the test: a sum of as many products is normal enough
UNIT, MOST = 2.0**-26, 2.0**18  # of the power of a block, whose sums are whole numbers of units
KINDS = ("lags", "lags of magnitudes")


class Spectra:
    """Sums of the squared magnitudes of discrete Fourier transforms, divided by the length: of scores and of their |g|.

    The inverse transform of the squares are the circular correlations at all lags. That at a lag k has the pairs of
    lags k and n - k of a block of n: n pairs, so that the variance of their mean is 1 / n under the null hypothesis.
    """

    def __init__(self, size: int, null: Null, full: bool) -> None:
        self.length = 0 if size < LEAST else size if size <= SMALL else BLOCK
        self.shape = (3, self.length // 2 + 1)  # the last has the number of blocks
        self.null = null
        self.every = -(-size // SAMPLES[full])
        self.power: Floats = np.zeros(self.shape)

    def wanted(self, place: int) -> bool:
        """Test whether the slab that begins at a place is one of the sample."""
        return bool(self.length) and (place // (8 * BLOCK)) % self.every == 0

    def of(self, scores: NDArray[np.float32]) -> Floats:
        """Return the sums of the blocks of a run of scores."""
        from scipy.fft import rfft

        found = np.zeros(self.shape)
        blocks = scores[: scores.size // self.length * self.length].reshape(-1, self.length)
        found[2] = len(blocks)
        mean, std = (np.float32(number) for number in self.null.magnitude[:2])
        for kind in range(2 if std else 1):
            transformed = rfft((abs(blocks) - mean) / std if kind else blocks)  # several at once: in lanes
            parts = transformed.view(np.float32)  # real and imaginary ones in turn
            squares = np.square(parts, out=parts).sum(axis=0)
            found[kind] = (squares[::2] + squares[1::2]) / self.length
        return np.minimum(found, MOST)

    def with_power(self, power: Floats) -> Spectra:
        """Return these, with the sums of all blocks."""
        self.power = power
        return self

    @property
    def blocks(self) -> int:
        """Return the number of blocks."""
        return round(float(self.power[2, 0])) if self.length else 0

    @property
    def error(self) -> float:
        """Return the standard error of a correlation."""
        return 1 / math.sqrt(max(self.length * self.blocks, 1))

    def correlations(self, kind: int) -> Floats:
        """Return the mean products at the lags from 0 on."""
        if not self.blocks:
            return np.zeros(0)
        found: Floats = np.fft.irfft(self.power[kind], self.length)[: self.length // 2 + 1]
        return found / self.blocks


def test_lags(spectra: Spectra, evidence: Evidence) -> None:
    """Test the largest correlation of all lags, and the largest and smallest power of all frequencies."""
    null = spectra.null
    for kind, name in enumerate(KINDS):
        period = name.replace("lags", "periods")
        if not spectra.blocks:
            for one in (name, period):
                evidence.skip(one, f"needs {LEAST} elements")
            continue
        if null.mass.max() > 0.25 or not null.magnitude[1]:
            for one in (name, period):
                evidence.skip(one, "the distribution has too few values")
            continue
        r = spectra.correlations(kind)[1:]
        pairs = np.full(len(r), float(spectra.length * spectra.blocks))
        pairs[-1] /= 1 if spectra.length % 2 else 2  # half of the length is its own mirror
        z = r * np.sqrt(pairs)
        skewness = 0.0 if kind == 0 else float(null.magnitude[2] ** 2)
        at = int(abs(z).argmax())
        pvalue = len(z) * pvalues.two_sided(float(z[at]), skewness / math.sqrt(pairs[at]))
        what = "magnitudes" if kind else "elements"
        evidence.add(name, float(z[at]), pvalue, f"{what} {at + 1} apart have a correlation of {r[at]:.3g}")
        power = spectra.power[kind, 1 : (spectra.length - 1) // 2 + 1]
        evidence.add(period, *_extreme_power(power, spectra, what))


def _extreme_power(power: Floats, spectra: Spectra, what: str) -> tuple[float, float, str]:
    """Return the test of the power that is farthest out: the sum of a block's is a gamma number, one of each block."""
    from scipy.special import gammainc, gammaincc

    low, high = int(power.argmin()), int(power.argmax())
    least, most = gammainc(spectra.blocks, power[low] + spectra.blocks * UNIT), gammaincc(spectra.blocks, power[high])
    at, pvalue = (low, least) if least < most else (high, most)
    sense = "varies" if at == high else "hardly varies"
    detail = f"the mean of {what} {sense} with a period of {spectra.length / (at + 1):.4g} elements"
    return float(power[at] / spectra.blocks), float(min(1.0, 2 * len(power) * pvalue)), detail
