"""`verify`: does an array follow its distribution? One parallel pass over it, then tests on counts and sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastinit.core.arrays import Array, is_masked, is_torch, torch_memory
from fastinit.core.checks import check_real, check_shape
from fastinit.core.dtypes import FLOATS
from fastinit.core.text import printable, quoted
from fastinit.distributions import Constant, Distribution
from fastinit.initializers.base import Initializer
from fastinit.sampling.threads import thread_count
from fastinit.verification.blocks import in_blocks, mapped, outline
from fastinit.verification.evidence import Evidence
from fastinit.verification.null_distribution import Null, null_of
from fastinit.verification.pieces import Pieces
from fastinit.verification.report import Report, Summary, holm
from fastinit.verification.tests import all_equal, look

LEVELS = ("fast", "full")


def verify(
    array: Any,
    init_or_distribution: Initializer | Distribution,
    *,
    alpha: float = 1e-6,
    level: str = "full",
    global_shape: Sequence[int] | None = None,
    threads: int | None = None,
) -> Report:
    """Test whether an array's elements are independent draws of a distribution, rounded to the array's dtype.

    Every test's null hypothesis has the rounding in it: the probability of a bin is that of the real numbers that round
    into it, to nearest and then inside the distribution's bounds. For 16-bit types each value is a bin. The structure
    is tested on normal scores, the quantiles of a standard normal at the elements' probabilities. The tests:

    - *finite*, *bounds*: no NaN or infinity, nothing outside; neither has an error rate.
    - *Kolmogorov-Smirnov*: up to 2**16 elements, and always for 16 bits, the exact distance; else the largest one at
      the edges of 4096 bins, which is never more than the distance itself, so that p is never too small.
    - *chi-square*: up to 1024 groups of about equal probability, the outermost halved again and again, of 16 expected
      elements or more; also for too small a statistic. *bins*: the count farthest from a binomial one.
    - *lower tail*, *upper tail*: the means of -log F(x) and -log(1 - F(x)), which weigh the tails like the statistic of
      Anderson and Darling (1954), averaged over each bin.
    - *mean*, *variance*, *skewness*, *kurtosis*: the means of z, z**2, z**3, z**4, for z = (x - mean) / std of the
      distribution, in their own standard errors, from its moments. Their p-values, and those of the tails, are those of
      a Pearson type III distribution of equal skewness. *mean and variance*: whether both are too good.
    - *beyond 4* to 6.5 *sigma*: the count of elements of a normal, as a Poisson number. *smallest*, *largest*: the
      extremes, by the distribution's power.
    - *means* and *stds of rows*, *columns*, or of the lines along each axis, and of blocks: sums of scores, and the
      cube roots of sums of squares (Wilson and Hilferty 1931), as normal deviates. Their spread, both ways, the
      farthest, a trend, the farthest run of neighbours, and periods. *periods of means*, *of stds*: of both axes.
    - *lag 1* to 4 and one row: the mean product of scores in C order. *lags*, *periods*: all correlations and powers of
      blocks of 2**14 scores, by their Fourier transforms; and those of their magnitudes, and *of elements and
      magnitudes*. *triples*: Pearson's test of 8**3 cells that three consecutive elements fall into.
    - *pairs* of lines: the largest cosine of all of some, and of equal ones among 2**20; Student's distribution.
      *dependence*: the sum of their squares, both ways. *spectrum*: the largest eigenvalue of their matrix (Tracy and
      Widom 1996). *neighbours*: the mean cosine of each line and the next. *distances*: of all pairs as far apart, or
      with the same middle. *diagonal*: its mean and std.
    - *grain*: equal pairs among up to 2**16 elements (float32), which rejects values made from fewer than 23 random
      bits; or zeros at the end of the mantissa (float64), which rejects those made from 32 bits, or from float32.
      *zeros*: exact ones. *last bits*: those of the significand that never change.
    - *repeats*: equal fingerprints of 31 consecutive magnitudes of scores, each rounded down to 1/16, from either end.
      Those kept, about 2**16 of the whole array, are chosen by the elements in their middles alone, so that a copy is
      found at any distance. Those along some columns of a matrix are compared with them, too.

    Parameters
    ----------
    array
        A NumPy array of float16, bfloat16 (ml_dtypes), float32 or float64, of any strides and size, memory-mapped ones
        too; a torch tensor on the CPU, or anything else that NumPy makes one of these from without a copy. It is
        read in pieces. A lazy array of dask's, or one of zarr's, is computed or read block by block, each once; one of
        more than 256 MiB goes to a temporary file, in the folder that ``TMPDIR`` chooses, and not to memory. A
        `Constant` may also be checked in integers and booleans.
    init_or_distribution
        The array's supposed content: an initializer, or the distribution of its elements.
    alpha
        The family-wise error rate in (0, 1): the probability that a right array fails any test is at most this (Holm
        1979).
    level
        ``"full"``, or ``"fast"``, which takes about half as long: lags, periods, pairs and spectra are looked for in
        fewer elements.
    global_shape
        The shape of the whole tensor, where ``array`` is a shard of it: the initializer's fans come from it.
    threads
        As for `fill`.

    Returns
    -------
    Report
        ``.passed``, the verdict, which an array without elements never gets; ``.rejected``; ``.results``, each with
        ``.name .statistic .pvalue .passed``; ``str`` is a table.

    Raises
    ------
    TypeError
        If the array is none, or has no dtype of the four; if the initializer's elements have no distribution of their
        own.
    ValueError
        If alpha is not in (0, 1), there is no such level, or the distribution does not fit the dtype.

    Examples
    --------
    >>> import fastinit as fi
    >>> w = fi.array((512, 256), fi.he_normal(), seed=0, name="w", dtype="bfloat16")
    >>> fi.verify(w, fi.he_normal()).passed
    True
    >>> [result.name for result in fi.verify(1.03 * w, fi.he_normal()).results if not result.passed][:2]
    ['Kolmogorov-Smirnov', 'chi-square']
    """
    rate, full, threads = check_rate(alpha), check_level(level), thread_count(threads)
    lazy = in_blocks(array)
    values = outline(array) if lazy else as_array(array)
    distribution = distribution_of(init_or_distribution, _whole(values.shape, global_shape))
    if lazy:  # computed after everything that can be refused
        _null(values, distribution)
        values = mapped(array)
    return verify_pieces(Pieces((values,)), distribution, rate, threads, full)


def check_rate(alpha: float) -> float:
    """Return a family-wise error rate, checked."""
    rate = check_real("alpha", alpha)
    if not 0 < rate < 1:
        raise ValueError(f"alpha must be in (0, 1), got {quoted(alpha)}")
    return rate


def check_level(level: str) -> bool:
    """Return whether a level is "full", checked."""
    if level not in LEVELS:
        raise ValueError(f"level must be {' or '.join(LEVELS)}, got {quoted(level)}")
    return level == "full"


def verify_pieces(values: Pieces, distribution: Distribution, rate: float, threads: int, full: bool) -> Report:
    """`verify` an array, or the pieces of one, at a rate and on a number of threads that are checked."""
    null = _null(values, distribution)
    evidence = Evidence()
    summary = None
    if values.size == 0:
        evidence.skip("all", "there are no elements")
    elif null is None or isinstance(null, Constant):
        all_equal(values, distribution if null is None else null, evidence)
    else:
        summary = look(values, null, distribution, threads, full, evidence)
    return _judged(evidence, rate, values, distribution, summary)


def _null(values: Array | Pieces, distribution: Distribution) -> Null | Constant | None:
    """Return what elements of this dtype would be, None for a constant; or refuse the dtype."""
    if not (values.dtype.name in FLOATS or (values.dtype.kind in "iub" and isinstance(distribution, Constant))):
        raise TypeError(
            f"array must be of {', '.join(FLOATS)}, or for a constant also of integers or booleans, got dtype "
            f"{printable(str(values.dtype))}"
        )
    if not values.dtype.isnative:
        raise TypeError(f"array must be in native byte order, got dtype {printable(str(values.dtype))}")
    return None if isinstance(distribution, Constant) else null_of(distribution, values.dtype)


def distribution_of(init_or_distribution: Initializer | Distribution, shape: Sequence[int]) -> Distribution:
    """Return the distribution that is meant: an initializer's for this shape, or the distribution itself."""
    if isinstance(init_or_distribution, Initializer):
        return init_or_distribution.distribution(shape)
    if isinstance(init_or_distribution, Distribution):
        return init_or_distribution
    raise TypeError(
        "init_or_distribution must be an initializer or a distribution, such as fastinit.normal(), "
        f"got {quoted(init_or_distribution)}"
    )


def as_array(array: Any) -> Array:
    """Return the NumPy array that shares memory with any kind of array.

    Raises
    ------
    TypeError
        If it is no array, or one of another device.
    """
    if is_masked(array):
        raise TypeError("array must have no mask, got MaskedArray")
    if isinstance(array, np.ndarray):
        return np.asarray(array)  # of a memory-mapped one a plain view
    if is_torch(array):
        return torch_memory("array", array)
    if in_blocks(array):
        return mapped(array)
    if not (hasattr(array, "__array__") or hasattr(array, "__array_interface__")):
        raise TypeError(f"array must be an array, got {type(array).__name__}")
    return np.asarray(array)


def _whole(shape: tuple[int, ...], global_shape: Sequence[int] | None) -> tuple[int, ...]:
    """Return the shape of the tensor that an array of this shape is a part of."""
    if global_shape is None:
        return shape
    whole = check_shape("global_shape", global_shape)
    if len(whole) != len(shape) or any(part > size for part, size in zip(shape, whole, strict=True)):
        raise ValueError(f"global_shape must have the {len(shape)} axes of array and hold {shape}, got {whole}")
    return whole


def _judged(
    evidence: Evidence, alpha: float, array: Pieces, distribution: Distribution, summary: Summary | None
) -> Report:
    """Return the report, with Holm's verdicts."""
    stand = holm([result.pvalue for result in evidence.made], alpha)
    results = tuple(replace(one, passed=passed) for one, passed in zip(evidence.made, stand, strict=True))
    return Report(
        bool(stand) and all(stand),
        results,
        tuple(evidence.skipped),
        alpha,
        array.size,
        array.shape,
        array.dtype.name,
        distribution,
        summary,
    )
