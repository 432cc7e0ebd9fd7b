"""Signal propagation in theory: the variances of activations and gradients from layer to layer.

The recursion of wide layers (Poole et al. 2016, equation 3; Schoenholz et al. 2017, equation 7) with three additions:
the spread of a measured std at a finite width, normalizations, and the part of a gradient that lies along
the activations, which the independence that the recursion assumes leaves out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fastinit.core.arrays import Array, Floats
from fastinit.propagation.activations import Activation, ActivationMoments, moments

EPSILON = 1e-5  # in the normalizations, as in the frameworks
MOST_LAYERS = 1 << 16
CHANGED = 16.0  # the factor over all layers from which on signals are said to vanish or to explode
_BUMP = 1e-4  # for slopes by differences
_LARGEST = 1e300  # variance whose square is still left room


class Stack(NamedTuple):
    """Properties that all layers have in common."""

    f: Activation
    norm: str = ""  # "batch" or "layer"
    residual: bool = False
    kernel: int = 1  # 1: dense
    side: tuple[int, ...] = ()  # of the images


class Given(NamedTuple):
    """One layer before anything is sent through it."""

    into: int
    out: int
    variance: float  # of the weights, whose mean is 0; NaN where theory ends
    offset: float = 0.0  # of the biases: mean and variance
    offset_variance: float = 0.0


class _State(NamedTuple):
    """The activations: their mean, mean square, and variance over the batch alone."""

    mean: float
    square: float
    over_batch: float

    @property
    def std(self) -> float:
        return math.sqrt(max(self.square - self.mean * self.mean, 0.0))

    def scaled(self, factor: float) -> _State:
        """Return the state with its second moments multiplied."""
        return _State(self.mean * math.sqrt(factor), self.square * factor, self.over_batch * factor)


class _Step(NamedTuple):
    """One layer in theory: the states around it, and its factors."""

    before: _State
    after: _State
    p: float  # the variance of z
    divisor: float  # of the gradient's variance, from a normalization
    share: float  # of W x in the argument of f: the rest is bias
    m: ActivationMoments


class _Wander(NamedTuple):
    """Effect of a finite width on log q, the logarithm of the mean square, in first order."""

    slope: float  # of log q after the layer by log q before it
    chi_slope: float  # of the logarithm of the factor of gradients
    noise: float  # the variance that the layer adds
    variance: float  # of log q after the layer
    std: float  # the deviation of the logarithm of the activations' std


def predict(stack: Stack, layers: Sequence[Given], batch: int) -> dict[str, Array]:
    """Return the predicted fields of `fastinit.Propagation`, one entry a layer."""
    steps, wanders = zip(*_forward(stack, layers), strict=True)
    return {
        "predicted_preactivation_std": np.sqrt([step.p for step in steps]),
        "predicted_mean": np.array([step.after.mean for step in steps]),
        "predicted_std": np.array([step.after.std for step in steps]),
        "spread": np.array([wander.std for wander in wanders]),
    } | _backward(stack, layers, steps, wanders, batch)


def _step(stack: Stack, layer: Given, x: _State) -> _Step:
    """Take one step of the recursion."""
    strength = layer.variance * layer.into * stack.kernel**2
    p = strength * x.square + layer.offset_variance
    mean, variance, divisor = layer.offset, p, 1.0
    share = _over(strength * x.square, p)
    if stack.norm:
        within = strength * x.over_batch if stack.norm == "batch" else p
        divisor = within + EPSILON
        mean, variance = 0.0, within / divisor
        share = 0.0 if stack.norm == "layer" else 1.0  # its derivative along z itself is 0
    if not (math.isfinite(variance) and variance < _LARGEST):
        unknown = ActivationMoments(*[math.nan] * len(ActivationMoments._fields))
        return _Step(x, _State(math.nan, math.nan, math.nan), p, math.nan, math.nan, unknown)
    m = moments(stack.f, mean, math.sqrt(variance))
    after = _State(m.mean, m.square, m.variance)
    if stack.residual:
        square = x.square + 2 * x.mean * m.mean + m.square
        after = _State(x.mean + m.mean, square, x.over_batch + m.variance)
    return _Step(x, after, p, divisor, share, m)


def _forward(stack: Stack, layers: Sequence[Given]) -> Iterator[tuple[_Step, _Wander]]:
    """Yield the activations' recursion, and their wandering from it at a finite width.

    A layer of n units adds Var(f**2) / (n q**2) to the variance of log q, and hands on the previous one times the
    square of the map's slope. All samples are taken to wander together, which they do where they become alike.
    """
    x = _State(0.0, 1.0, 1.0)
    variance = 2 / layers[0].into
    for layer in layers:
        step, above = _step(stack, layer, x), _step(stack, layer, x.scaled(1 + _BUMP))
        slope, std_slope, chi_slope = (
            _log_ratio(more, less) / math.log1p(_BUMP)
            for more, less in (
                (above.after.square, step.after.square),
                (above.after.std, step.after.std),
                (above.m.slope_square * step.divisor, step.m.slope_square * above.divisor),
            )
        )
        noise, own = step.m.flatness - 1, step.m.central_flatness - 1
        if stack.residual:
            cross = 4 * (x.square * step.m.variance + x.mean * (step.m.cube - step.m.mean * step.m.square))
            part = _over(step.m.square, step.after.square)
            noise = noise * part * part + _over(cross, step.after.square**2)
            own = 2.0
        noise = max(noise, 0.0) / layer.out
        std = math.sqrt(std_slope**2 * variance + max(own, 0.0) / layer.out / 4)
        variance = slope**2 * variance + noise
        x = step.after
        yield step, _Wander(slope, chi_slope, noise, variance, std)


class _Echo(NamedTuple):
    """The part of a gradient along the activations, as a layer sends it back, with some of the rest."""

    kept: float  # factor of the mean square
    steep: float  # its E[f'(z)**2]: it is large where f'(z) is
    stray: float  # added by the rest, in its mean squares
    overlap: float  # of the activations before and after: the squared cosine


def _backward(
    stack: Stack, layers: Sequence[Given], steps: Sequence[_Step], wanders: Sequence[_Wander], batch: int
) -> dict[str, Array]:
    """Return the gradients' recursion, in two parts.

    W sends the part of a gradient g along z = W x back to x and not at random: as x (z . f'(z) g) / abs(x)**2. Where
    f(a z) = a f(z), g . x is therefore equal in all layers, and this part, one direction of n, grows as fast as the
    activations do: in strong residual branches faster than the rest. Elsewhere it remains a share of 1 / n.

    Their spread has three causes: the weights on the way; the activations, whose wandering is handed on from layer to
    layer and changes chi in each; and the part along x, which is one normal number a sample.
    """
    places = math.prod(stack.side)
    total, along = 1.0, 1.0  # mean squares, of any component and of that along x; the last gradient is given: normal
    chaos = 2 / layers[-1].out
    lever = heard = 0.0  # effect of log q in this layer on the logarithm of the gradient, and of its later noise
    rows: list[tuple[float, float, float]] = []
    for layer, step, wander in zip(layers[::-1], steps[::-1], wanders[::-1], strict=True):
        n, into, x, m = layer.out * places, layer.into * places, step.before, step.m
        echo = _echo(stack, layer, step)
        rest = (total * n - along) / max(n - 1, 1)
        across = (m.slope_square * n - echo.steep) / max(n - 1, 1)  # of all directions together it is E[f'(z)**2]
        inner = (rest * across * (n - 1) + along * echo.steep) / n / step.divisor
        if stack.norm:
            inner *= _normalization(stack.norm, batch * places if stack.norm == "batch" else layer.out)
        in_weights = batch * places * inner * (x.over_batch if stack.norm == "batch" else x.square)
        loud = _over(along, n * total) ** 2 * (2 / batch + 4 * wanders[-1].std ** 2)
        spread = math.sqrt(chaos + lever**2 * wander.variance + heard + loud) / 2
        rows.append((math.sqrt(total), math.sqrt(in_weights), spread))

        branch = inner * layer.variance * layer.out * stack.kernel**2 * (1 - 1 / into)
        lost = along * echo.overlap + rest * (1 - echo.overlap)
        kept = total - lost / n if stack.residual else 0.0
        along = along * echo.kept + rest * echo.stray
        total = branch + kept + along / into
        part = _over(branch, total)
        chaos += ((3 * m.slope_flatness - 1) * part**2 + 2 * (1 - part**2)) / layer.out
        heard += lever**2 * wander.noise
        lever = lever * wander.slope + part * wander.chi_slope
    names = "predicted_gradient_std", "predicted_weight_gradient_std", "gradient_spread"
    return dict(zip(names, np.array(rows[::-1]).T, strict=True))


def _normalization(norm: str, count: int) -> float:
    """Return the factor of a gradient's mean square by normalizing over ``count`` numbers, beside the variance's.

    The gradient loses the directions of z and of the mean; over a batch it has lost the latter in the layer before. The
    mean of an inverse variance of k degrees of freedom is larger than the variance's: by k / (k - 2).
    """
    freedom = count - 1
    variance = freedom / max(freedom - 2, 1)
    left = (count - 1) / count if norm == "batch" else max(count - 2, 0) / max(freedom, 1)  # of one number, nothing
    return left * variance


def _echo(stack: Stack, layer: Given, step: _Step) -> _Echo:
    """Return the echo by the moments of z f'(z), where W x is a share; after batch normalization less the means."""
    x, m, share = step.before, step.m, step.share
    centre, mean, q, q_after = 0.0, x.mean, x.square, step.after.square
    if stack.norm == "batch":
        centre, mean, q, q_after = m.mean, 0.0, x.over_batch, step.after.over_batch
    back = share * (m.pull_f - centre * m.pull)
    steep = m.steep_square - 2 * centre * m.steep + centre * centre * m.slope_square
    square = share * share * m.pull_square + share * (1 - share) * step.p * m.slope_square
    overlap = 0.0
    if stack.residual:
        cross = q + mean * (m.mean - centre)
        back += cross + mean * share * m.pull
        square += q + 2 * mean * share * m.pull
        steep += q * m.slope_square + 2 * mean * (m.steep - centre * m.slope_square)
        overlap = _over(cross * cross, q * q_after)
    kept = _over(back * back, q_after)
    steep = m.slope_square if stack.norm == "layer" else _over(steep, q_after)  # most of it is along z, and taken out
    narrows = layer.out / layer.into
    return _Echo(narrows * _over(kept, q), steep, narrows * _over(max(square - kept, 0.0), q), overlap)


def wandering(spread: Floats, deviations: float) -> tuple[Floats, Floats]:
    """Return the least and largest factors of a predicted std, some standard deviations of its logarithm away.

    A product of many factors is nearly log-normal. Theory predicts its root mean square; its logarithm has a
    mean that lies lower by spread**2.
    """
    with np.errstate(over="ignore"):
        return np.exp(-(spread**2) - deviations * spread), np.exp(deviations * spread)


def rate_of(std: Array) -> float:
    """Return the factor from entry to entry: the geometric mean as far as entries are finite and not 0."""
    usable = _usable(std)
    return float(usable[-1] / usable[0]) ** (1 / (len(usable) - 1)) if len(usable) > 1 else 1.0


def change_of(std: Array) -> float:
    """Return the last entry over the first: 0 where zeros follow, infinite after an overflow."""
    if len(_usable(std)) < len(std):
        return math.inf if not np.isfinite(std).all() else 0.0
    return float(std[-1] / std[0])


def _usable(std: Array) -> Array:
    """Return the first entries, as long as they are finite and above 0."""
    bad = np.flatnonzero(~(np.isfinite(std) & (std > 0)))
    return std[: bad[0]] if bad.size else std


def _over(a: float, b: float) -> float:
    """Return a / b, or 0 where both vanish."""
    return a / b if b else 0.0


def _log_ratio(a: float, b: float) -> float:
    """Return log(a / b), or 0 where one of them vanishes."""
    return math.log(a / b) if a > 0 and b > 0 else 0.0
