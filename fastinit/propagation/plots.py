"""Pictures of `propagate`'s layers; they need matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

try:
    from matplotlib.figure import Figure
except ImportError:
    raise ImportError("a plot needs matplotlib: pip install fastinit-weights[plot]") from None

from fastinit.core.arrays import Floats
from fastinit.initializers.parsing import brief
from fastinit.propagation.simulation import Propagation


def plot_propagation(
    found: Sequence[Propagation] | Mapping[str, Propagation], path: str | Path, title: str = ""
) -> None:
    """Write a picture of the stds by layer, of activations and of gradients, measured and predicted.

    Shaded is where theory expects a network of these widths: four standard deviations (`Propagation.interval`).

    Parameters
    ----------
    found
        Results of `propagate`; a mapping gives the labels of the legend.
    path
        The file; its ending names the format, such as .png, .pdf or .svg.
    title
        By default the activation and the depth.

    Raises
    ------
    ValueError
        If there is nothing to plot.

    Examples
    --------
    >>> import fastinit as fi, os, tempfile
    >>> from fastinit.propagation.plots import plot_propagation
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     plot_propagation([fi.propagate(fi.he_normal(), depth=5, width=64)], f"{folder}/p.png")
    ...     os.listdir(folder)
    ['p.png']
    """
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    labelled = found if isinstance(found, Mapping) else {brief(one.init): one for one in found}
    if not labelled:
        raise ValueError("found must have a propagation or more, got none")
    first = next(iter(labelled.values()))
    figure.suptitle(title or f"{first.activation}, {first.depth} layers")
    forward, backward = figure.subplots(1, 2)
    for number, (label, one) in enumerate(labelled.items()):
        _stds(forward, one, one.activation_std, one.predicted_std, one.interval(), f"C{number}", label)
        gradients = one.gradient_std, one.predicted_gradient_std, one.interval(gradient=True)
        _stds(backward, one, *gradients, f"C{number}", label)
        if one.overflow_layer:
            forward.axvline(one.overflow_layer, color=f"C{number}", linestyle=":")
    for axes, title in ((forward, "activations"), (backward, "gradients with respect to activations")):
        axes.set(yscale="log", xlabel="layer", ylabel="standard deviation", title=title)
        axes.locator_params(axis="x", integer=True)
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, 0.5), max(high, 2.0))  # a std that holds should look like it
        axes.spines[["top", "right"]].set_visible(False)
    forward.plot([], [], color="black", linestyle="--", linewidth=0.8, label="predicted")
    forward.fill_between([], [], [], color="black", alpha=0.15, label="±4 deviations")
    if any(one.overflow_layer for one in labelled.values()):
        forward.plot([], [], color="black", linestyle=":", label="overflow")
    handles, labels = forward.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(handles), 6), frameon=False)
    figure.savefig(path, dpi=110)


def _stds(
    axes: Any, one: Propagation, std: Floats, predicted: Floats, interval: tuple[Floats, Floats], color: str, label: str
) -> None:
    """Draw one line with its prediction; on a log axis, so without zeros."""
    layers = np.arange(1, one.depth + 1)
    good = np.isfinite(std) & (std > 0)
    known = np.isfinite(predicted) & (predicted > 1e-45) & (predicted < 1e39)  # a float32's range
    marks = "o" if one.depth < 30 else ""
    axes.plot(layers[good], std[good], color=color, label=label, marker=marks, markersize=4, linewidth=2)
    axes.plot(layers[known], predicted[known], color="black", linestyle="--", linewidth=0.8)
    axes.fill_between(layers[known], *(bound[known] for bound in interval), color=color, alpha=0.15, linewidth=0)
