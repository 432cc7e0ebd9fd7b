"""Pictures of `verify`'s reports; they need matplotlib."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

try:
    from matplotlib.figure import Figure
except ImportError:
    raise ImportError("a plot needs matplotlib: pip install fastinit-weights[plot]") from None

from fastinit.core.arrays import Floats
from fastinit.core.text import printable
from fastinit.distributions import Distribution
from fastinit.verification.report import Report, Summary

INK, CURVE, BAND = "#1f4e79", "#c0392b", "#d9d9d9"
COVERED = 0.99  # of the bands


def _quantiles(chances: Floats, rest: Floats, summary: Summary) -> Floats:
    """Return the quantiles of the distribution at these probabilities, between the bins' edges."""
    edges = summary.edges[1:-1]
    left = np.interp(chances, summary.cdf[1:-1], edges)
    right = np.interp(-rest, -summary.sf[1:-1], edges)
    return np.where(chances < 0.5, left, right)


def _histogram(axes: Any, report: Report, summary: Summary) -> None:
    """Draw panel one: densities."""
    distribution = report.distribution
    low, high = distribution.mean - 4.5 * distribution.std, distribution.mean + 4.5 * distribution.std
    low, high = max(low, distribution.support[0]), min(high, distribution.support[1])
    wanted = np.linspace(low, high, 101)
    at = np.unique(np.searchsorted(summary.edges[1:-1], wanted) + 1)  # whole bins only
    ends = np.clip(summary.edges[at], low, high)
    if len(ends) < 3:
        ends, at = np.array([low, high]), np.array([0, len(summary.edges) - 1])
    total = np.concatenate([[0], np.cumsum(summary.counts)])
    width = np.diff(ends)
    keep = width > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        height = np.diff(total[at]) / summary.counts.sum() / width
        truth = np.diff(summary.cdf[at]) / width
    axes.stairs(np.where(keep, height, 0), ends, fill=True, color="#a9c4de", label="array")
    middle = ends[:-1] + width / 2
    axes.plot(middle[keep], truth[keep], color=CURVE, lw=1.3, label="distribution")
    axes.set(title="Histogram", xlabel="value", ylabel="density")
    axes.set_ylim(0, 1.2 * max(axes.get_ylim()[1], 1e-300))
    axes.locator_params(axis="x", nbins=5)
    axes.legend(frameon=False, loc="upper center", ncols=2)


def _quantile_plot(axes: Any, report: Report, summary: Summary) -> None:
    """Draw panel two: the quantiles of the bins' shares of the array, against their edges; units of the std."""
    from scipy import stats

    distribution, size = report.distribution, int(summary.counts.sum())
    below = np.cumsum(summary.counts)[:-1]
    above = size - below
    some = np.flatnonzero((below > 0) & (above > 0) & (summary.counts[:-1] > 0))
    if len(some) > 4000:
        some = some[:: len(some) // 4000 + 1]
    edges = summary.edges[1:-1][some]

    def z(x: Floats) -> Floats:
        return (x - distribution.mean) / distribution.std

    expected = z(_quantiles(below[some] / size, above[some] / size, summary))
    tail = (1 - COVERED) / 2
    bands = []
    for chance in (tail, 1 - tail):
        near = stats.beta.ppf(chance, below[some], above[some] + 1)
        rest = stats.beta.ppf(1 - chance, above[some] + 1, below[some])
        bands.append(z(_quantiles(near, rest, summary)))
    axes.fill_between(expected, *bands, color=BAND, label=f"{COVERED:.0%} of right arrays, at each point")
    ends = [float(expected.min()), float(expected.max())] if len(some) else [-1.0, 1.0]
    axes.plot(ends, ends, color=CURVE, lw=1, label="distribution")
    axes.plot(expected, z(edges), ".", ms=2.5, color=INK, label="array")
    axes.set(title="Q–Q", xlabel="quantile of the distribution (std)", ylabel="quantile of the array (std)")
    axes.legend(frameon=False, loc="upper left")


def _deviation(axes: Any, summary: Summary) -> None:
    """Draw panel three: the empirical distribution function less the expected one, and Kolmogorov-Smirnov's band."""
    from scipy import stats

    size = int(summary.counts.sum())
    distance = np.cumsum(summary.counts) / size - summary.cdf[1:]
    unit = math.sqrt(size)
    limit = float(stats.kstwo.isf(1 - COVERED, size)) * unit
    axes.axhspan(-limit, limit, color=BAND, label=f"{COVERED:.0%} of right arrays, whole curve")
    axes.axhline(0, color=CURVE, lw=1)
    axes.plot(summary.cdf[1:], distance * unit, color=INK, lw=0.9, label="array")
    reach = max(1.25 * limit, 1.1 * float(abs(distance).max()) * unit)
    axes.set(
        title="Distribution function",
        xlabel="probability under the distribution",
        ylabel="(share of the array − probability) × √n",
    )
    axes.set(xlim=(0, 1), ylim=(-reach, 1.35 * reach))
    axes.legend(frameon=False, loc="upper center", ncols=2, fontsize=9)


def _heat_map(figure: Any, axes: Any, report: Report, summary: Summary) -> None:
    """Draw panel four: correlations of rows; of an array without rows, those at the lags."""
    matrix = summary.rows
    if len(matrix) or len(summary.lags) < 2:
        if not len(matrix):
            axes.set_axis_off()
            return
        shown = matrix.copy()
        np.fill_diagonal(shown, np.nan)
        limit = float(np.nanmax(abs(shown)))
        image = axes.imshow(shown, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
        figure.colorbar(image, ax=axes, label="correlation", fraction=0.046, pad=0.03)
        axes.set(title=f"Correlation of {len(matrix)} rows", xlabel="row of the sample", ylabel="row of the sample")
        return
    values = summary.lags[1:]
    band = 2.58 * summary.lag_error
    axes.axhspan(-band, band, color=BAND, label="99% of right arrays, at each lag")
    axes.plot(np.arange(1, len(values) + 1), values, ".", color=INK, ms=2)
    axes.set(title="Correlation along the array", xlabel="lag (elements)", ylabel="correlation", xscale="log")
    axes.set_ylim(axes.get_ylim()[0], 1.3 * axes.get_ylim()[1])
    axes.legend(frameon=False, loc="upper center")


def _blocks(figure: Any, axes: Any, values: Floats, title: str, centre: float, label: str) -> None:
    """Draw panels five and six: means and stds of blocks of rows and columns, in those of the distribution."""
    limit = float(np.nanmax(abs(values - centre), initial=0)) or 1.0
    image = axes.imshow(
        values, cmap="RdBu_r", vmin=centre - limit, vmax=centre + limit, interpolation="nearest", aspect="auto"
    )
    figure.colorbar(image, ax=axes, label=label, fraction=0.046, pad=0.03)
    rows, columns = values.shape
    axes.set(title=title, xlabel=f"block of columns (of {columns})", ylabel=f"block of rows (of {rows})")


def _four_digits(distribution: Distribution) -> str:
    """Return a distribution's repr with numbers of four digits."""
    return re.sub(r"\d+\.\d+(e[+-]\d+)?", lambda found: f"{float(found[0]):.4g}", repr(distribution))


def _title(report: Report, name: str, tensors: int) -> str:
    """Return the tensor's name and claim, the verdict, and the least p among how many."""
    least = min(report.results, key=lambda result: result.pvalue)
    failed = [result.name for result in report.results if not result.passed]
    verdict = "passed" if report.passed else f"rejected by {', '.join(failed[:4])}{' …' if len(failed) > 4 else ''}"
    subject = f"{printable(name)[:60]}: " if name else ""
    chosen = f", the least of {tensors} tensors, which may leave a band by chance" if tensors > 1 else ""
    return (
        f"{subject}{report.size:,} elements of {report.dtype} as {_four_digits(report.distribution)}\n"
        f"{verdict}; least p of {len(report.results)} tests {least.pvalue:.3g} ({least.name}){chosen}"
    )


def plot(report: Report, path: str | Path, *, name: str = "", tensors: int = 1) -> None:
    """Write a report's picture: histogram, Q-Q plot, deviation of the distribution function, correlations, blocks.

    The bands are those of a right array, for each point of the Q-Q plot (the beta distribution of an order statistic)
    and for the whole curve of the deviation (Kolmogorov-Smirnov); the latter is in units of 1 / sqrt(n). The blocks are
    32 by 16 of the matrix that the array is seen as; their means and stds are those of normal scores.

    Parameters
    ----------
    report
        Of `verify`.
    path
        The file; its ending names the format, such as .png, .pdf or .svg.
    name
        The tensor's, for the title.
    tensors
        Number of tensors of which this one is the least likely, for the title.

    Raises
    ------
    ValueError
        If the report is of a constant or of an empty array: there is nothing to plot.

    Examples
    --------
    >>> import fastinit as fi, os, tempfile
    >>> from fastinit.verification.plots import plot
    >>> report = fi.verify(fi.array((64, 64), fi.normal(), seed=0, name="w"), fi.normal())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     plot(report, f"{folder}/w.png")
    ...     os.listdir(folder)
    ['w.png']
    """
    summary = report.summary
    if summary is None or not summary.counts.sum():
        raise ValueError(f"report must be of draws, got one of {report.size} elements of {report.distribution}")
    figure = Figure(figsize=(15, 8), layout="constrained")
    grid = figure.subplots(2, 3)
    _histogram(grid[0, 0], report, summary)
    _quantile_plot(grid[0, 1], report, summary)
    _deviation(grid[1, 0], summary)
    _heat_map(figure, grid[1, 1], report, summary)
    means, stds = summary.blocks
    _blocks(figure, grid[0, 2], means, "Means of blocks", 0.0, "mean (std from the expected one)")
    _blocks(figure, grid[1, 2], stds, "Stds of blocks", 1.0, "std (of the distribution's)")
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(_title(report, name, tensors), fontsize=11)
    figure.savefig(path, dpi=150)
