"""Plain SGD in NumPy on the digits that scikit-learn ships, to see whether a network learns from where it begins."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import fastinit as fi
from fastinit.propagation.activations import named

Array = npt.NDArray[Any]


class Trained(NamedTuple):
    """The mean loss of every epoch, the first before any step; the weights at the end, and the accuracy."""

    losses: list[float]
    weights: list[Array]
    logits: float  # their root mean square before any step
    accuracy: float  # on the training set: whether it learns is the question


def digits() -> tuple[Array, Array]:
    """1,797 images of 64 pixels, standardized as a whole, and their classes."""
    from sklearn.datasets import load_digits

    images, classes = load_digits(return_X_y=True)
    images = images.astype(np.float32)
    return (images - images.mean()) / images.std(), classes


def train(
    init: fi.Initializer,
    *,
    activation: str,
    hidden: int,
    width: int,
    rate: float,
    epochs: int,
    batch: int = 64,
) -> Trained:
    """Hidden layers and a linear one of ten classes, softmax and cross-entropy, no biases."""
    f = named(activation)
    images, classes = digits()
    truth = np.eye(10, dtype=np.float32)[classes]
    sizes = [images.shape[1], *[width] * hidden, 10]
    weights = [fi.array((out, into), init, seed=0, name=f"layers.{n}.weight")
               for n, (into, out) in enumerate(itertools.pairwise(sizes), 1)]  # fmt: skip
    order = np.random.default_rng(0)

    def forward(x: Array) -> tuple[list[Array], list[Array]]:
        """The inputs of every layer, and the sums."""
        inputs, sums = [x], []
        for weight in weights:
            sums.append(inputs[-1] @ weight.T)
            inputs.append(f.f(sums[-1]))
        return inputs, sums

    def loss() -> float:
        chances = _softmax(forward(images)[1][-1])[np.arange(len(classes)), classes]
        return float(-np.log(np.maximum(chances, 1e-30)).mean())

    logits = float(np.sqrt(np.square(forward(images)[1][-1]).mean()))
    losses = [loss()]
    for _ in range(epochs):
        for rows in np.array_split(order.permutation(len(images)), len(images) // batch):
            inputs, sums = forward(images[rows])
            gradient = (_softmax(sums[-1]) - truth[rows]) / len(rows)
            for layer in reversed(range(len(weights))):
                change = gradient.T @ inputs[layer]
                if layer:
                    gradient = (gradient @ weights[layer]) * f.slope(sums[layer - 1])
                weights[layer] -= rate * change
        losses.append(loss())
    right = forward(images)[1][-1].argmax(axis=1) == classes
    return Trained(losses, weights, logits, float(right.mean()))


def _softmax(logits: Array) -> Array:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
