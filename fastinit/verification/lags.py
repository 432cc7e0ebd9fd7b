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

BLOCK = 1 << 14  # elements of a block: lags up to half of it are seen
TOGETHER = 8 * BLOCK  # elements that are transformed at once
SMALL = 1 << 16  # elements of an array that is one block
SAMPLES = 1 << 20, 3 << 22  # elements that are looked at, about, on the levels "fast" and "full"
CROSSED = 1 << 18, 1 << 21  # of which scores are multiplied with magnitudes
LEAST = 1 << 10  # elements for the test: a sum of as many products is normal enough
UNIT, MOST = 2.0**-26, 2.0**18  # of the power of a block, whose sums are whole numbers of units
KINDS, CROSS = ("lags", "lags of magnitudes"), "lags of elements and magnitudes"


class Spectra:
    """Sums of the squared magnitudes of discrete Fourier transforms, divided by the length: of scores and of their |g|.

    The inverse transform of the squares are the circular correlations at all lags. That at a lag k has the pairs of
    lags k and n - k of a block of n: n pairs, so that the variance of their mean is 1 / n under the null hypothesis.
    Likewise the products of the transforms of scores and of |g|, whose real and imaginary parts are kept.
    """

    def __init__(self, size: int, null: Null, full: bool) -> None:
        self.length = 0 if size < LEAST else size if size <= SMALL else BLOCK
        self.shape = (6, self.length // 2 + 1)  # squares of both, products; the numbers of blocks of either
        self.null = null
        self.every, crossed = (-(-size // sample[full]) for sample in (SAMPLES, CROSSED))
        self.every_crossed = -(-crossed // self.every)  # of those that are wanted
        self.power: Floats = np.zeros(self.shape)

    def wanted(self, place: int) -> bool:
        """Test whether the run that begins at a place is one of the sample."""
        return bool(self.length) and (place // TOGETHER) % self.every == 0

    def of(self, scores: NDArray[np.float32], place: int) -> Floats:
        """Return the sums of the blocks of a run of scores, which begins at a place."""
        from scipy.fft import rfft

        found = np.zeros(self.shape)
        blocks = scores[: scores.size // self.length * self.length].reshape(-1, self.length)
        mean, std = (np.float32(number) for number in self.null.magnitude[:2])
        seen = [blocks, (abs(blocks) - mean) / std] if std else [blocks]
        spectra = [rfft(one) for one in seen]  # several blocks at once: in lanes
        if std and (place // TOGETHER // self.every) % self.every_crossed == 0:
            product = np.einsum("ij,ij->j", spectra[0], spectra[1].conj()) / self.length
            found[2:4], found[5] = (product.real, product.imag), len(blocks)
        for kind, spectrum in enumerate(spectra):
            parts = spectrum.view(np.float32)  # real and imaginary ones in turn
            squares = np.square(parts, out=parts).sum(axis=0)
            found[kind] = (squares[::2] + squares[1::2]) / self.length
        found[4] = len(blocks)
        return np.clip(found, -MOST, MOST)

    def with_power(self, power: Floats) -> Spectra:
        """Return these, with the sums of all blocks."""
        self.power = power
        return self

    @property
    def blocks(self) -> int:
        """Return the number of blocks."""
        return round(float(self.power[4, 0])) if self.length else 0

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

    def crossed(self) -> tuple[Floats, float]:
        """Return the correlations of scores with the magnitudes so many elements before, and their number of pairs."""
        blocks = float(self.power[5, 0])
        products: Floats = np.fft.irfft(self.power[2] + 1j * self.power[3], self.length)
        return products / blocks, blocks * self.length


def test_lags(spectra: Spectra, evidence: Evidence) -> None:
    """Test the largest correlation of all lags, and the largest and smallest power of all frequencies."""
    null = spectra.null
    reason = f"needs {LEAST} elements" if not spectra.blocks else ""
    if not reason and (null.mass.max() > 0.25 or not null.magnitude[1]):
        reason = "the distribution has too few values"
    if reason:
        for name in (*(each for kind in KINDS for each in (kind, _periods(kind))), CROSS):
            evidence.skip(name, reason)
        return
    for kind, name in enumerate(KINDS):
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
        evidence.add(_periods(name), *_extreme_power(power, spectra, what))
    if not spectra.power[5, 0]:
        evidence.skip(CROSS, f"the first piece needs {spectra.length} elements")
        return
    r, number = spectra.crossed()
    z = r[1:] * math.sqrt(number)
    at = int(abs(z).argmax())
    lag = at + 1 if at + 1 <= spectra.length // 2 else at + 1 - spectra.length
    where = f"{abs(lag)} {'before' if lag > 0 else 'after'} them"
    detail = f"elements have a correlation of {r[at + 1]:.3g} with the magnitudes {where}"
    evidence.add(CROSS, float(z[at]), len(z) * pvalues.two_sided(float(z[at]), 0.0), detail)


def _periods(name: str) -> str:
    """Return the name of the test of periods, beside that of lags."""
    return name.replace("lags", "periods")


def _extreme_power(power: Floats, spectra: Spectra, what: str) -> tuple[float, float, str]:
    """Return the test of the power that is farthest out: the sum of a block's is a gamma number, one of each block."""
    from scipy.special import gammainc, gammaincc

    low, high = int(power.argmin()), int(power.argmax())
    least, most = gammainc(spectra.blocks, power[low] + spectra.blocks * UNIT), gammaincc(spectra.blocks, power[high])
    at, pvalue = (low, least) if least < most else (high, most)
    sense = "varies" if at == high else "hardly varies"
    detail = f"the mean of {what} {sense} with a period of {spectra.length / (at + 1):.4g} elements"
    return float(power[at] / spectra.blocks), float(min(1.0, 2 * len(power) * pvalue)), detail
