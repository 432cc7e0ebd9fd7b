"""Signal propagation: what a stack of layers does to activations and gradients, measured and in theory.

Theory is the recursion of variances in wide layers (Poole et al. 2016, equation 3; Schoenholz et al. 2017, equations 5
and 7), measurement a forward and a backward pass in float32, so that numbers overflow where they do for users.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fastinit.activations import Activation, Array, Function, Moments, moments, named
from fastinit.fill import array
from fastinit.initializers import (
    Initializer,
    he_normal,
    lecun_normal,
    normal,
    variance_scaling,
    xavier_normal,
)
from fastinit.keys import check_integer, check_sizes, key_of
from fastinit.matrices import Identity, Matrix

EPSILON = 1e-5  # in the normalizations, as in the frameworks
SATURATED = 0.01  # a value whose derivative is smaller is saturated
VANISHED = 2.0**-23  # of the input's std: beside a number of order one it is lost in float32's rounding
_BUMP = 1e-4  # for slopes by differences
CHANGED = 16.0  # the factor over all layers from which on the verdict speaks of vanishing and exploding


@dataclass(frozen=True, eq=False, repr=False)
class Propagation:
    """What happened in each layer, and what theory says; made by `propagate`.

    All arrays have one float64 entry a layer, the first layer first, and all gradients are those of a loss whose
    gradient with respect to the last activations is standard normal. A layer that overflowed has infinite stds, and
    so have all after it; gradients need a finite forward pass, and are NaN without.

    Attributes
    ----------
    init, activation, widths
        What was asked; the widths with the input's first.
    preactivation_mean, preactivation_std
        Over samples and units, of z = W x + b, before any normalization.
    activation_mean, activation_std
        The same of the layer's output x.
    gradient_mean, gradient_std
        The same of the gradient with respect to x.
    weight_gradient_mean, weight_gradient_std
        The same of the gradient with respect to the elements of W, summed over the samples.
    saturated
        The fraction of values, in [0, 1], with abs(f'(z)) < 0.01; of relu it is the inactive ones.
    dead
        The fraction of units, in [0, 1], for which f'(z) is 0 in all samples.
    predicted_preactivation_std, predicted_mean, predicted_std, predicted_gradient_std, predicted_weight_gradient_std
        In theory: of z, of x (both), of the gradients. NaN where there is no theory: for weights whose mean is not 0,
        which make units alike, and for `eye` and `dirac`, which are not random.
    spread, gradient_spread
        The standard deviation that theory gives to log(activation_std / predicted_std), because widths are finite, and
        to the gradients'. It grows like sqrt(c L / (4 n)) over L layers of width n, with c = E[f**4] / E[f**2]**2 - 1:
        2 for linear layers, 5 for relu. See `tolerance`.
    overflow_layer
        The first layer, from 1, in which a value was not finite; or None.
    vanish_layer
        The first layer, from 1, with an activation_std below 2**-23; or None.
    """

    init: Initializer
    activation: str
    widths: tuple[int, ...]
    preactivation_mean: Array
    preactivation_std: Array
    activation_mean: Array
    activation_std: Array
    gradient_mean: Array
    gradient_std: Array
    weight_gradient_mean: Array
    weight_gradient_std: Array
    saturated: Array
    dead: Array
    predicted_preactivation_std: Array
    predicted_mean: Array
    predicted_std: Array
    predicted_gradient_std: Array
    predicted_weight_gradient_std: Array
    spread: Array
    gradient_spread: Array
    overflow_layer: int | None
    vanish_layer: int | None

    def __repr__(self) -> str:
        return f"Propagation({self.init}, {self.activation}, depth={self.depth}: {self.verdict})"

    @property
    def depth(self) -> int:
        """The number of layers."""
        return len(self.widths) - 1

    @property
    def rate(self) -> float:
        """The factor of the activations' std a layer: the geometric mean from the first layer to the last usable."""
        return _rate(self.activation_std)

    @property
    def gradient_rate(self) -> float:
        """The factor of the gradients' std a layer, going backwards."""
        return _rate(self.gradient_std[::-1])

    @property
    def verdict(self) -> str:
        """One line: whether signals hold, and what happens if not."""
        std, gradient = self.activation_std, self.gradient_std
        if self.overflow_layer:
            return f"overflows at layer {self.overflow_layer}: std grows {self.rate:.3g}x a layer"
        if not std[0]:
            return "vanishes: every activation has the same value"
        saturated = float(self.saturated.mean())
        faults = []
        change = _change(std)
        if change < 1 / CHANGED:
            faults.append(f"vanishes: std falls {self.rate:.3g}x a layer")
        elif change > CHANGED:
            faults.append(f"explodes: std grows {self.rate:.3g}x a layer")
        if saturated > 0.6:
            faults.append(f"saturates: {saturated:.0%} of the derivatives are below {SATURATED}")
        back = _change(gradient[::-1])
        if back < 1 / CHANGED:
            faults.append(f"gradients vanish: std falls {self.gradient_rate:.3g}x a layer backwards")
        elif back > CHANGED:
            faults.append(f"gradients explode: std grows {self.gradient_rate:.3g}x a layer backwards")
        if not faults:
            return f"holds: std changes {self.rate:.3g}x a layer, gradients {self.gradient_rate:.3g}x backwards"
        return "; ".join(faults)

    def tolerance(self, deviations: float = 4.0, *, gradient: bool = False) -> Array:
        """The factor, layer by layer, within which a measured std should lie of the predicted one, both ways.

        exp(deviations s + s**2) with s the spread: a product of many factors that are 1 in the mean is nearly
        log-normal, and its median lies s**2 lower on the std's logarithm than its root mean square.

        Parameters
        ----------
        deviations
            How many standard deviations: of a normal, 4 are left once in 16,000 times.
        gradient
            For gradient_std.
        """
        spread = self.gradient_spread if gradient else self.spread
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(deviations * spread + spread**2))


def propagate(
    init: Initializer,
    *,
    depth: int,
    width: int | Sequence[int],
    activation: str | tuple[Function, Function] = "relu",
    a: float = 0.01,
    bias: Initializer | None = None,
    residual: bool = False,
    batch_norm: bool = False,
    layer_norm: bool = False,
    kernel: int | None = None,
    size: int = 8,
    batch: int = 128,
    seed: int = 0,
) -> Propagation:
    """Send a batch forward and a gradient backward through layers filled by an initializer, and predict both.

    Layer l computes z = W x + b, optionally normalizes z, and returns f(z), or x + f(z). W has the name
    ``layers.l.weight``, b ``layers.l.bias``; input and last gradient are standard normal. All arithmetic is float32.

    The theory, for wide layers of independent weights of mean 0: with q = E[x**2] and sigma**2 the weights'
    variance, z is normal of variance p = sigma**2 fan_in q + sigma_b**2, and q of the next layer is E[f(z)**2]
    (Poole et al. 2016, equation 3). A gradient's variance is multiplied by chi = sigma**2 fan_out E[f'(z)**2]
    (Schoenholz et al. 2017, equation 7), and divided by p where z is normalized. A residual connection adds x, its
    mean and 1 to chi. Batch normalization divides by the variance over the batch, which has no part of the units'
    means, and takes two of the N directions of the gradients' space, 1 - 2 / N. A weight's gradient has the
    variance of N products.

    Parameters
    ----------
    init
        Of the weights, of shape (out, in) or (out, in, kernel, kernel): torch's layout.
    depth
        Layers, at least 1.
    width
        Units of every layer and of the input, or a list of depth + 1 widths, the input's first.
    activation
        A name of `fastinit.gain`'s (no convolutions), or a pair of functions of arrays: f and its derivative.
    a
        The slope of leaky_relu.
    bias
        Of the biases; none by default.
    residual
        Add the layer's input to its output; all widths must be equal.
    batch_norm, layer_norm
        Normalize z to mean 0 and variance 1, over the samples (and places) or over the units; without a trained scale.
    kernel
        The size of square convolutions' kernels, with circular padding; dense layers by default.
    size
        The side of the images, in pixels, where there is a kernel.
    batch
        Samples, at least 2.
    seed
        Of weights, input and gradient.

    Returns
    -------
    Propagation
        See there. All weights and activations are kept in memory meanwhile.

    Raises
    ------
    TypeError
        If an argument is not of its kind.
    ValueError
        If a value is not allowed: unequal widths with ``residual``, both normalizations, a list of widths that does not
        fit the depth.

    Notes
    -----
    Gradients are taken as independent of the activations. In a residual network whose f has a mean this fails if the
    branches are strong: a gradient's part along the activations' common part is a share of 1 / width at first, but
    grows as fast as that part does. With `he_normal` and relu stds grow up to 1.6x a layer, where the theory of
    gradients has 1.41x; with its ``depth`` both agree. Deep stacks with batch normalization are
    not quite normal either.

    Examples
    --------
    >>> from fastinit import he_normal, lecun_normal, propagate
    >>> bool(abs(propagate(he_normal(), depth=3, width=256).gradient_std[-1] - 1) < 0.02)
    True
    >>> propagate(lecun_normal(), depth=64, width=64).vanish_layer is None
    False
    """
    for argument, value in (("init", init), ("bias", bias)):
        if not (isinstance(value, Initializer) or (argument == "bias" and value is None)):
            raise TypeError(f"{argument} must be an initializer, such as fastinit.he_normal(), got {value!r}")
    f = named(activation, a)
    depth, batch = check_integer("depth", depth, 1), check_integer("batch", batch, 2)
    widths = check_sizes("width", width) if isinstance(width, Sequence) else (check_integer("width", width, 1),)
    widths = widths if isinstance(width, Sequence) else widths * (depth + 1)
    if len(widths) != depth + 1 or not all(widths):
        raise ValueError(f"width must be one number or depth + 1 = {depth + 1} of them, 1 or more, got {width!r}")
    if residual and len(set(widths)) > 1:
        raise ValueError(f"a residual connection needs equal widths, got width={width!r}")
    if batch_norm and layer_norm:
        raise ValueError("batch_norm and layer_norm exclude each other, got both")
    kernel = None if kernel is None else check_integer("kernel", kernel, 1)
    field = (kernel, kernel) if kernel else ()
    side = (check_integer("size", size, 1),) * 2 if kernel else ()
    key_of(seed)
    shapes = [(out, into, *field) for into, out in itertools.pairwise(widths)]
    stack = _Stack(f, "batch" if batch_norm else "layer" if layer_norm else "", residual, kernel or 1, side)

    weights = [array(shape, init, seed=seed, name=f"layers.{n}.weight") for n, shape in enumerate(shapes, 1)]
    biases = [
        None if bias is None else array((shape[0],), bias, seed=seed, name=f"layers.{n}.bias")
        for n, shape in enumerate(shapes, 1)
    ]
    scales = [_mean_square(init, shape, weight) for shape, weight in zip(shapes, weights, strict=True)]
    laws = [None if bias is None else bias.law(shape[:1]) for shape in shapes]
    shifts = [(0.0, 0.0) if law is None else (law.mean, law.std**2) for law in laws]
    places = batch * math.prod(side)
    expected = predict(stack, widths, scales, shifts, places)

    start = array((batch, *side, widths[0]), normal(), seed=seed, name="input")
    last = array((batch, *side, widths[-1]), normal(), seed=seed, name="gradient")
    with np.errstate(all="ignore"):
        measured = _measure(stack, weights, biases, start, last)
    std = measured["activation_std"]
    overflow = np.flatnonzero(~np.isfinite(std))
    vanish = np.flatnonzero(std < VANISHED)
    return Propagation(
        init,
        f.name,
        widths,
        **measured,
        **expected,
        overflow_layer=int(overflow[0]) + 1 if overflow.size else None,
        vanish_layer=int(vanish[0]) + 1 if vanish.size else None,
    )


class _Stack(NamedTuple):
    """What all layers have in common."""

    f: Activation
    norm: str  # "batch", "layer" or none
    residual: bool
    kernel: int  # 1: dense
    side: tuple[int, ...] = ()  # of the images


def _mean_square(init: Initializer, shape: tuple[int, ...], weight: Array) -> float:
    """The weights' variance: the law's, or the measured one of a random matrix; NaN where theory ends."""
    found = init.rule(shape)
    if isinstance(found, Identity):
        return math.nan
    if isinstance(found, Matrix):
        return float(np.mean(np.square(weight, dtype=np.float64)))
    return found.std**2 if found.mean == 0 else math.nan


def predict(
    stack: _Stack,
    widths: Sequence[int],
    scales: Sequence[float],
    shifts: Sequence[tuple[float, float]],
    places: int,
) -> dict[str, Array]:
    """The recursion: the predicted fields of `Propagation`.

    The spreads follow the same maps: a layer of n units adds Var(f**2) / (n q**2) to the variance of log q, and hands
    on what there was times the square of the map's slope. Gradients add the like, and what the wandering of p does to
    chi, as if it were the same in all layers, which is the worst.
    """
    area = stack.kernel**2
    state = _State(0.0, 1.0, 1.0)
    variance = 2 / widths[0]  # of log q
    rows = []
    for scale, (offset, offset_variance), into, out in zip(scales, shifts, widths, widths[1:], strict=False):
        layer = _Layer(stack, scale * into * area, offset, offset_variance)
        after, m, p, z_variance = layer(state)
        above, more, *_ = layer(state.scaled(1 + _BUMP))
        slope = _log_ratio(above.square, after.square) / math.log1p(_BUMP)
        std_slope = 2 * _log_ratio(above.std, after.std) / math.log1p(_BUMP)
        chi_slope = abs(_log_ratio(more.slope_square, m.slope_square)) / math.log1p(_BUMP)
        if stack.residual:
            part = _over(m.square, after.square)
            noise = (m.flatness - 1) * part * part + 4 * _over(state.square, after.square) * part
            own = 2.0
        else:
            noise, own = m.flatness - 1, m.central_flatness - 1
        rows.append(
            {
                "mean": after.mean,
                "square": after.square,
                "std": after.std,
                "p": p,
                "before": state.over_batch if stack.norm == "batch" else state.square,
                "slope_square": m.slope_square / z_variance * (1 - 2 / places if stack.norm == "batch" else 1)
                * (1 - 2 / out if stack.norm == "layer" and out > 1 else 1),
                "noise": 3 * m.slope_flatness - 1,
                "wander": chi_slope * math.sqrt(variance),
                "spread": math.sqrt(max(std_slope**2 * variance + own / out, 0.0)) / 2,
            }
        )  # fmt: skip
        variance = slope**2 * variance + max(noise, 0.0) / out
        state = after
    gradient, chaos, wander = 1.0, 2 / widths[-1], 0.0  # the last gradient is given: standard normal
    gradients, weight_gradients, spreads = [], [], []
    for row, scale, out in zip(rows[::-1], scales[::-1], widths[:0:-1], strict=True):
        gradients.append(math.sqrt(gradient))
        spreads.append(math.sqrt(chaos) / 2 + wander / 2)
        inner = gradient * row["slope_square"]
        weight_gradients.append(math.sqrt(places * inner * row["before"]))
        branch = inner * scale * out * area
        total = branch + gradient if stack.residual else branch
        share = _over(branch, total)
        chaos += (row["noise"] * share**2 + 2 * (1 - share**2)) / out
        wander += share * row["wander"]
        gradient = total
    return {
        "predicted_preactivation_std": np.sqrt([row["p"] for row in rows]),
        "predicted_mean": np.array([row["mean"] for row in rows]),
        "predicted_std": np.array([row["std"] for row in rows]),
        "predicted_gradient_std": np.array(gradients[::-1]),
        "predicted_weight_gradient_std": np.array(weight_gradients[::-1]),
        "spread": np.array([row["spread"] for row in rows]),
        "gradient_spread": np.array(spreads[::-1]),
    }


class _State(NamedTuple):
    """The activations: their mean, mean square, and variance over the batch alone."""

    mean: float
    square: float
    over_batch: float

    @property
    def std(self) -> float:
        return math.sqrt(max(self.square - self.mean * self.mean, 0.0))

    def scaled(self, factor: float) -> _State:
        """The same with a larger second moment."""
        return _State(self.mean * math.sqrt(factor), self.square * factor, self.over_batch * factor)


class _Layer(NamedTuple):
    """The map of one layer, in theory."""

    stack: _Stack
    strength: float  # sigma**2 fan_in
    offset: float  # of the biases: mean and variance
    offset_variance: float

    def __call__(self, x: _State) -> tuple[_State, Moments, float, float]:
        """What comes out, the moments, the variance of z, and what a normalization divides gradients by."""
        p = self.strength * x.square + self.offset_variance
        divisor = 1.0
        mean, variance = self.offset, p
        if self.stack.norm:
            within = self.strength * x.over_batch if self.stack.norm == "batch" else p
            divisor = within + EPSILON
            mean, variance = 0.0, within / divisor
        if not (math.isfinite(variance) and variance < 1e300):
            nothing = Moments(*[math.nan] * 6)
            return _State(math.nan, math.nan, math.nan), nothing, p, math.nan
        m = moments(self.stack.f, mean, math.sqrt(variance))
        if not self.stack.residual:
            return _State(m.mean, m.square, m.variance), m, p, divisor
        square = x.square + 2 * x.mean * m.mean + m.square
        return _State(x.mean + m.mean, square, x.over_batch + m.variance), m, p, divisor


def _over(a: float, b: float) -> float:
    """a / b, or 1 where both vanish."""
    return a / b if b else 1.0


def _log_ratio(a: float, b: float) -> float:
    """log(a / b), or 0 where one of them vanishes."""
    return math.log(a / b) if a > 0 and b > 0 else 0.0


def _measure(
    stack: _Stack, weights: list[Array], biases: list[Array | None], start: Array, last: Array
) -> dict[str, Array]:
    """Forward and backward: the measured fields of `Propagation`."""
    depth = len(weights)
    names = ("preactivation", "activation", "gradient", "weight_gradient")
    found = {f"{name}_{what}": np.full(depth, math.nan) for name in names for what in ("mean", "std")}
    found |= {"saturated": np.full(depth, math.nan), "dead": np.full(depth, math.nan)}

    def note(name: str, layer: int, values: Array) -> None:
        found[f"{name}_mean"][layer], found[f"{name}_std"][layer] = _statistics(values)

    matrices = [weight.reshape(len(weight), weight.shape[1], -1).transpose(2, 1, 0).reshape(-1, len(weight))
                for weight in weights]  # fmt: skip
    kept: list[tuple[Array, Array, Array]] = []
    x = start
    for layer, (matrix, bias) in enumerate(zip(matrices, biases, strict=True)):
        z = _patches(x, stack.kernel) @ matrix
        if bias is not None:
            z += bias
        note("preactivation", layer, z)
        z, divisor = _normalized(z, stack.norm)
        kept.append((x, z, divisor))
        out = stack.f.f(z)
        x = x + out if stack.residual else out
        note("activation", layer, x)
        if not np.isfinite(found["activation_std"][layer]):
            for name in ("preactivation_std", "activation_std"):
                found[name][layer + 1 :] = math.inf
            return found
        slope = stack.f.slope(z)
        found["saturated"][layer] = np.mean(abs(slope) < SATURATED)
        found["dead"][layer] = np.mean((slope == 0).reshape(-1, z.shape[-1]).all(axis=0))
    gradient = last
    for layer in reversed(range(depth)):
        x, z, divisor = kept.pop()
        note("gradient", layer, gradient)
        inner = _normalized_back(gradient * stack.f.slope(z), z, divisor, stack.norm)
        rows = _patches(x, stack.kernel)
        note("weight_gradient", layer, rows.reshape(-1, rows.shape[-1]).T @ inner.reshape(-1, inner.shape[-1]))
        before = _patches_back(inner @ matrices[layer].T, stack.kernel)
        gradient = before + gradient if stack.residual else before
    return found


def _statistics(values: Array) -> tuple[float, float]:
    """Mean and std, summed up in float64; infinite if a value is not finite."""
    if not np.isfinite(values).all():
        return math.nan, math.inf
    return float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))


def _patches(x: Array, kernel: int) -> Array:
    """The inputs of every place of a convolution, side by side; x itself for dense layers."""
    if x.ndim == 2:
        return x
    around = range(-(kernel // 2), kernel - kernel // 2)
    return np.concatenate([np.roll(x, (-i, -j), (1, 2)) for i in around for j in around], axis=-1)


def _patches_back(gradient: Array, kernel: int) -> Array:
    """The transpose of `_patches`."""
    if gradient.ndim == 2:
        return gradient
    around = range(-(kernel // 2), kernel - kernel // 2)
    parts = np.split(gradient, kernel**2, axis=-1)
    shifts = [(i, j) for i in around for j in around]
    rolled = [np.roll(part, shift, (1, 2)) for part, shift in zip(parts, shifts, strict=True)]
    return np.asarray(sum(rolled[1:], start=rolled[0]))


def _axes(z: Array, norm: str) -> tuple[int, ...]:
    """Over what a normalization averages: samples and places, or units."""
    return tuple(range(z.ndim - 1)) if norm == "batch" else (-1,)


def _normalized(z: Array, norm: str) -> tuple[Array, Array]:
    """z to mean 0 and variance 1, and what it was divided by."""
    if not norm:
        return z, np.ones((), z.dtype)
    axes = _axes(z, norm)
    z = z - z.mean(axes, keepdims=True)
    divisor = np.sqrt((z * z).mean(axes, keepdims=True) + EPSILON)
    return z / divisor, divisor


def _normalized_back(gradient: Array, z: Array, divisor: Array, norm: str) -> Array:
    """The gradient with respect to what was normalized to z."""
    if not norm:
        return gradient
    axes = _axes(z, norm)
    along = (gradient * z).mean(axes, keepdims=True)
    return np.asarray((gradient - gradient.mean(axes, keepdims=True) - z * along) / divisor)


def _usable(std: Array) -> Array:
    """The first entries, as long as they are finite and above 0."""
    bad = np.flatnonzero(~(np.isfinite(std) & (std > 0)))
    return std[: bad[0]] if bad.size else std


def _rate(std: Array) -> float:
    """The geometric mean of the factors from entry to entry."""
    usable = _usable(std)
    return float(usable[-1] / usable[0]) ** (1 / (len(usable) - 1)) if len(usable) > 1 else 1.0


def _change(std: Array) -> float:
    """The last entry over the first: 0 where zeros follow, infinite after an overflow."""
    if len(_usable(std)) < len(std):
        return math.inf if not np.isfinite(std).all() else 0.0
    return float(std[-1] / std[0])


class Recommendation(NamedTuple):
    """An initializer, and in theory how it and its rivals change stds over the whole depth; made by `recommend`."""

    init: Initializer
    holds: bool  # by the verdict's measure: no factor of 16, forwards or backwards
    rivals: tuple[tuple[Initializer, float, float], ...]  # with the factors of activations and gradients a layer


def recommend(
    activation: str | tuple[Function, Function] = "relu",
    *,
    a: float = 0.01,
    residual: bool = False,
    depth: int = 100,
    width: int = 512,
) -> Recommendation:
    """The initializer under which, in theory, stds change least, forwards and backwards, over so many equal layers.

    Compared are LeCun's, Xavier's, He's, the one of the exact gain at unit variance, and the best variance_scaling of
    a search over scales in [1/8, 8]. The measure is abs(log) of the activations' change plus that of the gradients'
    plus the spread that the width causes. A named one that holds is preferred to what was searched for.

    In a residual network the smaller branches are, the less changes, to the point where they do nothing. There the
    answer is the exact gain's, with a std divided by sqrt(2 depth): the mean square grows by
    (1 + 1 / (2 depth))**depth, below sqrt(e), and by more where f has a mean.

    Parameters
    ----------
    activation, a, residual, depth, width
        As for `propagate`.

    Examples
    --------
    >>> recommend("relu").init
    he_normal()
    >>> recommend("tanh").init
    lecun_normal()
    """
    f = named(activation, a)
    depth, width = check_integer("depth", depth, 1), check_integer("width", width, 1)
    stack = _Stack(f, "", residual, 1)

    def judged(init: Initializer) -> tuple[float, float, float]:
        """The measure; the factors a layer of activations and of gradients."""
        scale = init.law((width, width)).std ** 2
        found = predict(stack, [width] * (depth + 1), [scale] * depth, [(0.0, 0.0)] * depth, 1)
        forward, back = found["predicted_std"], found["predicted_gradient_std"][::-1]
        if not (np.isfinite([*forward, *back]).all() and forward[-1] > 0 and back[-1] > 0):
            return math.inf, _rate(forward), _rate(back)
        measure = abs(math.log(_change(forward))) + abs(math.log(_change(back))) + float(found["spread"][-1])
        return measure, _rate(forward), _rate(back)

    def holds(forward: float, back: float) -> bool:
        return all(abs(math.log(rate)) * (depth - 1) < math.log(CHANGED) for rate in (forward, back))

    exact = 1 / moments(f, 0.0, 1.0).square
    families = [lecun_normal, xavier_normal, he_normal]
    candidates = [family() for family in families]
    if f.name == "leaky_relu":
        candidates.append(he_normal(nonlinearity="leaky_relu", a=a))
    candidates.append(_normal_scaling(exact))
    if residual:
        divided = [family(depth=depth) for family in families]
        divided.append(variance_scaling(float(f"{exact:.4g}"), "fan_in", "normal", depth=depth))
        chosen = min(
            divided, key=lambda init: abs(math.log(init.law((width, width)).std ** 2 * 2 * depth * width / exact))
        )
        candidates += [chosen]
    else:
        scales = [2.0**k for k in range(-3, 4)]
        for _ in range(3):  # between the neighbours of the best
            measures = [judged(_normal_scaling(scale))[0] for scale in scales]
            best = measures.index(min(measures))
            low, high = scales[max(best - 1, 0)], scales[min(best + 1, len(scales) - 1)]
            scales = [low * (high / low) ** (k / 4) for k in range(5)]
        candidates.append(_normal_scaling(scales[best]))
    rivals = sorted(((*judged(init), init) for init in candidates), key=lambda rival: rival[0])
    if not residual:
        named_ones = [init for _, *rates, init in rivals if init.factory != "variance_scaling" and holds(*rates)]
        chosen = (named_ones or [rivals[0][3]])[0]
    good = any(init == chosen and holds(*rates) for _, *rates, init in rivals)
    return Recommendation(chosen, good, tuple((init, forward, back) for _, forward, back, init in rivals))


def _normal_scaling(scale: float) -> Initializer:
    return variance_scaling(float(f"{scale:.4g}"), "fan_in", "normal")
