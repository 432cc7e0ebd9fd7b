"""Signal propagation: activations and gradients through a stack of layers, measured and in theory.

Theory is the recursion of variances in wide layers (Poole et al. 2016, equation 3; Schoenholz et al. 2017, equations 5
and 7), measurement a forward and a backward pass in float32, so that numbers overflow where they do for users.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastinit.core.arrays import Array
from fastinit.core.checks import check_flag, check_integer
from fastinit.core.keys import key_of
from fastinit.core.text import quoted
from fastinit.initializers.base import Initializer
from fastinit.initializers.elementwise import normal
from fastinit.initializers.matrices import Identity, Matrix, Sinusoidal
from fastinit.propagation.activations import Function, named
from fastinit.propagation.mean_field import (
    CHANGED,
    EPSILON,
    MOST_LAYERS,
    Given,
    Stack,
    change_of,
    predict,
    rate_of,
    wandering,
)
from fastinit.sampling.checks import check_room
from fastinit.sampling.filling import array

SATURATED = 0.01  # a value whose derivative is smaller is saturated
MOST_SATURATED = 0.6  # more than half, the share of relu's zeros
VANISHED = 2.0**-23  # of the input's std: beside a number of order one it is lost in float32's rounding


@dataclass(frozen=True, eq=False, repr=False)
class Propagation:
    """Activations and gradients of each layer, measured and in theory; made by `propagate`.

    All arrays have one float64 entry a layer, the first layer first, and all gradients are those of a loss whose
    gradient with respect to the last activations is standard normal. A layer that overflowed has infinite stds, and
    so have all after it; gradients need a finite forward pass, and are NaN without.

    Attributes
    ----------
    init, activation, widths
        The arguments of `propagate`; the widths with the input's first.
    preactivation_mean, preactivation_std
        Over samples and units, of z = W x + b, before any normalization.
    activation_mean, activation_std
        Those of the layer's output x.
    gradient_mean, gradient_std
        Those of the gradient with respect to x.
    weight_gradient_mean, weight_gradient_std
        Those of the gradient with respect to the elements of W, summed over the samples.
    saturated
        The fraction of values, in [0, 1], with abs(f'(z)) < 0.01; of relu it is the inactive ones.
    dead
        The fraction of units, in [0, 1], for which f'(z) is 0 in all samples.
    predicted_preactivation_std, predicted_mean, predicted_std, predicted_gradient_std, predicted_weight_gradient_std
        In theory: of z, of x (both), of the gradients. NaN where there is no theory: for weights whose mean is not 0,
        which make units alike, and for `eye`, `dirac` and `sinusoidal`, which are not random.
    spread, gradient_spread
        The standard deviation that theory gives to log(activation_std / predicted_std), because widths are finite, and
        to the gradients'. It grows like sqrt(c L / (4 n)) over L layers of width n, with c = E[f**4] / E[f**2]**2 - 1:
        2 for linear layers, 5 for relu. An upper estimate: it takes all samples to wander alike. See `interval`.
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
        """Return the number of layers."""
        return len(self.widths) - 1

    @property
    def rate(self) -> float:
        """Return the factor of the activations' std a layer: the geometric mean up to the last usable layer."""
        return rate_of(self.activation_std)

    @property
    def gradient_rate(self) -> float:
        """Return the factor of the gradients' std a layer, going backwards."""
        return rate_of(self.gradient_std[::-1])

    @property
    def faults(self) -> tuple[str, ...]:
        """Return the faults, each with its measure: changes by a factor of 16 or more, saturation, overflow."""
        if self.overflow_layer:
            return (f"overflows at layer {self.overflow_layer}: std grows {self.rate:.3g}x a layer",)
        if not self.activation_std[0]:
            return ("vanishes: every activation has the same value",)
        forward, back = change_of(self.activation_std), change_of(self.gradient_std[::-1])
        saturated = float(self.saturated.mean())
        found = {
            f"vanishes: std falls {self.rate:.3g}x a layer": forward < 1 / CHANGED,
            f"explodes: std grows {self.rate:.3g}x a layer": forward > CHANGED,
            f"saturates: {saturated:.0%} of the derivatives are below {SATURATED}": saturated > MOST_SATURATED,
            f"gradients vanish: std falls {self.gradient_rate:.3g}x a layer backwards": back < 1 / CHANGED,
            f"gradients explode: std grows {self.gradient_rate:.3g}x a layer backwards": back > CHANGED,
        }
        return tuple(fault for fault, there in found.items() if there)

    @property
    def holds(self) -> bool:
        """Test whether there is no fault."""
        return not self.faults

    @property
    def verdict(self) -> str:
        """Return one line: the faults, or that signals hold."""
        held = f"holds: std changes {self.rate:.3g}x a layer, gradients {self.gradient_rate:.3g}x backwards"
        return "; ".join(self.faults) or held

    def interval(self, deviations: float = 4.0, *, gradient: bool = False) -> tuple[Array, Array]:
        """Return the bounds between which theory expects `activation_std`, or `gradient_std`, layer by layer.

        From predicted exp(-s**2 - deviations s) to predicted exp(deviations s), with s the spread: products of many
        factors are nearly log-normal, and the mean of its logarithm lies s**2 below that of the root mean square.

        Parameters
        ----------
        deviations
            Standard deviations of the logarithm: a normal exceeds 4 once in 16,000 times.
        gradient
            For the gradients.

        Examples
        --------
        >>> from fastinit import he_normal, propagate
        >>> p = propagate(he_normal(), depth=10, width=256)
        >>> low, high = p.interval()
        >>> bool((low < p.activation_std).all() and (p.activation_std < high).all())
        True
        """
        spread, predicted = self.spread, self.predicted_std
        if gradient:
            spread, predicted = self.gradient_spread, self.predicted_gradient_std
        low, high = wandering(spread, deviations)
        return predicted * low, predicted * high


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
    means. A weight's gradient has the variance of N products.

    The gradient's part along x has a recursion of its own: W sends it back to x and not at random. Where
    f(a z) = a f(z) the product of gradient and x is equal in all layers, and so this part grows as fast as the
    activations do. In residual networks of strong branches this is faster than chi: with relu and `he_normal` stds
    grow 1.6x a layer over 50 layers of 512, where chi alone has 1.41x.

    Parameters
    ----------
    init
        Of the weights, of shape (out, in) or (out, in, kernel, kernel): torch's layout.
    depth
        Layers, at least 1.
    width
        Units of every layer and of the input, or a list of depth + 1 widths, the input's first.
    activation
        A name of `fastinit.gain`'s (no convolutions), or a pair of functions of arrays: f and its derivative. Kinks
        of theirs elsewhere than at 0 cost the theory some digits.
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
        Its arrays have an entry a layer. All weights and activations are kept in memory meanwhile.

    Raises
    ------
    TypeError
        If an argument is not of its kind.
    ValueError
        If a value is not allowed: unequal widths with ``residual``, both normalizations, a list of widths that does not
        fit the depth.

    Notes
    -----
    The theory is exact for infinite widths; `spread` is the first order of finite ones. Where small errors grow
    from layer to layer, as with gelu and `he_normal`, the spread is large and says that there is no telling. Batch
    normalization's gradients are off by some L / n: by 3 % after 20 tanh layers of 512.

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
            raise TypeError(f"{argument} must be an initializer, such as fastinit.he_normal(), got {quoted(value)}")
    f = named(activation, a)
    depth, batch = check_integer("depth", depth, 1, MOST_LAYERS), check_integer("batch", batch, 2)
    for argument, flag in (("residual", residual), ("batch_norm", batch_norm), ("layer_norm", layer_norm)):
        check_flag(argument, flag)
    if isinstance(width, Sequence):
        widths = tuple(check_integer("every width", one, 1) for one in itertools.islice(width, MOST_LAYERS + 1))
    else:
        widths = (check_integer("width", width, 1),) * (depth + 1)
    if len(widths) != depth + 1:
        raise ValueError(f"width must be one number or depth + 1 = {depth + 1} of them, 1 or more, got {quoted(width)}")
    if residual and len(set(widths)) > 1:
        raise ValueError(f"a residual connection needs equal widths, got width={quoted(width)}")
    if batch_norm and layer_norm:
        raise ValueError("batch_norm and layer_norm exclude each other, got both")
    kernel = None if kernel is None else check_integer("kernel", kernel, 1)
    field = (kernel, kernel) if kernel else ()
    side = (check_integer("size", size, 1),) * 2 if kernel else ()
    key_of(seed)
    shapes = [(out, into, *field) for into, out in itertools.pairwise(widths)]
    values = sum(math.prod(shape) for shape in shapes) + 4 * batch * math.prod(side) * sum(widths)
    check_room("the network's weights and activations", 4 * values)
    stack = Stack(f, "batch" if batch_norm else "layer" if layer_norm else "", residual, kernel or 1, side)

    weights = [array(shape, init, seed=seed, name=f"layers.{n}.weight") for n, shape in enumerate(shapes, 1)]
    biases = [
        None if bias is None else array((shape[0],), bias, seed=seed, name=f"layers.{n}.bias")
        for n, shape in enumerate(shapes, 1)
    ]
    given = []
    for shape, weight in zip(shapes, weights, strict=True):
        shift = None if bias is None else bias.distribution(shape[:1])
        moments = (0.0, 0.0) if shift is None else (shift.mean, shift.std**2)
        given.append(Given(shape[1], shape[0], _variance(init, weight), *moments))
    expected = predict(stack, given, batch)

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


def _variance(init: Initializer, weight: Array) -> float:
    """Return the weights' variance: the distribution's, or a random matrix's measured one; NaN where theory ends."""
    found = init.resolve(weight.shape)
    if isinstance(found, (Identity, Sinusoidal)):
        return math.nan
    if isinstance(found, Matrix):
        return float(np.mean(np.square(weight, dtype=np.float64)))
    return found.std**2 if found.mean == 0 else math.nan


def _measure(
    stack: Stack, weights: list[Array], biases: list[Array | None], start: Array, last: Array
) -> dict[str, Array]:
    """Run forward and backward; return the measured fields of `Propagation`."""
    depth = len(weights)
    names = ("preactivation", "activation", "gradient", "weight_gradient")
    found = {f"{name}_{moment}": np.full(depth, math.nan) for name in names for moment in ("mean", "std")}
    found |= {"saturated": np.full(depth, math.nan), "dead": np.full(depth, math.nan)}

    def note(name: str, layer: int, values: Array) -> None:
        found[f"{name}_mean"][layer], found[f"{name}_std"][layer] = _statistics(values)

    matrices = [weight.reshape(len(weight), weight.shape[1], -1).transpose(2, 1, 0).reshape(-1, len(weight))
                for weight in weights]  # fmt: skip
    kept: list[tuple[Array, Array, Array, Array]] = []
    x = start
    for layer, (matrix, bias) in enumerate(zip(matrices, biases, strict=True)):
        z = _patches(x, stack.kernel) @ matrix
        if bias is not None:
            z += bias
        note("preactivation", layer, z)
        z, divisor = _normalized(z, stack.norm)
        out, slope = stack.f.f(z), stack.f.slope(z)
        kept.append((x, z, divisor, slope))
        x = x + out if stack.residual else out
        note("activation", layer, x)
        if not np.isfinite(found["activation_std"][layer]):
            for name in ("preactivation_std", "activation_std"):
                found[name][layer + 1 :] = math.inf
            return found
        found["saturated"][layer] = np.mean(abs(slope) < SATURATED)
        found["dead"][layer] = np.mean((slope == 0).reshape(-1, z.shape[-1]).all(axis=0))
    gradient = last
    for layer in reversed(range(depth)):
        x, z, divisor, slope = kept.pop()
        note("gradient", layer, gradient)
        inner = _normalized_back(gradient * slope, z, divisor, stack.norm)
        rows = _patches(x, stack.kernel)
        note("weight_gradient", layer, rows.reshape(-1, rows.shape[-1]).T @ inner.reshape(-1, inner.shape[-1]))
        before = _patches_back(inner @ matrices[layer].T, stack.kernel)
        gradient = before + gradient if stack.residual else before
    return found


def _statistics(values: Array) -> tuple[float, float]:
    """Return mean and std, summed up in float64; infinite if a value is not finite."""
    if not np.isfinite(values).all():
        return math.nan, math.inf
    return float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))


def _patches(x: Array, kernel: int) -> Array:
    """Return the inputs of every place of a convolution, side by side; x itself for dense layers."""
    if x.ndim == 2:
        return x
    return np.concatenate([np.roll(x, (-i, -j), (1, 2)) for i, j in _shifts(kernel)], axis=-1)


def _patches_back(gradient: Array, kernel: int) -> Array:
    """Apply the transpose of `_patches`."""
    if gradient.ndim == 2:
        return gradient
    parts = np.split(gradient, kernel**2, axis=-1)
    rolled = [np.roll(part, shift, (1, 2)) for part, shift in zip(parts, _shifts(kernel), strict=True)]
    return np.asarray(sum(rolled[1:], start=rolled[0]))


def _shifts(kernel: int) -> list[tuple[int, int]]:
    """Return the offsets of a kernel's pixels from its place."""
    around = range(-(kernel // 2), kernel - kernel // 2)
    return list(itertools.product(around, around))


def _axes(z: Array, norm: str) -> tuple[int, ...]:
    """Return the axes that a normalization averages over: samples and places, or units."""
    return tuple(range(z.ndim - 1)) if norm == "batch" else (-1,)


def _normalized(z: Array, norm: str) -> tuple[Array, Array]:
    """Normalize z to mean 0 and variance 1; return the divisor, too."""
    if not norm:
        return z, np.ones((), z.dtype)
    axes = _axes(z, norm)
    z = z - z.mean(axes, keepdims=True)
    divisor = np.sqrt((z * z).mean(axes, keepdims=True) + EPSILON)
    return z / divisor, divisor


def _normalized_back(gradient: Array, z: Array, divisor: Array, norm: str) -> Array:
    """Return the gradient with respect to the values that were normalized to z."""
    if not norm:
        return gradient
    axes = _axes(z, norm)
    along = (gradient * z).mean(axes, keepdims=True)
    return np.asarray((gradient - gradient.mean(axes, keepdims=True) - z * along) / divisor)
