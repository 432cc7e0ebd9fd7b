"""Recommendation of the initializer that keeps activations and gradients, by theory alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from fastinit.core.checks import check_flag, check_integer
from fastinit.initializers.base import Initializer
from fastinit.initializers.scaling import he_normal, lecun_normal, variance_scaling, xavier_normal
from fastinit.propagation.activations import Function, moments, named
from fastinit.propagation.mean_field import CHANGED, MOST_LAYERS, Given, Stack, change_of, predict, rate_of

_FAMILIES = (lecun_normal, xavier_normal, he_normal)


class Rival(NamedTuple):
    """One initializer in theory.

    Attributes
    ----------
    init
        Initializer.
    rate, gradient_rate
        Factor of the activations' std a layer, and of the gradients', backwards.
    cost
        The larger abs(log) of both over the whole depth, and the spread that the width causes; lower is better.
    holds
        Whether neither changes by a factor of 16 over the whole depth.
    """

    init: Initializer
    rate: float
    gradient_rate: float
    cost: float
    holds: bool


class Recommendation(NamedTuple):
    """Result of `recommend`.

    Attributes
    ----------
    init
        Initializer of the least cost, among those that hold if any does.
    holds
        Whether it does.
    rivals
        All initializers that were compared, the best first, each with its theory.
    """

    init: Initializer
    holds: bool
    rivals: tuple[Rival, ...]


def recommend(
    activation: str | tuple[Function, Function] = "relu",
    *,
    a: float = 0.01,
    residual: bool = False,
    depth: int = 50,
    width: int = 512,
) -> Recommendation:
    """Return the initializer under which stds change least in theory, in both directions, over ``depth`` equal layers.

    Compared are LeCun's, Xavier's and He's, the one of the exact gain 1 / E[f(z)**2] at unit variance, and the best
    variance_scaling of a search over scales in [1/8, 8]. The cost is abs(log) of the activations' change over all
    layers or of the gradients', whichever is larger, plus the spread that the width causes. A family's that holds is
    preferred to the search's; LeCun's to Xavier's, its equal here, since a fan_in keeps activations where
    widths differ, too.

    In a residual network the smaller the branches are, the less changes, to the point where they do nothing. There the
    answer is the exact gain's with a variance divided by 2 depth, or the family's that is nearest: the mean square
    grows by (1 + 1 / (2 depth))**depth, below sqrt(e), and by more where f has a mean.

    Parameters
    ----------
    activation, a, residual, width
        As for `propagate`.
    depth
        Layers, at least 2: the change counts from the first to the last.

    Raises
    ------
    TypeError, ValueError
        As `propagate`.

    Examples
    --------
    >>> recommend("relu").init
    he_normal()
    >>> recommend("tanh").init
    lecun_normal()
    >>> recommend("gelu", residual=True, depth=12).init
    variance_scaling(scale=2.352, distribution='normal', depth=12)
    """
    f = named(activation, a)
    depth, width = check_integer("depth", depth, 2, MOST_LAYERS), check_integer("width", width, 1)
    check_flag("residual", residual)
    stack = Stack(f, residual=residual)

    def judged(init: Initializer) -> Rival:
        given = Given(width, width, init.distribution((width, width)).std ** 2)
        found = predict(stack, [given] * depth, 1)
        stds = found["predicted_std"], found["predicted_gradient_std"][::-1]
        changes = [abs(math.log(changed)) if 0 < (changed := change_of(std)) < math.inf else math.inf for std in stds]
        cost = max(changes) + float(found["spread"][-1])
        return Rival(init, rate_of(stds[0]), rate_of(stds[1]), cost, max(changes) < math.log(CHANGED))

    families = [family() for family in _FAMILIES]
    if f.name == "leaky_relu":
        families.append(he_normal(nonlinearity="leaky_relu", a=a))
    exact = 1 / moments(f, 0.0, 1.0).square
    if residual:
        branches = [*(family(depth=depth) for family in _FAMILIES), _scaling(exact, depth)]
        wanted = exact / (2 * depth * width)
        chosen = judged(
            min(branches, key=lambda init: abs(math.log(init.distribution((width, width)).std ** 2 / wanted)))
        )
        rivals = [chosen, *map(judged, (*families, _scaling(exact)))]
    else:
        rivals = [*map(judged, families)]
        holding = [rival for rival in rivals if rival.holds]
        costs = [rival.cost for rival in rivals]  # a scaling that is one of the families is not listed again
        rivals += {rival for rival in (judged(_scaling(exact)), _searched(judged)) if rival.cost not in costs}
        chosen = min(holding or rivals, key=_cost)
    return Recommendation(chosen.init, chosen.holds, tuple(sorted(rivals, key=_cost)))


def _searched(judged: Callable[[Initializer], Rival]) -> Rival:
    """Return the best of variance_scaling by scale in [1/8, 8]: powers of 2, then thrice between neighbours."""
    scales = [2.0**k for k in range(-3, 4)]
    for _ in range(4):
        rivals = [judged(_scaling(scale)) for scale in scales]
        best = min(rivals, key=_cost)
        place = rivals.index(best)
        low, high = scales[max(place - 1, 0)], scales[min(place + 1, len(scales) - 1)]
        scales = [low * (high / low) ** (k / 4) for k in range(5)]
    return best


def _scaling(scale: float, depth: int | None = None) -> Initializer:
    return variance_scaling(float(f"{scale:.4g}"), "fan_in", "normal", depth=depth)


def _cost(rival: Rival) -> float:
    return rival.cost
