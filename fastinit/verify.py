"""`verify`: does an array follow its law? One parallel pass over it, then tests on what that counted."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastinit.fill import FLOATS
from fastinit.initializers import Initializer
from fastinit.keys import check_sizes
from fastinit.laws import Constant, Floats, Law, Normal, TruncatedNormal, Uniform, check_real
from fastinit.parallel import run, thread_count

if TYPE_CHECKING:
    from fastinit.kernels.census import Grid

Array = NDArray[Any]

NEAR_LAGS = (1, 2, 3, 4, 8, 16, 32, 64)
FAR_LAGS = 4  # at most so many lags of the outer axes: each reads the array once more
SIGMAS = (4.0, 5.0, 5.5, 6.0, 6.5)
BINS = 4096  # of 32 and 64-bit values; every pattern of a 16-bit type has its own
GROUPS = 1024  # of the chi-square test
TASK = 1 << 19  # elements of a thread's task
PRINTS = 1 << 17  # fingerprints that are kept of an array, about
SAMPLE = 1 << 16  # elements that are looked at one by one
LINES, ALONG = 128, 1024  # of the correlation matrices: rows, and elements of each

# A normal law stands in for that of a sum where the sum's own skewness or excess is below these: on the side of the
# tail that a p-value of 1e-8 looks at it is then right within a factor of two
MOST_SKEWNESS, MOST_EXCESS = 0.05, 0.01
LEAST_EXPECTED = 16.0  # elements of a group of the chi-square test


@dataclass(frozen=True)
class Result:
    """One test: its statistic, the probability of such a one or a rarer under the law, and the verdict."""

    name: str
    statistic: float
    pvalue: float
    passed: bool
    detail: str = ""


@dataclass(frozen=True)
class Summary:
    """What the pass counted, for plots and for comparisons with other arrays."""

    edges: Floats  # between the bins, in the law's values; the first and last are infinite
    counts: NDArray[np.int64]
    cdf: Floats  # of the law, at the edges
    sf: Floats
    lags: dict[str, float]  # correlations
    rows: Floats  # correlation matrix of some rows; empty without a second axis
    prints: NDArray[np.uint64]
    places: NDArray[np.int64]


@dataclass(frozen=True)
class Report:
    """The verdict on an array; its text is a table.

    ``left_out`` names the tests that could not be made, with the reason: an array may be too small for them.
    """

    passed: bool
    results: tuple[Result, ...]
    left_out: tuple[tuple[str, str], ...]
    alpha: float
    size: int
    shape: tuple[int, ...]
    dtype: str
    law: Law
    summary: Summary | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "REJECTED"
        lines = [
            f"{verdict}: {self.size} elements of {self.dtype} as {self.law}",
            f"{len(self.results)} tests, family-wise alpha {self.alpha:g} (Holm)",
        ]
        if self.results:
            width = max(len(result.name) for result in self.results)
            lines.append(f"{'test':{width}}  {'statistic':>12}  {'p':>9}  verdict")
        for result in self.results:
            words = "passed" if result.passed else "REJECTED"
            text = f"{result.name:{width}}  {result.statistic:>12.6g}  {result.pvalue:>9.3g}  {words}"
            lines.append(text + (f"  {result.detail}" if result.detail else ""))
        reasons: dict[str, list[str]] = {}
        for name, reason in self.left_out:
            reasons.setdefault(reason, []).append(name)
        lines += [f"left out: {', '.join(names)}: {reason}" for reason, names in reasons.items()]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON can hold it."""
        return {
            "passed": self.passed,
            "alpha": self.alpha,
            "size": self.size,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "law": repr(self.law),
            "results": [asdict(result) for result in self.results],
            "left_out": [{"name": name, "reason": reason} for name, reason in self.left_out],
        }


def verify(
    array: Any,
    init_or_law: Initializer | Law,
    *,
    alpha: float = 1e-6,
    global_shape: Sequence[int] | None = None,
    threads: int | None = None,
) -> Report:
    """Test whether an array's elements are independent draws of a law, rounded to the array's dtype.

    Every test's null hypothesis has the rounding in it: the probability of a bin is that of the real numbers that round
    into it, to nearest and then inside the law's bounds. For 16-bit types each value is a bin. The tests:

    - *finite*, *bounds*: no NaN or infinity, nothing outside; neither has an error rate.
    - *Kolmogorov-Smirnov*: up to 2**16 elements, and always for 16 bits, the exact distance; else the largest one at
      the edges of 4096 bins, which is never more than the distance itself, so that p is never too small.
    - *chi-square*: up to 1024 groups of about equal probability, the outermost halved again and again, of 16 expected
      elements or more.
    - *lower tail*, *upper tail*: the means of -log F(x) and -log(1 - F(x)), which weigh the tails like the statistic of
      Anderson and Darling (1954), averaged over each bin.
    - *mean*, *variance*, *skewness*, *kurtosis*: the means of z, z**2, z**3, z**4, for z = (x - mean) / std of the law,
      in their own standard errors, from the law's moments. Their p-values, and those of the tails and of the lags, are
      those of a Pearson type III law of the same skewness.
    - *beyond 4*, 5, 5.5, 6, 6.5 *sigma*: how many elements of a normal, as a Poisson number.
    - *lag n*: the mean of z[i] z[i + n] in C order, for 1, 2, 3, 4, 8, ..., 64 and one step along each axis.
    - *rows*, *columns*: the largest correlation between any two of up to 128 rows, 1024 elements of each, in normal
      scores; the first axis by all others, and all others by the last.
    - *grain*: equal pairs among up to 2**16 elements (float32), which rejects values made from fewer than 23 random
      bits; or zeros at the end of the mantissa (float64), which rejects those made from 32 bits, or from float32.
    - *repeats*: equal fingerprints of 32 consecutive elements, each rounded down to 1/16 std. Those kept, about 2**17
      of the whole array, are chosen by their first elements alone, so that a copy is found at any distance.

    Parameters
    ----------
    array
        A NumPy array of float16, bfloat16 (ml_dtypes), float32 or float64, of any strides and size, memory-mapped ones
        too; a torch tensor on the CPU, or anything else that NumPy makes such an array from without a copy. It is
        read in pieces. A `Constant` may also be checked in integers and booleans.
    init_or_law
        What the array is said to hold: an initializer, or the law of its elements.
    alpha
        The family-wise error rate in (0, 1): the probability that a right array fails any test is at most this (Holm
        1979).
    global_shape
        The shape of the whole tensor, where ``array`` is a shard of it: the initializer's fans come from it.
    threads
        As for `fill`.

    Returns
    -------
    Report
        ``.passed``, the verdict; ``.results``, each with ``.name .statistic .pvalue .passed``; ``str`` is a table.

    Raises
    ------
    TypeError
        If the array is none, or has no dtype of the four; if the initializer's elements have no law of their own.
    ValueError
        If alpha is not in (0, 1), or the law does not fit the dtype.

    Examples
    --------
    >>> import fastinit as fi
    >>> w = fi.array((512, 256), fi.he_normal(), seed=0, name="w", dtype="bfloat16")
    >>> fi.verify(w, fi.he_normal()).passed
    True
    >>> [result.name for result in fi.verify(1.03 * w, fi.he_normal()).results if not result.passed][:2]
    ['Kolmogorov-Smirnov', 'chi-square']
    """
    rate = check_real("alpha", alpha)
    if not 0 < rate < 1:
        raise ValueError(f"alpha must be in (0, 1), got {alpha!r}")
    threads = thread_count(threads)
    values = as_array(array)
    law = law_of(init_or_law, values.shape if global_shape is None else check_sizes("global_shape", global_shape))
    tests = _Tests()
    summary = None
    null = None if isinstance(law, Constant) else _null(law, _checked(values).dtype)
    if values.size == 0:
        tests.leave("all", "there are no elements")
    elif null is None or isinstance(null, Constant):
        _constant(values, law if null is None else null, tests)
    else:
        summary = _look(values, null, law, threads, tests)
    return _judged(tests, rate, values, law, summary)


def law_of(init_or_law: Initializer | Law, shape: Sequence[int]) -> Law:
    """The law that is meant: an initializer's for this shape, or the law itself."""
    if isinstance(init_or_law, Initializer):
        return init_or_law.law(shape)
    if isinstance(init_or_law, Law):
        return init_or_law
    raise TypeError(f"init_or_law must be an initializer or a law, such as fastinit.normal(), got {init_or_law!r}")


def as_array(array: Any) -> Array:
    """The NumPy array that shares memory with whatever array this is.

    Raises
    ------
    TypeError
        If it is no array, or one of another device.
    """
    if isinstance(array, np.ndarray):
        return np.asarray(array)  # of a memory-mapped one a plain view
    if type(array).__module__.split(".")[0] == "torch":
        tensor = array.detach()
        if tensor.device.type != "cpu":
            raise TypeError(f"array must be in the memory of the CPU, got a tensor on {tensor.device}")
        if str(tensor.dtype) == "torch.bfloat16":  # NumPy has no such type of its own
            import ml_dtypes

            patterns: Array = tensor.view(sys.modules["torch"].int16).numpy()
            return patterns.view(ml_dtypes.bfloat16)
        return np.asarray(tensor.numpy())
    if not (hasattr(array, "__array__") or hasattr(array, "__array_interface__")):
        raise TypeError(f"array must be an array, got {type(array).__name__}")
    return np.asarray(array)


def _checked(array: Array) -> Array:
    """The array, if it can hold draws."""
    if array.dtype.name not in FLOATS or not array.dtype.isnative:
        raise TypeError(
            f"array must be of {', '.join(FLOATS)} in native byte order, or a constant's, got dtype {array.dtype}"
        )
    return array


class _Tests:
    """The tests as they are made."""

    def __init__(self) -> None:
        self.made: list[Result] = []
        self.left_out: list[tuple[str, str]] = []

    def add(self, name: str, statistic: float, pvalue: float, detail: str = "") -> None:
        """One that was made; a statistic that is not a number comes from values that no law gives."""
        pvalue = min(1.0, float(pvalue)) if not math.isnan(pvalue) else 0.0
        self.made.append(Result(name, float(statistic), pvalue, True, detail))

    def leave(self, name: str, reason: str) -> None:
        """One that cannot be made."""
        self.left_out.append((name, reason))


def holm(pvalues: Sequence[float], alpha: float) -> list[bool]:
    """Which hypotheses stand: Holm (1979), step down from the smallest p, against alpha over how many are left.

    Examples
    --------
    >>> holm([0.5, 0.01, 0.03], 0.05)
    [True, False, True]
    """
    stand = [True] * len(pvalues)
    for done, k in enumerate(sorted(range(len(pvalues)), key=pvalues.__getitem__)):
        if pvalues[k] > alpha / (len(pvalues) - done):
            break
        stand[k] = False
    return stand


def _judged(tests: _Tests, alpha: float, array: Array, law: Law, summary: Summary | None) -> Report:
    """The report, with Holm's verdicts."""
    stand = holm([result.pvalue for result in tests.made], alpha)
    results = tuple(
        Result(r.name, r.statistic, r.pvalue, passed, r.detail) for r, passed in zip(tests.made, stand, strict=True)
    )
    left_out = tuple(tests.left_out)
    return Report(all(stand), results, left_out, alpha, array.size, array.shape, array.dtype.name, law, summary)


# The null hypothesis


class _Null(NamedTuple):
    """What a right array of the dtype is: the law, rounded."""

    edges: Floats  # of the bins in real numbers, where rounding changes over: the first and last are infinite
    cdf: Floats  # at the edges, and the rest of the probability; each precise where it is small
    sf: Floats
    mass: Floats
    moments: Floats  # E z**k for k in 0 ... 12
    grid: Grid  # 32 and 64 bits
    values: Any  # 16 bits: z of each pattern
    bin_of: Any  # 16 bits: the bin of each pattern, -1 for those that are not finite
    beyond: dict[float, Any]  # which bins lie beyond so many sigma
    spacing: float  # of neighbouring floats, in units of std
    twins: float  # the probability that two elements are equal, and that their digits are
    twin_digits: float
    low: float
    high: float


def _mirrored(law: Law) -> Law:
    """The law of -x."""
    match law:
        case Uniform():
            return Uniform(-law.high, -law.low)
        case Normal():
            return Normal(-law.mean, law.std)
        case TruncatedNormal():
            return TruncatedNormal(-law.parent_mean, law.parent_std, -law.upper, -law.lower)
    return Constant(-law.value)


def _span(law: Law) -> tuple[float, float]:
    """The interval that holds the law but for some 1e-15 of it."""
    if isinstance(law, TruncatedNormal):
        a, b = law.bounds
        near = max(a, -b, 0.0)
        reach = math.sqrt(near * near + 64) if near else 8.0
        return law.parent_mean + law.parent_std * max(a, -reach), law.parent_mean + law.parent_std * min(b, reach)
    if isinstance(law, Normal):
        return law.mean - 8 * law.std, law.mean + 8 * law.std
    return law.support


def _standard_moments(law: Law) -> Floats:
    """E z**k of the real law for k in 0 ... 12, by Gauss-Legendre on 64 panels."""
    if isinstance(law, Normal):
        law = TruncatedNormal(law.mean, law.std, law.mean - 14 * law.std, law.mean + 14 * law.std)
    low, high = law.support
    if isinstance(law, TruncatedNormal):
        a, b = law.bounds
        near = max(a, -b, 0.0)
        reach = math.sqrt(near * near + 196)
        a, b = max(a, -reach), min(b, reach)
        low, high = law.parent_mean + law.parent_std * a, law.parent_mean + law.parent_std * b
    nodes, weights = np.polynomial.legendre.leggauss(24)
    panels = np.linspace(low, high, 65)
    half = (panels[1] - panels[0]) / 2
    x = ((panels[:-1] + half)[:, None] + half * nodes).ravel()
    density = np.tile(weights, 64)
    if isinstance(law, TruncatedNormal):
        t = (x - law.parent_mean) / law.parent_std
        density = density * np.exp((near * near - t * t) / 2)
    density /= density.sum()
    x = x - (density * x).sum()
    x /= math.sqrt((density * x * x).sum())
    return np.array([(density * x**k).sum() for k in range(13)])


def _ordered(patterns: Any) -> Any:
    """Integers that are ordered like the floats whose patterns they are made from, and back."""
    return patterns ^ ((patterns >> (8 * patterns.itemsize - 1)) & np.iinfo(patterns.dtype).max)


def _first_of_bins(grid: Grid, dtype: np.dtype[Any]) -> Array:
    """The smallest value of every bin but the first: halving the ordered floats, since a value's bin only grows."""
    word = np.dtype(f"i{dtype.itemsize}")
    most = np.array(np.finfo(dtype).max, dtype).view(word)
    wanted = np.arange(1, grid.bins)
    low = np.full(wanted.size, _ordered((-np.array(np.finfo(dtype).max, dtype)).view(word)), word)
    high = np.full(wanted.size, most, word)
    while (low < high).any():
        middle = (low >> 1) + (high >> 1) + (low & high & 1)
        x = _ordered(middle).view(dtype).astype(np.float64)
        there = np.clip((x - grid.origin) * grid.scale, 0, grid.bins - 1).astype(np.int64) >= wanted
        high, low = np.where(there, middle, high), np.where(there, low, middle + 1)
    found: Array = _ordered(high).view(dtype)
    return found


def _patterns(dtype: np.dtype[Any]) -> Floats:
    """The values of all patterns of a 16-bit type."""
    with np.errstate(invalid="ignore"):  # signalling NaN
        return np.arange(1 << 16, dtype=np.uint16).view(dtype).astype(np.float64)


@lru_cache(maxsize=256)
def _null(law: Law, dtype: np.dtype[Any]) -> _Null | Constant:
    """The null hypothesis of a law in a dtype; a constant where only one value is possible.

    Raises
    ------
    ValueError
        If the law does not fit the dtype.
    """
    from fastinit.kernels.census import STEPS, Grid
    from fastinit.prepare import prepare

    if law.support[0] == law.support[1] or law.std == 0:
        return Constant(float(np.asarray(law.mean).astype(dtype)))
    prepared = prepare(law, dtype)
    low, high = float(prepared.low), float(prepared.high)
    mirror = _mirrored(law)
    if dtype.itemsize == 2:
        every = _patterns(dtype)
        finite = np.isfinite(every)
        atoms, back = np.unique(every[finite], return_inverse=True)  # -0 and 0 are one
        middles = atoms[:-1] + np.diff(atoms) / 2
        middles = np.where(atoms[1:] <= low, -np.inf, np.where(atoms[:-1] >= high, np.inf, middles))  # held inside
        edges = np.concatenate([[-np.inf], middles, [np.inf]])
        bin_of = np.full(1 << 16, -1)
        bin_of[finite] = back
    else:
        start, end = _span(law)
        mine = np.finfo(dtype)
        if dtype == np.float32:  # a bound that is no float is known by its nearest one
            low, high = min(low, float(np.float32(law.support[0]))), max(high, float(np.float32(law.support[1])))
        bounds = dtype.type(low), dtype.type(high)
        grid = Grid(law.mean, 1 / law.std, start, BINS / (end - start), BINS, float(mine.max), *bounds)
        first = _first_of_bins(grid, dtype)
        before = np.nextafter(first, dtype.type(-np.inf)).astype(np.float64)
        edges = np.concatenate([[-np.inf], before + (first.astype(np.float64) - before) / 2, [np.inf]])
        bin_of = None
    cdf, sf = law.cdf(edges), mirror.cdf(-edges)
    cdf[0], sf[-1], cdf[-1], sf[0] = 0, 0, 1, 1
    mass = np.maximum(np.where(cdf[:-1] < 0.5, np.diff(cdf), -np.diff(sf)), 0)
    if dtype.itemsize == 2:
        mean = (mass * atoms).sum()
        away = atoms - mean
        inside = mass > 0
        std = math.sqrt((mass[inside] * away[inside] ** 2).sum())
        if std == 0:
            return Constant(float(atoms[mass.argmax()]))
        z = np.where(inside, away / std, 0)
        moments = np.array([(mass * z**k).sum() for k in range(13)])
        with np.errstate(over="ignore", invalid="ignore"):
            values = np.where(finite, (every - mean) / std, 0).astype(np.float32)
        grid = Grid(mean, 1 / std, 0.0, 0.0, 0, 0.0, 0.0, 0.0)
        beyond = {t: abs(atoms - law.mean) > t * law.std for t in SIGMAS}
        digits = np.floor(np.clip(z * STEPS, -128, 127)).astype(np.int64) + 128
        twin_digits = float((np.bincount(digits, mass) ** 2).sum())
        twins, spacing = float((mass**2).sum()), 0.0
    else:
        moments = _standard_moments(law)
        values = None
        middle = (BINS / 2) / 8  # bins to one sigma of a normal
        number = np.arange(BINS)
        beyond = {t: (number < BINS / 2 - t * middle) | (number >= BINS / 2 + t * middle) for t in SIGMAS}
        wide, ulp = np.diff(edges[1:-1]), np.spacing(np.maximum(abs(first[:-1]), abs(first[1:]))).astype(np.float64)
        twins = float((mass[1:-1] ** 2 * np.minimum(1, ulp / wide)).sum())
        spacing = float(np.spacing(dtype.type(max(abs(start), abs(end))))) / law.std
        steps = law.mean + np.arange(-127, 128) / STEPS * law.std
        twin_digits = float((np.diff(law.cdf(steps), prepend=0, append=1) ** 2).sum())
    if not isinstance(law, Normal):
        beyond = {}
    return _Null(edges, cdf, sf, mass, moments, grid, values, bin_of, beyond, spacing, twins, twin_digits, low, high)


# The pass over the array


def flat(array: Array, begin: int, end: int) -> Array:
    """The elements [begin, end) in C order: a view where they lie next to each other, else a copy of these alone."""
    if array.flags.c_contiguous:
        return array.reshape(-1)[begin:end]
    inner = math.prod(array.shape[1:])
    first, last = begin // inner, (end - 1) // inner
    if array.ndim == 1 or begin >= end:
        return np.ascontiguousarray(array[begin:end] if array.ndim == 1 else array[:0]).reshape(-1)
    if first == last:
        return flat(array[first], begin - first * inner, end - first * inner)
    head, tail = -(-begin // inner), end // inner
    parts = [np.ascontiguousarray(array[head:tail]).reshape(-1)]
    if begin < head * inner:
        parts.insert(0, flat(array[first], begin - first * inner, inner))
    if end > tail * inner:
        parts.append(flat(array[last], 0, end - tail * inner))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


class _Census(NamedTuple):
    """What the whole array has."""

    counts: NDArray[np.int64]  # in the null hypothesis's bins
    sums: Floats
    lags: dict[str, tuple[int, float]]  # the pairs, and the sum over them
    outside: int
    bad: int
    prints: NDArray[np.uint64]
    places: NDArray[np.int64]


def _lags(shape: tuple[int, ...]) -> dict[str, int]:
    """The lags by name: the near ones, and a step along each axis but the last."""
    size = math.prod(shape)
    found = {f"lag {lag}": lag for lag in NEAR_LAGS if lag < size}
    for axis in range(len(shape) - 2, -1, -1):
        lag = math.prod(shape[axis + 1 :])
        if shape[axis] > 1 and lag not in found.values() and len(found) < len(NEAR_LAGS) + FAR_LAGS:
            found[f"lag {lag}"] = lag
    return found


def _count(array: Array, null: _Null, threads: int) -> _Census:
    """The pass."""
    from fastinit.kernels.census import NEAR, Found, narrow, narrow_product, wide, wide_product

    order = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
    array = array.transpose(order)  # which axis comes first is nothing to the tests, but much to the memory
    size, half = array.size, array.dtype.itemsize == 2
    lags = _lags(array.shape)
    near = {name: lag for name, lag in lags.items() if lag <= NEAR}
    far = {name: lag for name, lag in lags.items() if lag > NEAR}
    steps = np.array(list(near.values()), np.int64)
    tasks = -(-size // TASK)
    rarity = max(0, math.ceil(math.log2(size / PRINTS)))
    limit = np.uint32((1 << 32 >> rarity) - 1)
    room = min(TASK, (4 * TASK >> rarity) + 4096)
    bins, outside, bad = np.zeros(1 << 16 if half else BINS, np.int64), np.zeros(2, np.int64), np.zeros(1, np.int64)
    sums, products = np.zeros((tasks, 4)), np.zeros((tasks, len(near) + len(far)))
    prints: list[Any] = [None] * tasks
    lock = threading.Lock()

    def part(begin: int, end: int) -> Array:
        piece = flat(array, begin, min(end, size))
        if not (piece.flags.writeable and piece.flags.aligned):  # Numba would compile the kernel once more for each
            piece = piece.copy()
        return piece.view(np.uint16) if half else piece

    def task(k: int) -> int:
        begin, end = k * TASK, min((k + 1) * TASK, size)
        here, many = part(begin, end + NEAR), min(room, end - begin)
        found = Found(
            np.zeros_like(bins), sums[k], products[k], np.zeros_like(outside), np.zeros_like(bad),
            np.empty(many, np.uint64), np.empty(many, np.int64),
        )  # fmt: skip
        if half:
            kept = narrow(here, end - begin, null.values, steps, begin, limit, found)
        else:
            kept = wide(here, end - begin, null.grid, steps, begin, limit, found)
        for at, lag in enumerate(far.values(), len(near)):
            there = part(begin + lag, end + lag) if begin + lag < size else here[:0]
            products[k, at] = narrow_product(here, there, null.values) if half else wide_product(here, there, null.grid)
        prints[k] = found.prints[:kept].copy(), found.places[:kept].copy()
        with lock:  # whole numbers: in any order the same
            for total, one in ((bins, found.bins), (outside, found.outside), (bad, found.bad)):
                total += one
        return end - begin

    run(task, tasks, threads)
    if half:
        known = null.bin_of >= 0
        counts = np.zeros(null.mass.size, np.int64)
        np.add.at(counts, null.bin_of[known], bins[known])
        bad[0] = bins[~known].sum()
        atoms = _patterns(array.dtype)
        outside[0] = bins[known & ((atoms < null.low) | (atoms > null.high))].sum()
    else:
        counts = bins
    totals = products.sum(axis=0)
    pairs = {name: (size - lag, float(totals[at])) for at, (name, lag) in enumerate({**near, **far}.items())}
    hashes, places = (np.concatenate(kind) for kind in zip(*prints, strict=True))
    return _Census(counts, sums.sum(axis=0), pairs, int(outside.sum()), int(bad[0]), hashes, places)


# The tests


def _constant(array: Array, law: Law, tests: _Tests) -> None:
    """Every element is the constant."""
    from fastinit.prepare import constant_of

    assert isinstance(law, Constant)
    value, wrong = constant_of(law, array.dtype), 0
    for begin in range(0, array.size, TASK):
        wrong += int(np.count_nonzero(~(flat(array, begin, min(begin + TASK, array.size)) == value)))
    tests.add("equal", wrong, 0.0 if wrong else 1.0, f"{wrong} elements differ from {value}" if wrong else "")


def _look(array: Array, null: _Null, law: Law, threads: int, tests: _Tests) -> Summary:
    """Make all tests of an array of draws."""
    census = _count(array, null, threads)
    tests.add("finite", census.bad, 0.0 if census.bad else 1.0)
    if not (math.isinf(null.low) and math.isinf(null.high)):
        tests.add("bounds", census.outside, 0.0 if census.outside else 1.0)
    size = array.size - census.bad
    if size:
        _kolmogorov(array, null, law, census, tests)
        _chi_square(null, census.counts, size, tests)
        _tails(null, census.counts, size, tests)
        _moments(null, census.sums, size, tests)
        _beyond(null, census.counts, size, tests)
        _correlations(null, census, tests)
    rows = _lines(array, law, null, tests)
    _grain(array, null, tests)
    _repeats(array.size, null, census, tests)
    lags = {name: total / pairs for name, (pairs, total) in census.lags.items()}
    return Summary(null.edges, census.counts, null.cdf, null.sf, lags, rows, census.prints, census.places)


def _two_sided(z: float, skewness: float) -> float:
    """P of a Pearson type III law of mean 0, variance 1 and this skewness, beyond z on either side."""
    from scipy import special, stats

    if not math.isfinite(z):
        return 0.0
    if abs(skewness) < 1e-4:
        return float(2 * special.ndtr(-abs(z)))
    return float(2 * min(stats.pearson3.sf(z, skewness), stats.pearson3.cdf(z, skewness)))


def _standard_error(
    tests: _Tests, name: str, total: float, size: int, mean: float, second: float, third: float
) -> None:
    """The z test of a sum of independent numbers of these moments about zero."""
    variance = second - mean * mean
    skewness = (third - 3 * mean * second + 2 * mean**3) / variance**1.5 / math.sqrt(size)
    if abs(skewness) > MOST_SKEWNESS:
        needed = size * (skewness / MOST_SKEWNESS) ** 2
        tests.leave(name, f"needs {math.ceil(needed)} elements")
        return
    z = (total / size - mean) / math.sqrt(variance / size)
    tests.add(name, z, _two_sided(z, skewness))


def _kolmogorov(array: Array, null: _Null, law: Law, census: _Census, tests: _Tests) -> None:
    """The largest distance between the distribution functions."""
    from scipy import stats

    size = int(census.counts.sum())
    if null.values is None and array.size <= SAMPLE:
        x = np.sort(flat(array, 0, array.size))
        x = x[np.isfinite(x)]
        exact = x.astype(np.float64)
        with np.errstate(over="ignore"):
            below, above = (np.nextafter(x, x.dtype.type(to)).astype(np.float64) for to in (-np.inf, np.inf))
        at_most, less = law.cdf(exact + (above - exact) / 2), law.cdf(exact + (below - exact) / 2)
        rank = np.arange(size + 1) / size
        distance = max((rank[1:] - at_most).max(), (less - rank[:-1]).max(), 0.0)
        name = "exact"
    else:
        here = np.cumsum(census.counts) / size
        distance = float(abs(here - null.cdf[1:]).max())
        name = "exact" if null.values is not None else f"at {BINS - 1} edges"
    tests.add("Kolmogorov-Smirnov", distance, stats.kstwo.sf(distance, size), name)


def _groups(null: _Null, size: int) -> NDArray[np.intp]:
    """Where groups of bins begin, of about equal probability and enough expected elements."""
    wanted = min(GROUPS, int(size / (4 * LEAST_EXPECTED)))
    if wanted < 2:
        return np.zeros(1, np.intp)
    number = np.minimum((null.cdf[1:] + null.cdf[:-1]) / 2 * wanted, wanted - 1e-9)
    rest = (null.sf[1:] + null.sf[:-1]) / 2 * wanted
    least = 2.0**-60
    inner = np.floor(number)
    inner = np.where(number < 1, np.floor(np.log2(np.maximum(number, least))), inner)  # halves of halves in the tails,
    inner = np.where(rest < 1, wanted - np.floor(np.log2(np.maximum(rest, least))), inner)  # where values are clamped
    starts = np.flatnonzero(np.diff(inner, prepend=-np.inf))
    masses = np.add.reduceat(null.mass, starts)
    to_come = np.cumsum(masses[::-1])[::-1]
    kept, gathered = [0], 0.0
    for k in range(len(starts)):
        if min(gathered, to_come[k]) * size >= LEAST_EXPECTED:
            kept.append(int(starts[k]))
            gathered = 0.0
        gathered += masses[k]
    return np.array(kept)


def _chi_square(null: _Null, counts: NDArray[np.int64], size: int, tests: _Tests) -> None:
    """Pearson's test."""
    from scipy import stats

    starts = _groups(null, size)
    if len(starts) < 8:
        tests.leave("chi-square", f"needs {round(8 * 4 * LEAST_EXPECTED)} elements, and values that differ")
        return
    expected, seen = np.add.reduceat(null.mass, starts) * size, np.add.reduceat(counts, starts)
    statistic = float(((seen - expected) ** 2 / expected).sum())
    tests.add("chi-square", statistic, stats.chi2.sf(statistic, len(starts) - 1), f"{len(starts)} groups")


def _tails(null: _Null, counts: NDArray[np.int64], size: int, tests: _Tests) -> None:
    """The means of -log F and -log(1 - F)."""
    for name, near, far in (
        ("lower tail", null.cdf[:-1], null.cdf[1:]),
        ("upper tail", null.sf[1:], null.sf[:-1]),
    ):
        width = far - near
        safe = np.where(far > 0, far, 1)
        inner = np.where(near > 0, near, 1)
        slow = width < 1e-6 * safe  # the difference would lose its digits: the logarithm hardly changes
        whole = (far - far * np.log(safe)) - (near - near * np.log(inner))
        weight = np.where(slow, -np.log(safe), whole / np.where(width > 0, width, 1))
        mean, second, third = ((null.mass * weight**k).sum() for k in (1, 2, 3))
        _standard_error(tests, name, float((counts * weight).sum()), size, mean, second, third)


def _moments(null: _Null, sums: Floats, size: int, tests: _Tests) -> None:
    """The means of the powers of z."""
    for k, name in enumerate(("mean", "variance", "skewness", "kurtosis"), 1):
        if null.spacing > 2**-8:
            tests.leave(name, "the law is hardly wider than the spacing of the dtype's values")
        elif null.moments[2 * k] - null.moments[k] ** 2 < 1e-9:
            tests.leave(name, "the law has two values alone")
        else:
            _standard_error(tests, name, sums[k - 1], size, *(null.moments[k * j] for j in (1, 2, 3)))


def _beyond(null: _Null, counts: NDArray[np.int64], size: int, tests: _Tests) -> None:
    """The numbers of elements far out."""
    from scipy import stats

    for sigmas, bins in null.beyond.items():
        name = f"beyond {sigmas:g} sigma"
        seen, expected = int(counts[bins].sum()), float(null.mass[bins].sum()) * size
        pvalue = 2 * min(stats.poisson.cdf(seen, expected), stats.poisson.sf(seen - 1, expected))
        tests.add(name, seen, pvalue, f"expected {expected:.4g}")


def _correlations(null: _Null, census: _Census, tests: _Tests) -> None:
    """Sums of products of z with a later one."""
    excess, skewness = float(null.moments[4] ** 2), float(null.moments[3] ** 2)
    for name, (pairs, total) in census.lags.items():
        if null.spacing > 2**-8:
            tests.leave(name, "the law is hardly wider than the spacing of the dtype's values")
        elif excess / pairs > MOST_EXCESS:
            tests.leave(name, f"needs {math.ceil(excess / MOST_EXCESS)} pairs")
        else:
            z = total / math.sqrt(pairs)
            tests.add(name, z, _two_sided(z, skewness / math.sqrt(pairs)))


def _lines(array: Array, law: Law, null: _Null, tests: _Tests) -> Floats:
    """The largest correlation between rows, and between columns; the matrix of some rows."""
    from scipy import special, stats

    matrix = np.zeros((0, 0))
    for name in ("columns", "rows"):
        if array.ndim < 2:
            tests.leave(name, "needs two axes")
            continue
        lines, along = array.shape[0], array.size // array.shape[0]
        if name == "columns":
            lines, along = array.shape[-1], array.size // array.shape[-1]
        if lines < 2 or along < 64:
            tests.leave(name, "needs 2 of 64 elements")
            continue
        if null.mass.max() > 0.25:
            tests.leave(name, "the law has too few values")
            continue
        some = np.linspace(0, lines - 1, min(lines, LINES)).astype(np.int64)[:, None]
        other = np.linspace(0, along - 1, min(along, ALONG)).astype(np.int64)[None, :]
        x = (
            array[(some, *np.unravel_index(other, array.shape[1:]))]
            if name == "rows"
            else array[(*np.unravel_index(other, array.shape[:-1]), some)]
        )
        real = x.astype(np.float64)
        scores = np.where(np.isfinite(real), special.ndtri(np.clip(_middle(real, x.dtype, law, null), 1e-300, 1)), 0)
        scores = np.clip(scores, -9, 9)
        scores -= scores.mean(axis=1, keepdims=True)
        norms = np.sqrt((scores**2).sum(axis=1, keepdims=True))
        unit = np.divide(scores, norms, out=np.zeros_like(scores), where=norms > 0)
        matrix = unit @ unit.T
        pairs = np.triu_indices(len(matrix), 1)
        r = min(1.0, float(abs(matrix[pairs]).max()))
        freedom = scores.shape[1] - 2
        t = r * math.sqrt(freedom / max(1 - r * r, 1e-300))
        tests.add(
            name, r, len(pairs[0]) * 2 * stats.t.sf(t, freedom), f"{len(matrix)} {name}, {freedom + 2} elements each"
        )
    return matrix


def _middle(x: Floats, dtype: np.dtype[Any], law: Law, null: _Null) -> Floats:
    """The middle of the probabilities that rounded to each value."""
    if null.values is not None:
        middle = np.full(1 << 16, 0.5)
        known = null.bin_of >= 0
        middle[known] = ((null.cdf[1:] + null.cdf[:-1]) / 2)[null.bin_of[known]]
        return np.asarray(middle[x.astype(dtype).view(np.uint16)])
    return law.cdf(x)


def _sample(array: Array) -> Array:
    """Some runs of elements, or all of a small array."""
    if array.size <= SAMPLE:
        return flat(array, 0, array.size)
    runs = 16
    length = SAMPLE // runs
    starts = np.linspace(0, array.size - length, runs).astype(np.int64).tolist()
    return np.concatenate([flat(array, start, start + length) for start in starts])


def _grain(array: Array, null: _Null, tests: _Tests) -> None:
    """Whether values were made from too few random bits."""
    from scipy import stats

    if null.values is not None:
        return  # every value has its bin in the other tests
    if array.size < 1 << 12:
        tests.leave("grain", f"needs {1 << 12} elements")
        return
    x = _sample(array)
    if x.dtype == np.float64:
        patterns = x.view(np.uint64)
        seen, expected = int(np.count_nonzero(patterns & np.uint64(0xFFFF) == 0)), x.size * 2.0**-11
        detail = "values whose last 16 bits are zero"
        if null.spacing > 2.0**-24:
            tests.leave("grain", "the law is hardly wider than the spacing of the dtype's values")
            return
    else:
        counts = np.unique(x, return_counts=True)[1]
        seen = int((counts * (counts - 1) // 2).sum())
        expected = x.size * (x.size - 1) / 2 * (2.0**-23 + null.twins)
        detail = f"equal pairs, of 23 bits {expected:.4g}"
    tests.add("grain", seen, stats.poisson.sf(seen - 1, expected), detail)


def _repeats(size: int, null: _Null, census: _Census, tests: _Tests) -> None:
    """Fingerprints that occur twice."""
    from fastinit.kernels.census import WINDOW

    if size <= WINDOW:
        tests.leave("repeats", f"needs {WINDOW + 1} elements")
        return
    chance = size * size / 2 * null.twin_digits**WINDOW
    if chance > 1e-15:
        tests.leave("repeats", "the law has too few values")
        return
    order = np.argsort(census.prints, kind="stable")
    prints, places = census.prints[order], census.places[order]
    same = np.flatnonzero(prints[1:] == prints[:-1])
    detail = ""
    if same.size:
        first, second = np.sort([places[same], places[same + 1]], axis=0)
        at = second.argmin()
        detail = f"elements from {second[at]} on repeat those from {first[at]} on"
    tests.add("repeats", same.size, chance if same.size else 1.0, detail)


class Shared(NamedTuple):
    """Two tensors that have elements in common, up to a scale: where they begin in each, and how many prints agree."""

    first: str
    second: str
    first_place: int
    second_place: int
    prints: int


def shared_streams(reports: Mapping[str, Report]) -> list[Shared]:
    """Tensors that were made from equal or overlapping streams.

    Fingerprints are made of distances from the mean in units of the law's std, rounded down: the same stream under
    another mean, std or precision still agrees where no element of a window sits at an edge; under another kind of law
    it does not. Some 1e5 fingerprints are kept of a tensor, so that an overlap of less than 1e-4 of one may be missed.

    Examples
    --------
    >>> import fastinit as fi
    >>> a = fi.array(5000, fi.normal(), seed=0, name="w")
    >>> b = fi.array(9000, fi.normal(std=0.02), seed=0, name="w")
    >>> reports = {"a": fi.verify(a, fi.normal()), "b": fi.verify(b, fi.normal(std=0.02))}
    >>> [(found.first, found.second) for found in shared_streams(reports)]
    [('a', 'b')]
    """
    names = [name for name, report in reports.items() if report.summary is not None and len(report.summary.prints)]
    kept = [reports[name].summary for name in names]
    prints = [np.unique(one.prints, return_index=True) for one in kept if one is not None]
    if len(names) < 2:
        return []
    owner = np.repeat(np.arange(len(names)), [len(values) for values, _ in prints])
    values = np.concatenate([values for values, _ in prints])
    places = np.concatenate(
        [one.places[first] for one, (_, first) in zip(kept, prints, strict=True) if one is not None]
    )
    order = np.argsort(values, kind="stable")
    same = np.flatnonzero(values[order][1:] == values[order][:-1])
    pairs: dict[tuple[int, int], list[int]] = {}
    for at in same.tolist():
        pairs.setdefault((int(owner[order[at]]), int(owner[order[at + 1]])), []).append(at)
    return [
        Shared(names[a], names[b], int(places[order[found[0]]]), int(places[order[found[0] + 1]]), len(found))
        for (a, b), found in sorted(pairs.items())
    ]


@dataclass(frozen=True)
class Checkpoint:
    """The verdict on several tensors: each one's report, and which of them have elements in common."""

    passed: bool
    reports: dict[str, Report]
    shared: list[Shared]
    skipped: dict[str, str]  # tensors that were not looked at, and why
    alpha: float

    def __str__(self) -> str:
        if len(self.reports) == 1 and not self.skipped:
            return str(next(iter(self.reports.values())))
        width = max(map(len, [*self.reports, *self.skipped]), default=0)
        lines = [
            f"{'passed' if self.passed else 'REJECTED'}: {len(self.reports)} tensors, family-wise alpha {self.alpha:g}"
        ]
        for name, report in self.reports.items():
            worst = min(report.results, key=lambda result: result.pvalue, default=None)
            least = f"least p {worst.pvalue:.3g} ({worst.name})" if worst else "no tests"
            lines.append(f"{name:{width}}  {'passed' if report.passed else 'REJECTED'}  {least}  {report.law}")
        lines += [f"{name:{width}}  skipped: {reason}" for name, reason in self.skipped.items()]
        for one in self.shared:
            lines.append(
                f"REJECTED: {one.first} from element {one.first_place} on and {one.second} from element "
                f"{one.second_place} on are made of the same stream ({one.prints} fingerprints agree)"
            )
        lines += [f"\n{name}\n{report}" for name, report in self.reports.items() if not report.passed]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """The verdict as JSON can hold it."""
        return {
            "passed": self.passed,
            "alpha": self.alpha,
            "tensors": {name: report.as_dict() for name, report in self.reports.items()},
            "shared": [one._asdict() for one in self.shared],
            "skipped": self.skipped,
        }


def verify_tensors(
    tensors: Mapping[str, tuple[Any, Initializer | Law]], *, alpha: float = 1e-6, threads: int | None = None
) -> Checkpoint:
    """`verify` several tensors, and compare them with each other: `shared_streams`.

    Parameters
    ----------
    tensors
        Each with its initializer or law. Those without a law of their elements, such as `orthogonal`'s, are skipped.
    alpha
        The family-wise error rate of all tests of all tensors; each tensor gets an equal share of it.
    threads
        As for `fill`.

    Examples
    --------
    >>> import fastinit as fi
    >>> from fastinit.verify import verify_tensors
    >>> init = fi.he_normal()
    >>> tensors = {name: (fi.array((64, 64), init, seed=0, name="same"), init) for name in "ab"}
    >>> found = verify_tensors(tensors)
    >>> found.passed, [report.passed for report in found.reports.values()]
    (False, [True, True])
    """
    reports: dict[str, Report] = {}
    skipped: dict[str, str] = {}
    for name, (array, init) in tensors.items():
        try:
            law = law_of(init, as_array(array).shape)
        except TypeError:
            if not isinstance(init, Initializer):
                raise
            skipped[name] = f"{init} has no law of its elements"
            continue
        try:
            reports[name] = verify(array, law, alpha=alpha / len(tensors), threads=threads)
        except (TypeError, ValueError) as error:
            raise type(error)(f"tensor {name!r}: {error}") from None
    shared = shared_streams(reports)
    passed = not shared and all(report.passed for report in reports.values())
    return Checkpoint(passed, reports, shared, skipped, alpha)
