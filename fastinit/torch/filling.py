"""`fill_`: one tensor of torch's, by torch's rules."""

from __future__ import annotations

from torch import Tensor

from fastinit.core.keys import key_of, stream_of
from fastinit.core.text import quoted
from fastinit.initializers.base import Initializer
from fastinit.torch.contexts import Filling
from fastinit.torch.sharding import is_distributed
from fastinit.torch.slots import storage_of


def fill_(tensor: Tensor, init: Initializer, *, seed: int, name: str | int, threads: int | None = None) -> Tensor:
    """Fill a tensor in place, as torch's own functions with an underscore do.

    Parameters
    ----------
    tensor
        Of float16, bfloat16, float32 or float64, for constants also of integers or booleans; of any strides, on the CPU
        or a GPU. On other devices the values are made in the CPU's memory and copied. Of a DTensor the part that this
        rank holds is filled, with its values in the whole, and no rank waits for another. A tensor on the meta device
        is left alone.
    init, seed, name, threads
        As for `fastinit.fill`. The fans come from the whole tensor's shape.

    Returns
    -------
    torch.Tensor
        ``tensor``.

    Raises
    ------
    RuntimeError
        As torch: of a leaf that requires gradients outside of ``torch.no_grad()``, of a tensor that overlaps itself.
        Of a part of a DTensor, such as a row, if torch has made it a copy: a write to it would be lost.
    TypeError, ValueError
        As `fastinit.fill`, and if a DTensor is a sum that is still to be made (`Partial`).

    Examples
    --------
    >>> import fastinit as fi, fastinit.torch, torch
    >>> w = fastinit.torch.fill_(torch.empty(3, 2), fi.he_normal(), seed=0, name="w")
    >>> bool((w.numpy() == fi.array((3, 2), fi.he_normal(), seed=0, name="w")).all())
    True
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"tensor must be a torch tensor, got {type(tensor).__name__}")
    if not isinstance(init, Initializer):
        raise TypeError(f"init must be an initializer, such as fastinit.he_normal(), got {quoted(init)}")
    key_of(seed), stream_of(name)
    if is_distributed(tensor) and tensor._is_view() and storage_of(tensor) != storage_of(tensor._base):
        raise RuntimeError("tensor is a part of a DTensor that torch copied, so that a write is lost: fill the whole")
    with Filling(init, seed, name, threads):
        return tensor.zero_()
