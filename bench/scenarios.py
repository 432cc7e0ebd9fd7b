"""The classical experiments of initialization: theory beside measurement, in one page.

``python -m bench.scenarios`` runs them all, a minute or two, and writes ``bench/gallery/README.md`` and its pictures.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fastinit as fi
from bench.training import Trained, train
from fastinit.fans import MODES
from fastinit.propagation_plot import draw

GALLERY = Path(__file__).resolve().parent / "gallery"
LARGEST = float(np.finfo(np.float32).max)
HEURISTIC = fi.variance_scaling(1 / 3, "fan_in", "uniform")  # U(-1, 1) / sqrt(n)
BATCH = 64


@dataclass(frozen=True)
class Row:
    """One figure: where it should lie, and where it lies."""

    setting: str
    quantity: str
    predicted: float
    measured: float
    low: float
    high: float

    @property
    def holds(self) -> bool:
        """Whether the measured figure is in [low, high]; a NaN is not."""
        return self.low <= self.measured <= self.high


@dataclass(frozen=True)
class Outcome:
    """The rows of a scenario, and what draws its picture."""

    rows: list[Row]
    draw: Callable[[Path], None]


def within(setting: str, quantity: str, predicted: float, measured: float, factor: float) -> Row:
    """A figure within a factor of the predicted one."""
    return Row(setting, quantity, predicted, measured, predicted / factor, predicted * factor)


def about(setting: str, quantity: str, predicted: float, measured: float, margin: float) -> Row:
    """A figure within a distance of the predicted one."""
    return Row(setting, quantity, predicted, measured, predicted - margin, predicted + margin)


def stds(label: str, p: fi.Propagation, *, gradient: bool = True) -> list[Row]:
    """The last activations' std, and the first layer's gradients', within four deviations of what width n allows."""
    depth = p.depth
    rows = [within(label, f"std at layer {depth}", p.predicted_std[-1], p.activation_std[-1], p.tolerance()[-1])]
    if gradient:
        limit = p.tolerance(gradient=True)[0]
        rows.append(within(label, "gradient std at layer 1", p.predicted_gradient_std[0], p.gradient_std[0], limit))
    return rows


def first_std(label: str, p: fi.Propagation) -> Row:
    """The std of one layer's sums."""
    limit = math.exp(4 * math.sqrt(2 / p.widths[0] + 2 / p.widths[1]) / 2)
    return within(label, "std of W x, layer 1", p.predicted_preactivation_std[0], p.preactivation_std[0], limit)


def crossing(label: str, quantity: str, p: fi.Propagation, found: int | None, bound: float) -> Row:
    """The layer where a std passes a bound; the margin is that of the std there, in layers, and one for rounding up."""
    predicted = p.predicted_std
    passed = predicted >= bound if bound > 1 else predicted < bound
    layer = int(np.argmax(passed)) + 1
    rate = abs(math.log(predicted[layer - 1] / predicted[layer - 2]))
    margin = math.ceil(math.log(p.tolerance()[layer - 1]) / rate)
    return about(label, quantity, layer, math.nan if found is None else found, margin)


def overflow(label: str, p: fi.Propagation) -> Row:
    """The layer of the first infinity: the largest of N normal values is near sqrt(2 log N) stds."""
    largest = math.sqrt(2 * math.log(BATCH * p.widths[-1]))
    return crossing(label, "layer that overflows", p, p.overflow_layer, LARGEST / largest)


def vanishing(label: str, p: fi.Propagation) -> Row:
    """The layer where activations fall below float32's rounding of 1."""
    return crossing(label, "layer that vanishes (2^-23)", p, p.vanish_layer, 2.0**-23)


def send(
    init: fi.Initializer, activation: str, depth: int = 100, width: int | list[int] = 512, **more: Any
) -> fi.Propagation:
    """A propagation of the gallery's batch."""
    return fi.propagate(init, activation=activation, depth=depth, width=width, batch=BATCH, **more)


def linear() -> Outcome:
    """100 linear layers of width 512: standard normal weights overflow, 0.01 of them vanish, 1/sqrt(n) holds."""
    big, small, good = (send(init, "linear") for init in (fi.normal(), fi.normal(std=0.01), fi.lecun_normal()))
    labels = "N(0, 1)", "0.01 N(0, 1)", "N(0, 1) / sqrt(n)"
    rows = [first_std(labels[0], big), overflow(labels[0], big), vanishing(labels[1], small), *stds(labels[2], good)]
    return Outcome(rows, lambda path: draw(dict(zip(labels, (big, small, good), strict=True)), path))


def tanh() -> Outcome:
    """100 tanh layers: Xavier and 1/sqrt(n) fall like 1/sqrt(layer) and hold; U(-1, 1)/sqrt(n) vanishes."""
    inits = {"N(0, 1) / sqrt(n)": fi.lecun_normal(), "U(-1, 1) / sqrt(n)": HEURISTIC, "Xavier": fi.xavier_uniform()}
    found = {label: send(init, "tanh") for label, init in inits.items()}
    rows = [row for label, p in found.items() for row in stds(label, p)]
    rows.insert(2, vanishing("U(-1, 1) / sqrt(n)", found["U(-1, 1) / sqrt(n)"]))
    return Outcome(rows, lambda path: draw(found, path))


def relu() -> Outcome:
    """100 relu layers: one has a root mean square of sqrt(n/2); He holds, Xavier falls by sqrt(2) a layer."""
    inits = {"N(0, 1)": fi.normal(), "Xavier": fi.xavier_normal(), "He": fi.he_normal()}
    found = {label: send(init, "relu") for label, init in inits.items()}
    p = found["N(0, 1)"]
    rms = math.hypot(p.activation_mean[0], p.activation_std[0])
    rows = [
        within("N(0, 1)", "root mean square at layer 1", math.sqrt(512 / 2), rms, math.exp(2 * math.sqrt(7 / 512))),
        overflow("N(0, 1)", p),
        vanishing("Xavier", found["Xavier"]),
        *stds("Xavier", found["Xavier"]),
        *stds("He", found["He"]),
    ]
    return Outcome(rows, lambda path: draw(found, path))


def symmetry() -> Outcome:
    """Two hidden tanh layers of 32, trained for 5 epochs: of zeros nothing moves, of constants all units stay one."""
    inits = {"zeros": fi.zeros(), "constant 0.1": fi.constant(0.1), "Xavier": fi.xavier_normal()}
    found = {label: train(init, activation="tanh", hidden=2, width=32, rate=0.05, epochs=5)
             for label, init in inits.items()}  # fmt: skip

    def distinct(trained: Trained) -> int:
        return len(np.unique(trained.weights[0].round(4), axis=0))

    rows = [about(label, "different units of 32 after training", want, distinct(found[label]), 0)
            for label, want in zip(inits, (1, 1, 32), strict=True)]  # fmt: skip
    rows.append(about("zeros", "loss after training: log 10", math.log(10), found["zeros"].losses[-1], 1e-3))
    return Outcome(rows, lambda path: curves(found, path, "tanh, 2 hidden layers of 32"))


def scale() -> Outcome:
    """Too small (0.001, 0.01): tanh is linear and vanishes. Too large (1): tanh and sigmoid saturate."""
    found = {f"{name}, std {std:g}": send(fi.normal(std=std), name, depth=20)
             for name, std in (("tanh", 0.001), ("tanh", 0.01), ("tanh", 1.0), ("sigmoid", 1.0))}  # fmt: skip
    rows = [row for label in list(found)[:2] for row in stds(label, found[label])]
    # abs(f') < 0.01 where abs(z) is above a bound; units of a layer are independent, so a share of n of them errs
    # by sqrt(1/4 / n) at most
    for label, bound in (("tanh, std 1", math.atanh(math.sqrt(0.99))), ("sigmoid, std 1", math.log(97.9898))):
        p = found[label]
        share = math.erfc(bound / p.predicted_preactivation_std[-1] / math.sqrt(2))
        rows.append(about(label, "saturated at layer 20", share, p.saturated[-1], 4 * math.sqrt(0.25 / 512)))
    return Outcome(rows, lambda path: draw(found, path, "tanh and sigmoid, 20 layers"))


def fans() -> Outcome:
    """A relu network that narrows and widens: fan_in keeps activations, fan_out gradients, their average neither."""
    widths = [1024, 512, 256, 128, 256, 512, 1024, 2048, 512, 128]
    inits = {mode: fi.parse(f"variance_scaling(2.0, {mode!r}, 'normal')") for mode in MODES[:3]}
    found = {mode: send(init, "relu", len(widths) - 1, widths) for mode, init in inits.items()}
    return Outcome(
        [row for mode, p in found.items() for row in stds(mode, p)],
        lambda path: draw(found, path, "relu, widths " + " ".join(map(str, widths))),
    )


def first_layer() -> Outcome:
    """He's first layer sees the input, not half of it: 1/n gives W x a std of 1 there, 2/n sqrt(2), once."""
    found = {"1/n": send(fi.lecun_normal(), "relu", 1), "2/n": send(fi.he_normal(), "relu", 1)}
    both = {"2/n everywhere": send(fi.he_normal(), "relu", 30)}
    rows = [first_std(label, p) for label, p in found.items()]
    return Outcome([*rows, *stds("2/n everywhere", both["2/n everywhere"])], lambda path: draw({**both, **found}, path))


def leaky() -> Outcome:
    """50 leaky relu layers of slope 0.5: He's gain without it grows by sqrt(1 + a^2) a layer, with it holds."""
    inits = {"He, a ignored": fi.he_normal(), "He, a = 0.5": fi.he_normal(nonlinearity="leaky_relu", a=0.5)}
    found = {label: send(init, "leaky_relu", 50, a=0.5) for label, init in inits.items()}
    return Outcome([row for label, p in found.items() for row in stds(label, p)], lambda path: draw(found, path))


def glorot() -> Outcome:
    """Glorot and Bengio's 5 tanh layers of width 1000: the heuristic's gradients shrink backwards, Xavier's hardly."""
    inits = {"U(-1, 1) / sqrt(n)": HEURISTIC, "Xavier": fi.xavier_uniform()}
    found = {label: send(init, "tanh", 5, 1000) for label, init in inits.items()}
    return Outcome([row for label, p in found.items() for row in stds(label, p)], lambda path: draw(found, path))


def sparse() -> Outcome:
    """30 relu layers with 16 weights to a unit (Martens): a std of sqrt(2/16) holds, 0.01 vanishes."""
    share = 1 - 16 / 512
    inits = {"std sqrt(2/16)": fi.sparse(share, std=math.sqrt(2 / 16)), "std 0.01": fi.sparse(share, std=0.01)}
    found = {label: send(init, "relu", 30) for label, init in inits.items()}
    good, small = found
    rows = [*stds(good, found[good]), vanishing(small, found[small])]
    return Outcome(rows, lambda path: draw(found, path))


def normalization() -> Outcome:
    """20 relu layers: normalization forgives any scale; batch normalization's gradients still grow."""
    found = {
        "0.01, batch norm": send(fi.normal(std=0.01), "relu", 20, batch_norm=True),
        "1, batch norm": send(fi.normal(), "relu", 20, batch_norm=True),
        "1, layer norm": send(fi.normal(), "relu", 20, layer_norm=True),
        "1": send(fi.normal(), "relu", 20),
    }
    rows = [row for label, p in found.items() for row in stds(label, p)]
    return Outcome(rows, lambda path: draw(found, path, "relu, 20 layers of normal weights"))


def residual() -> Outcome:
    """50 residual relu blocks: He's doubles the mean square in each and more; divided by sqrt(2 L), it holds."""
    inits = {"He": fi.he_normal(), "He, depth=50": fi.he_normal(depth=50)}
    found = {label: send(init, "relu", 50, residual=True) for label, init in inits.items()}
    # unscaled, the theory of gradients is no bound (see propagate's notes)
    rows = [row for label, p in found.items() for row in stds(label, p, gradient=label != "He")]
    return Outcome(rows, lambda path: draw(found, path, "x + relu(W x), 50 layers"))


def convolution() -> Outcome:
    """10 convolutions of 3 x 3, 64 channels, relu: fans count the receptive field, He holds, Xavier vanishes."""
    inits = {"He": fi.he_normal(), "Xavier": fi.xavier_normal()}
    found = {label: send(init, "relu", 10, 64, kernel=3, size=6) for label, init in inits.items()}
    return Outcome(
        [row for label, p in found.items() for row in stds(label, p)],
        lambda path: draw(found, path, "3 x 3 convolutions, relu, 10 layers"),
    )


def deep_training() -> Outcome:
    """Digits, 30 relu layers (He et al., figure 3): Xavier's signal is 2^-15 of the input's and stalls, He learns."""
    found = {label: train(init, activation="relu", hidden=30, width=64, rate=0.005, epochs=15)
             for label, init in (("Xavier", fi.xavier_normal()), ("He", fi.he_normal()))}  # fmt: skip
    # Logits and gradients of some 2^-15 leave the loss where equal chances have it, to about their size; a network
    # that learns does better than half of log 10, which equal chances miss by all of it.
    rows = [
        about("Xavier", "loss after 15 epochs: log 10", math.log(10), found["Xavier"].losses[-1], 0.01),
        Row("He", "loss after 15 epochs: it learns", math.nan, found["He"].losses[-1], 0.0, math.log(10) / 2),
        Row("He", "accuracy (chance 0.1)", math.nan, found["He"].accuracy, 0.5, 1.0),
    ]
    return Outcome(rows, lambda path: curves(found, path, "digits, 30 relu layers of 64"))


def shallow_training() -> Outcome:
    """Digits, 5 tanh layers of 128 (Glorot and Bengio): Xavier learns faster than the heuristic."""
    found = {label: train(init, activation="tanh", hidden=5, width=128, rate=0.02, epochs=20)
             for label, init in (("U(-1, 1) / sqrt(n)", HEURISTIC), ("Xavier", fi.xavier_uniform()))}  # fmt: skip
    slow, fast = (trained.losses for trained in found.values())
    # The heuristic's signals and gradients are about sqrt(3)^5 = 16 times smaller, so that its first steps do less: it
    # needs more epochs, and its loss stays above.
    rows = [
        Row("both", "epochs of the heuristic to Xavier's loss of epoch 5", math.nan,
            next((n for n, value in enumerate(slow) if value <= fast[5]), len(slow)), 6.0, math.inf),
        Row("both", "loss of the heuristic over Xavier's, epoch 20", math.nan, slow[-1] / fast[-1], 1.0, math.inf),
    ]  # fmt: skip
    return Outcome(rows, lambda path: curves(found, path, "digits, 5 tanh layers of 128"))


def curves(found: dict[str, Trained], path: Path, title: str) -> None:
    """The losses by epoch."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for label, trained in found.items():
        axes.plot(trained.losses, label=label)
    axes.axhline(math.log(10), color="black", linestyle=":", label="log 10: equal chances")
    axes.set(xlabel="epoch", ylabel="training loss, nats", title=title, ylim=(0, None))
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


SCENARIOS: dict[str, Callable[[], Outcome]] = {
    run.__name__: run
    for run in (
        linear, tanh, relu, symmetry, scale, fans, first_layer, leaky, glorot, sparse, normalization, residual,
        convolution, deep_training, shallow_training,
    )
}  # fmt: skip


def figure(value: float) -> str:
    """A number of three digits."""
    return "–" if math.isnan(value) else "∞" if math.isinf(value) else f"{value:.3g}"


def table(name: str, rows: list[Row]) -> list[str]:
    """The rows of a scenario, as those of one table."""
    return [
        f"| [{name}](#{name}) | {row.setting} | {row.quantity} | {figure(row.predicted)} | {figure(row.measured)} "
        f"| {figure(row.low)} to {figure(row.high)} | {'holds' if row.holds else '**fails**'} |"
        for row in rows
    ]


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(SCENARIOS)}; all by default")
    parser.add_argument("--out", type=Path, default=GALLERY)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    lines, sections, failed = [], [], 0
    began = time.perf_counter()
    for name in options.names or SCENARIOS:
        outcome = SCENARIOS[name]()
        outcome.draw(options.out / f"{name}.png")
        lines += table(name, outcome.rows)
        failed += sum(not row.holds for row in outcome.rows)
        sections += [f"## {name}", "", SCENARIOS[name].__doc__ or "", "", f"![{name}]({name}.png)", ""]
        print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
    head = [
        "# Signal propagation: the classical experiments",
        "",
        "Written by `python -m bench.scenarios`. Predictions are the recursion of variances in wide layers; a figure",
        "may lie where four standard deviations of the finite width's fluctuations allow (`Propagation.tolerance`:",
        "relative fluctuations of about sqrt(c L / (4 n)) after L layers of width n, c = 2 for linear layers, 5 for",
        "relu), or in the interval that the scenario's comment in `bench/scenarios.py` derives.",
        "",
        "| scenario | setting | figure | predicted | measured | allowed | |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    (options.out / "README.md").write_text("\n".join([*head, *lines, "", *sections]))
    raise SystemExit(failed > 0)


if __name__ == "__main__":
    main()
