"""Zarr arrays: what one is to be, made or found.

zarr is imported here alone, when it is needed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastinit.core.checks import check_choice, check_shape
from fastinit.core.dtypes import dtype_of
from fastinit.core.text import printable, quoted

BFLOAT16_AS = "bfloat16_as"  # attribute of an array of uint16 whose elements are the bits of bfloat16
Sizes = tuple[int, ...]


def package() -> Any:
    """Return zarr, of version 3 or later.

    Raises
    ------
    ImportError
        Without it; the message says how to install it.
    """
    try:
        import zarr
    except ImportError:
        raise ImportError("zarr arrays need zarr 3: pip install 'fastinit-weights[zarr]'") from None
    if int(zarr.__version__.split(".")[0]) < 3:
        raise ImportError(f"zarr arrays need zarr 3 or later, got {zarr.__version__}")
    return zarr


def is_local(path: str | Path) -> bool:
    """Test whether a path is one of the file system, not a URL."""
    return "://" not in str(path)


class Plan(NamedTuple):
    """What an array is to be: None leaves the chunks to zarr, and has no shards."""

    shape: Sizes
    dtype: np.dtype[Any]
    chunks: Sizes | None = None
    shards: Sizes | None = None
    bfloat16_as: str | None = None

    @classmethod
    def of(cls, shape: Sequence[int], dtype: Any, chunks: Any, shards: Any, bfloat16_as: Any) -> Plan:
        """Return a plan that zarr can store, or refuse it."""
        sizes, kind = check_shape("shape", shape), dtype_of(dtype)
        if bfloat16_as is not None:
            check_choice("bfloat16_as", bfloat16_as, ("uint16",))
        if (kind.name == "bfloat16") != (bfloat16_as is not None):
            reason = "zarr has no bfloat16" if bfloat16_as is None else f"dtype is {kind.name}"
            raise ValueError(f"bfloat16_as must be 'uint16' for bfloat16, else None, got {bfloat16_as!r}: {reason}")
        inner = None if chunks is None else _checked_steps("chunks", chunks, sizes)
        outer = None if shards is None else _checked_steps("shards", shards, sizes)
        if outer is not None:
            if inner is None:
                raise ValueError(f"chunks must be given with shards, got shards={outer}")
            if any(shard % chunk for shard, chunk in zip(outer, inner, strict=True)):
                raise ValueError(f"shards must be multiples of chunks, got shards={outer}, chunks={inner}")
        return cls(sizes, kind, inner, outer, bfloat16_as)

    def made(self, path: str | Path) -> Any:
        """Make the array, where there is nothing."""
        if is_local(path) and _occupied(path):
            raise ValueError(f"{printable(str(path))} must not exist yet: it may be resumed, or remove it")
        return package().create_array(
            str(path) if is_local(path) else path,
            shape=self.shape,
            dtype="uint16" if self.bfloat16_as else self.dtype,
            chunks=self.chunks or "auto",
            shards=self.shards,
            compressors=None,  # noise does not compress: a tenth at best, at a tenth of the speed
            attributes={BFLOAT16_AS: self.bfloat16_as} if self.bfloat16_as else None,
        )

    def found(self, path: str | Path) -> Any:
        """Open the array that is there, if it is as planned."""
        array = opened(path)
        facts = {
            "shape": (self.shape, array.shape),
            "dtype": (self.dtype.name, dtype_in(array).name),
            "chunks": (self.chunks or array.chunks, array.chunks),
            "shards": (self.shards or array.shards, array.shards),
        }
        for fact, (wanted, there) in facts.items():
            if wanted != there:
                raise ValueError(f"{fact} must be that of the array in {printable(str(path))}, {there}, got {wanted}")
        return array

    def made_or_found(self, path: str | Path, resume: bool) -> Any:
        """Return the array to go on with, else a new one."""
        return self.found(path) if resume and _occupied(path) else self.made(path)


def _checked_steps(argument: str, steps: Any, sizes: Sizes) -> Sizes:
    """Return the sizes of chunks or shards."""
    found = check_shape(argument, steps)
    if len(found) != len(sizes) or not all(found):
        raise ValueError(f"{argument} must be {len(sizes)} sizes of 1 or more for shape {sizes}, got {found}")
    return found


def _occupied(path: str | Path) -> bool:
    """Test whether there is anything but an empty folder."""
    return os.path.lexists(path) and not (os.path.isdir(path) and not os.listdir(path))


def create(
    path: str | Path,
    shape: Sequence[int],
    *,
    dtype: Any = "float32",
    chunks: Sequence[int] | None = None,
    shards: Sequence[int] | None = None,
    bfloat16_as: str | None = None,
) -> Any:
    """Make a zarr array of format 3 to be filled, uncompressed since random values hardly compress.

    Parameters
    ----------
    path
        A folder that does not exist yet.
    shape, dtype
        As for `fastinit.array`.
    chunks
        The sizes of a chunk; by default zarr's choice.
    shards
        The sizes of a shard, one file of several chunks: multiples of those of a chunk.
    bfloat16_as
        ``"uint16"`` stores bfloat16, which zarr lacks, as its bits, and says so in the attribute ``bfloat16_as``.

    Returns
    -------
    zarr.Array
        Without values yet.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed, or there is something under that path; before anything is written.

    Examples
    --------
    >>> import tempfile, fastinit.zarr
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fastinit.zarr.create(f"{folder}/w.zarr", (6, 4), chunks=(4, 4)).chunks
    (4, 4)
    """
    return Plan.of(shape, dtype, chunks, shards, bfloat16_as).made(path)


def opened(array_or_path: Any) -> Any:
    """Return the zarr array that is meant, if it can be written.

    Raises
    ------
    TypeError
        If it is neither an array nor a path.
    ValueError
        If there is no array, or it cannot be written.
    """
    zarr = package()
    array = array_or_path
    if isinstance(array_or_path, (str, Path)):
        try:
            array = zarr.open_array(str(array_or_path), mode="r+")
        except Exception as error:  # zarr's kinds of errors differ between stores and versions
            reason = printable(str(error).partition("\n")[0])
            raise ValueError(
                f"array_or_path must be a zarr array, got {quoted(str(array_or_path))}: {reason}"
            ) from None
    elif not isinstance(array_or_path, zarr.Array):
        raise TypeError(f"array_or_path must be a zarr.Array or the path of one, got {type(array_or_path).__name__}")
    if array.read_only:
        raise ValueError(f"array_or_path must be writable, got {quoted(array)} opened for reading alone")
    return array


def dtype_in(array: Any) -> np.dtype[Any]:
    """Return the dtype of the values that a zarr array holds: bfloat16 for those stored as uint16."""
    found: np.dtype[Any] = np.dtype(array.dtype)
    if found == np.uint16 and array.attrs.get(BFLOAT16_AS) == "uint16":
        return dtype_of("bfloat16")
    return found if found.isnative else found.newbyteorder("=")
