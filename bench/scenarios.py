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
from fastinit.initializers.connections import MODES
from fastinit.propagation.mean_field import wandering
from fastinit.propagation.plots import plot_propagation

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


def about(setting: str, quantity: str, predicted: float, measured: float, margin: float) -> Row:
    """A figure within a distance of the predicted one."""
    return Row(setting, quantity, predicted, measured, predicted - margin, predicted + margin)


def inside(setting: str, quantity: str, measured: float, low: float, high: float) -> Row:
    """A figure of which theory gives only bounds."""
    return Row(setting, quantity, math.nan, measured, low, high)


class Sample(list[fi.Propagation]):
    """Independent networks of the same kind; their geometric mean wanders by the root of their number less."""

    def mean(self, field: str, layer: int) -> float:
        """The geometric mean of a field in one layer."""
        with np.errstate(divide="ignore"):
            return float(np.exp(np.mean([np.log(getattr(p, field)[layer]) for p in self])))

    @property
    def deviations(self) -> float:
        """Four of the mean, in those of one network."""
        return 4 / math.sqrt(len(self))


def std(label: str, sample: Sample, layer: int, *, gradient: bool = False) -> Row:
    """The std of a layer, from 1, of activations or of gradients."""
    name = "gradient" if gradient else "activation"
    p, prefix = sample[0], "gradient_" if gradient else ""
    predicted = getattr(p, f"predicted_{prefix}std")[layer - 1]
    low, high = (bound[layer - 1] for bound in p.interval(sample.deviations, gradient=gradient))
    quantity = f"{prefix.replace('_', ' ')}std at layer {layer}"
    return Row(label, quantity, predicted, sample.mean(f"{name}_std", layer - 1), low, high)


def wander(label: str, quantity: str, predicted: float, measured: float, spread: float, sample: Sample) -> Row:
    """A figure whose logarithm has this spread in one network."""
    low, high = wandering(np.array(spread), sample.deviations)
    return Row(label, quantity, predicted, measured, predicted * float(low), predicted * float(high))


def ends(found: dict[str, Sample]) -> list[Row]:
    """The std of the last activations and of the first layer's gradients, of each setting."""
    return [
        row
        for label, sample in found.items()
        for row in (std(label, sample, sample[0].depth), std(label, sample, 1, gradient=True))
    ]


def first_std(label: str, sample: Sample) -> Row:
    """The std of one layer's sums."""
    p = sample[0]
    spread = math.sqrt(2 / p.widths[0] + 2 / p.widths[1]) / 2
    found = sample.mean("preactivation_std", 0)
    return wander(label, "std of W x, layer 1", p.predicted_preactivation_std[0], found, spread, sample)


def crossing(label: str, quantity: str, sample: Sample, field: str, bound: float) -> Row:
    """The mean of the layers where a std passes a bound: what is allowed of the std there, in layers, and one more."""
    p, found = sample[0], [getattr(p, field) for p in sample]
    passed = p.predicted_std >= bound if bound > 1 else p.predicted_std < bound
    layer = int(np.argmax(passed)) + 1
    rate = math.log(p.predicted_std[layer - 1] / p.predicted_std[layer - 2])
    ends = sorted(
        layer - math.log(float(factor)) / rate for factor in wandering(p.spread[layer - 1], sample.deviations)
    )
    measured = math.nan if None in found else float(np.mean(found))
    return Row(label, quantity, layer, measured, ends[0] - 1, ends[1] + 1)


def overflow(label: str, sample: Sample) -> Row:
    """The layer of the first infinity: the largest of N normal values is near sqrt(2 log N) stds."""
    largest = math.sqrt(2 * math.log(BATCH * sample[0].widths[-1]))
    return crossing(label, "layer that overflows", sample, "overflow_layer", LARGEST / largest)


def vanishing(label: str, sample: Sample) -> Row:
    """The layer where activations fall below float32's rounding of 1."""
    return crossing(label, "layer that vanishes (2^-23)", sample, "vanish_layer", 2.0**-23)


def send(
    networks: int, init: fi.Initializer, activation: str, depth: int = 100, width: int | list[int] = 512, **more: Any
) -> Sample:
    """Propagations of the page's batch, with seeds from 0 on."""
    return Sample(
        fi.propagate(init, activation=activation, depth=depth, width=width, batch=BATCH, seed=seed, **more)
        for seed in range(networks)
    )


def picture(found: dict[str, Sample], title: str = "") -> Callable[[Path], None]:
    """Draws the first network of each setting."""
    return lambda path: plot_propagation({label: sample[0] for label, sample in found.items()}, path, title)


def linear(networks: int) -> Outcome:
    """100 linear layers of width 512: standard normal weights overflow, 0.01 of them vanish, 1/sqrt(n) holds."""
    inits = {"N(0, 1)": fi.normal(), "0.01 N(0, 1)": fi.normal(std=0.01), "N(0, 1) / sqrt(n)": fi.lecun_normal()}
    found = {label: send(networks, init, "linear") for label, init in inits.items()}
    big, small, good = found
    rows = [first_std(big, found[big]), overflow(big, found[big]), vanishing(small, found[small])]
    return Outcome([*rows, *ends({good: found[good]})], picture(found))


def tanh(networks: int) -> Outcome:
    """100 tanh layers: Xavier and 1/sqrt(n) fall like 1/sqrt(layer) and hold; U(-1, 1)/sqrt(n) vanishes."""
    inits = {"N(0, 1) / sqrt(n)": fi.lecun_normal(), "U(-1, 1) / sqrt(n)": HEURISTIC, "Xavier": fi.xavier_uniform()}
    found = {label: send(networks, init, "tanh") for label, init in inits.items()}
    heuristic = "U(-1, 1) / sqrt(n)"
    return Outcome([vanishing(heuristic, found[heuristic]), *ends(found)], picture(found))


def relu(networks: int) -> Outcome:
    """100 relu layers: one has a root mean square of sqrt(n/2); He holds, Xavier falls by sqrt(2) a layer."""
    inits = {"N(0, 1)": fi.normal(), "Xavier": fi.xavier_normal(), "He": fi.he_normal()}
    found = {label: send(networks, init, "relu") for label, init in inits.items()}
    big, xavier, he = found
    rms = math.exp(np.mean([math.log(math.hypot(p.activation_mean[0], p.activation_std[0])) for p in found[big]]))
    spread = math.sqrt(7 / 512) / 2  # 2 of the input and 5 of the layer
    rows = [
        wander(big, "rms at layer 1", math.sqrt(512 / 2), rms, spread, found[big]),
        overflow(big, found[big]),
        vanishing(xavier, found[xavier]),
    ]
    return Outcome([*rows, *ends({xavier: found[xavier], he: found[he]})], picture(found))


def symmetry(networks: int) -> Outcome:
    """Two hidden tanh layers of 32, trained for 5 epochs: of zeros nothing moves, of constants all units stay one."""
    inits = {"zeros": fi.zeros(), "constant 0.1": fi.constant(0.1), "Xavier": fi.xavier_normal()}
    found = {label: train(init, activation="tanh", hidden=2, width=32, rate=0.05, epochs=5)
             for label, init in inits.items()}  # fmt: skip

    def distinct(trained: Trained) -> int:
        return len(np.unique(trained.weights[0].round(4), axis=0))

    rows = [about(label, "different units of 32 after training", want, distinct(found[label]), 0)
            for label, want in zip(inits, (1, 1, 32), strict=True)]  # fmt: skip
    stuck = fi.propagate(fi.zeros(), activation="tanh", depth=2, width=32)
    rows += [
        about("zeros", "largest std of a weight's gradient", 0.0, stuck.weight_gradient_std.max(), 0.0),
        about("zeros", "loss after training: log 10", math.log(10), found["zeros"].losses[-1], 1e-3),
    ]
    return Outcome(rows, lambda path: curves(found, path, "tanh, 2 hidden layers of 32"))


def scale(networks: int) -> Outcome:
    """Too small (0.001, 0.01): tanh is linear and vanishes. Too large (1): tanh and sigmoid saturate."""
    found = {f"{name}, std {std:g}": send(networks, fi.normal(std=std), name, depth=20)
             for name, std in (("tanh", 0.001), ("tanh", 0.01), ("tanh", 1.0), ("sigmoid", 1.0))}  # fmt: skip
    rows = ends(dict(list(found.items())[:2]))
    # abs(f') < 0.01 where abs(z) is above a bound; units of a layer are independent, so a share of n of them errs
    # by sqrt(1/4 / n) at most
    for label, bound in (("tanh, std 1", math.atanh(math.sqrt(0.99))), ("sigmoid, std 1", math.log(97.9898))):
        sample = found[label]
        share = math.erfc(bound / sample[0].predicted_preactivation_std[-1] / math.sqrt(2))
        measured = float(np.mean([p.saturated[-1] for p in sample]))
        rows.append(about(label, "saturated at layer 20", share, measured, 4 * math.sqrt(0.25 / 512 / networks)))
    return Outcome(rows, picture(found, "tanh and sigmoid, 20 layers"))


def fans(networks: int) -> Outcome:
    """A relu network that narrows and widens: fan_in keeps activations, fan_out gradients, their average neither."""
    widths = [1024, 512, 256, 128, 256, 512, 1024, 2048, 512, 128]
    inits = {mode: fi.parse(f"variance_scaling(2.0, {mode!r}, 'normal')") for mode in MODES[:3]}
    found = {mode: send(networks, init, "relu", len(widths) - 1, widths) for mode, init in inits.items()}
    return Outcome(ends(found), picture(found, "relu, widths " + " ".join(map(str, widths))))


def first_layer(networks: int) -> Outcome:
    """He's first layer sees the input, not half of it: 1/n gives W x a std of 1 there, 2/n sqrt(2), once."""
    found = {"1/n": send(networks, fi.lecun_normal(), "relu", 1), "2/n": send(networks, fi.he_normal(), "relu", 1)}
    rows = [first_std(label, sample) for label, sample in found.items()]
    everywhere = {"2/n everywhere": send(networks, fi.he_normal(), "relu", 30)}
    return Outcome([*rows, *ends(everywhere)], picture({**everywhere, **found}))


def leaky(networks: int) -> Outcome:
    """50 leaky relu layers of slope 0.5: He's gain without it grows by sqrt(1 + a^2) a layer, with it holds."""
    inits = {"He, a ignored": fi.he_normal(), "He, a = 0.5": fi.he_normal(nonlinearity="leaky_relu", a=0.5)}
    found = {label: send(networks, init, "leaky_relu", 50, a=0.5) for label, init in inits.items()}
    return Outcome(ends(found), picture(found))


def glorot(networks: int) -> Outcome:
    """Glorot and Bengio's 5 tanh layers of width 1000: the heuristic's gradients shrink backwards, Xavier's hardly."""
    inits = {"U(-1, 1) / sqrt(n)": HEURISTIC, "Xavier": fi.xavier_uniform()}
    found = {label: send(networks, init, "tanh", 5, 1000) for label, init in inits.items()}
    rows = []
    for label, sample in found.items():
        rows += [std(label, sample, layer) for layer in range(1, 6)]
        rows += [std(label, sample, layer, gradient=True) for layer in range(1, 5)]
    return Outcome(rows, picture(found))


def sparse(networks: int) -> Outcome:
    """30 relu layers with 16 weights to a unit (Martens): a std of sqrt(2/16) holds, 0.01 vanishes."""
    share = 1 - 16 / 512
    inits = {"std sqrt(2/16)": fi.sparse(share, std=math.sqrt(2 / 16)), "std 0.01": fi.sparse(share, std=0.01)}
    found = {label: send(networks, init, "relu", 30) for label, init in inits.items()}
    good, small = found
    return Outcome([*ends({good: found[good]}), vanishing(small, found[small])], picture(found))


def normalization(networks: int) -> Outcome:
    """20 relu layers: normalization forgives any scale; batch normalization's gradients still grow."""
    std_1, small = fi.normal(), fi.normal(std=0.01)
    found = {
        "0.01, batch norm": send(networks, small, "relu", 20, batch_norm=True),
        "1, batch norm": send(networks, std_1, "relu", 20, batch_norm=True),
        "1, layer norm": send(networks, std_1, "relu", 20, layer_norm=True),
        "1": send(networks, std_1, "relu", 20),
    }
    return Outcome(ends(found), picture(found, "relu, 20 layers of normal weights"))


def residual(networks: int) -> Outcome:
    """50 residual relu blocks: He's more than doubles the mean square in each; divided by sqrt(2 L), it holds."""
    inits = {"He": fi.he_normal(), "He, depth=50": fi.he_normal(depth=50)}
    found = {label: send(networks, init, "relu", 50, residual=True) for label, init in inits.items()}
    return Outcome(ends(found), picture(found, "x + relu(W x), 50 layers"))


def convolution(networks: int) -> Outcome:
    """10 convolutions of 3 x 3, 64 channels, relu: fans count the receptive field, He holds, Xavier vanishes."""
    inits = {"He": fi.he_normal(), "Xavier": fi.xavier_normal()}
    found = {label: send(networks, init, "relu", 10, 64, kernel=3, size=6) for label, init in inits.items()}
    return Outcome(ends(found), picture(found, "3 x 3 convolutions, relu, 10 layers"))


def logits(label: str, trained: Trained, init: fi.Initializer, activation: str) -> Row:
    """The root mean square of the ten logits before training, over 1,797 images."""
    widths = [len(trained.weights[0].T), *(len(weight) for weight in trained.weights[:-1])]
    hidden = fi.propagate(init, activation=activation, depth=len(widths) - 1, width=widths, batch=2)
    q = hidden.predicted_mean[-1] ** 2 + hidden.predicted_std[-1] ** 2
    predicted = math.sqrt(widths[-1] * init.distribution(trained.weights[-1].shape).std ** 2 * q)
    spread = math.hypot(hidden.spread[-1], math.sqrt(2 / 10) / 2)  # of ten sums
    return wander(label, "rms of the first logits", predicted, trained.logits, spread, Sample([hidden]))


def deep_training(networks: int) -> Outcome:
    """Digits, 30 relu layers (He et al., figure 3): Xavier's signal is 2^-15 of the input's and stalls, He learns."""
    inits = {"Xavier": fi.xavier_normal(), "He": fi.he_normal()}
    found = {label: train(init, activation="relu", hidden=30, width=64, rate=0.005, epochs=15)
             for label, init in inits.items()}  # fmt: skip
    # Logits and gradients of some 2^-15 leave the loss where equal chances have it, to about their size; a network
    # that learns does better than half of log 10, which equal chances miss by all of it.
    rows = [
        *(logits(label, found[label], init, "relu") for label, init in inits.items()),
        about("Xavier", "loss after 15 epochs: log 10", math.log(10), found["Xavier"].losses[-1], 0.01),
        inside("He", "loss after 15 epochs: below log(10) / 2", found["He"].losses[-1], 0.0, math.log(10) / 2),
        inside("He", "accuracy (equal chances: 0.1)", found["He"].accuracy, 0.5, 1.0),
    ]
    return Outcome(rows, lambda path: curves(found, path, "digits, 30 relu layers of 64"))


def shallow_training(networks: int) -> Outcome:
    """Digits, 5 tanh layers of 128 (Glorot and Bengio): Xavier learns faster than the heuristic."""
    inits = {"U(-1, 1) / sqrt(n)": HEURISTIC, "Xavier": fi.xavier_uniform()}
    found = {label: train(init, activation="tanh", hidden=5, width=128, rate=0.02, epochs=20)
             for label, init in inits.items()}  # fmt: skip
    slow, fast = (trained.losses for trained in found.values())
    # The heuristic's signals and gradients are about sqrt(3)^5 = 16 times smaller, so that its first steps do less: it
    # needs more epochs, and its loss stays above.
    later = next((n for n, value in enumerate(slow) if value <= fast[5]), len(slow))
    rows = [
        *(logits(label, found[label], init, "tanh") for label, init in inits.items()),
        inside("heuristic", "epochs to the loss that Xavier has after 5", later, 6.0, math.inf),
        inside("heuristic", "loss over Xavier's after 20 epochs", slow[-1] / fast[-1], 1.0, math.inf),
    ]
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
    axes.locator_params(axis="x", integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=110)


SCENARIOS: dict[str, Callable[[int], Outcome]] = {
    run.__name__: run
    for run in (
        linear, tanh, relu, symmetry, scale, fans, first_layer, leaky, glorot, sparse, normalization, residual,
        convolution, deep_training, shallow_training,
    )
}  # fmt: skip


def figure(value: float) -> str:
    """A number of three digits."""
    return "∞" if math.isinf(value) else f"{value:.3g}"


def table(name: str, rows: list[Row]) -> list[str]:
    """The rows of a scenario, as those of one table."""
    lines = []
    for row in rows:
        allowed = f"{figure(row.low)} to {figure(row.high)}"
        predicted = allowed if math.isnan(row.predicted) else figure(row.predicted)
        verdict = "holds" if row.holds else "**fails**"
        cells = f"[{name}](#{name})", row.setting, row.quantity, predicted, figure(row.measured), allowed, verdict
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(SCENARIOS)}; all by default")
    parser.add_argument("--networks", type=int, default=8, help="of each setting, with seeds from 0 on; by default 8")
    parser.add_argument("--out", type=Path, default=GALLERY)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    lines, sections, failed = [], [], 0
    began = time.perf_counter()
    for name in options.names or SCENARIOS:
        outcome = SCENARIOS[name](options.networks)
        outcome.draw(options.out / f"{name}.png")
        lines += table(name, outcome.rows)
        failed += sum(not row.holds for row in outcome.rows)
        sections += [f"## {name}", "", SCENARIOS[name].__doc__ or "", "", f"![{name}]({name}.png)", ""]
        print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
    head = [
        "# Signal propagation: the classical experiments",
        "",
        "Written by `python -m bench.scenarios`. Each experiment compares a *predicted* figure with a *measured*",
        "one. The prediction is the recursion of variances in wide layers: a root mean square over networks. The",
        f"measurement is the geometric mean of {options.networks} networks in float32, with batches of {BATCH}.",
        "",
        "In layers of n units, the logarithm of a std deviates from the prediction by about s = sqrt(c L / (4 n))",
        "after L layers, with c = 2 for linear layers and 5 for relu (`Propagation.spread`, an upper estimate). Its",
        "mean is lower than the prediction by at most s^2. The allowed interval therefore begins s^2 and four",
        "deviations of the mean below the prediction, and ends four deviations above it. A few scenarios have",
        "intervals of their own, derived in the comments of `bench/scenarios.py`.",
        "",
        "| scenario | setting | figure | predicted | measured | allowed | |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    (options.out / "README.md").write_text("\n".join([*head, *lines, "", *sections]))
    raise SystemExit(failed > 0)


if __name__ == "__main__":
    main()
