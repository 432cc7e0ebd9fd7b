"""The interface of backends: modules that fill one kind of memory. `fastinit.sampling.cpu` and ``cuda`` are two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from fastinit.initializers.base import Initializer
from fastinit.sampling.progress import Progress

if TYPE_CHECKING:
    import numpy as np

Sizes = tuple[int, ...]


class Work(Protocol):
    """A fill that is checked and planned, of any array of one layout."""

    def run(self, out: Any, key: int, stream: int, threads: int | None, progress: Progress, /) -> None:
        """Fill an array that the backend opened, not an empty one."""


class Backend(Protocol):
    """A module with these functions."""

    def opened(self, out: Any, /) -> tuple[np.ndarray[Any, Any], Any]:
        """Return an array that describes the argument, and the argument as `Work.run` takes it; or refuse it."""

    def planned(
        self, init: Initializer, dtype: np.dtype[Any], strides: Sizes, shape: Sizes, whole: Sizes, offset: Sizes, /
    ) -> Work:
        """Check and plan the fill of an array of this layout, a region of a tensor of shape ``whole``."""
