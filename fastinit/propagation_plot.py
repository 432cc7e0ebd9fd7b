"""Pictures of signal propagation, by the package matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fastinit.propagation import Propagation


def draw(found: Sequence[Propagation] | Mapping[str, Propagation], path: Path | str, title: str = "") -> None:
    """Write a picture of the stds by layer, of activations and of gradients, measured and predicted.

    Parameters
    ----------
    found
        What `propagate` returned; a mapping gives the labels of the legend.
    path
        Of the picture; its ending tells the format.
    title
        By default the activation and the depth.

    Raises
    ------
    ImportError
        Without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("a plot needs the package matplotlib: pip install fastinit[plot]") from None
    labelled = found if isinstance(found, Mapping) else {str(one.init).removesuffix("()"): one for one in found}
    first = next(iter(labelled.values()))
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    figure.suptitle(title or f"{first.activation}, {first.depth} layers")
    forward, backward = figure.subplots(1, 2)
    for number, (label, one) in enumerate(labelled.items()):
        layers = np.arange(1, one.depth + 1)
        for axes, std, predicted in (
            (forward, one.activation_std, one.predicted_std),
            (backward, one.gradient_std, one.predicted_gradient_std),
        ):
            good = np.isfinite(std) & (std > 0)
            known = np.isfinite(predicted) & (predicted > 1e-45) & (predicted < 1e39)  # what a float32 can be
            marks = "o" if one.depth < 30 else ""
            axes.plot(layers[good], std[good], color=f"C{number}", label=label, marker=marks, markersize=4)
            axes.plot(layers[known], predicted[known], color=f"C{number}", linestyle="--", linewidth=1)
        if one.overflow_layer:
            forward.axvline(one.overflow_layer, color=f"C{number}", linestyle=":")
    for axes, what in ((forward, "activations"), (backward, "gradients w.r.t. activations")):
        axes.set(yscale="log", xlabel="layer", ylabel="standard deviation", title=what)
        axes.plot([], [], color="black", linestyle="--", linewidth=1, label="predicted")
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, 0.5), max(high, 2.0))  # a std that holds should look like it
    if any(one.overflow_layer for one in labelled.values()):
        forward.plot([], [], color="black", linestyle=":", label="overflow")
    handles, labels = forward.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(handles), 4), frameon=False)
    figure.savefig(path, dpi=110)
