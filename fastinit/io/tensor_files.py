"""Tensors of .npy, .npz and .safetensors files, mapped into memory; all else in a file is refused."""

from __future__ import annotations

import math
import mmap
import os
import struct
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, NamedTuple

import numpy as np

from fastinit.core.arrays import Array
from fastinit.core.dtypes import DTYPES, dtype_of
from fastinit.core.text import QUOTED, printable, quoted, size_text
from fastinit.io.files import open_regular, parse_json, reserve

_INTEGERS = {
    "int64": "I64",
    "uint64": "U64",
    "int32": "I32",
    "uint32": "U32",
    "int16": "I16",
    "uint16": "U16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
_SIZES = {name: row.size for name, row in DTYPES.items()} | {name: np.dtype(name).itemsize for name in _INTEGERS}
# safetensors' names of dtypes, in the order in which tensors are laid out: the widest first
CODES = {name: row.code for name, row in DTYPES.items()} | _INTEGERS
CODES = {name: CODES[name] for name in sorted(CODES, key=_SIZES.__getitem__, reverse=True)}
_NAMES = {code: name for name, code in CODES.items()}
_OTHERS = {  # bits an element of the other dtypes of safetensors
    "C64": 64,
    "F8_E4M3": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2": 8,
    "F8_E5M2FNUZ": 8,
    "F8_E8M0": 8,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F4": 4,
}
MAX_HEADER = 100_000_000  # bytes of a safetensors header: its own library's limit
METADATA = "__metadata__"  # the key of a safetensors header that is no tensor's name
_CHUNK = 1 << 20
_INFLATION = 1032  # deflate takes two bits for 258 bytes at least
_ALIGNED = 64
_LOCAL = struct.Struct("<26xHH")  # the head of a zip file's member ends with the lengths of a name and of extras


class Opened(NamedTuple):
    """A file's tensors by name, and the reasons of those that cannot be looked at."""

    arrays: dict[str, Array]
    skipped: dict[str, str]


class _Place(NamedTuple):
    """Place of an array in a file."""

    start: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Literal["C", "F"] = "C"

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class _UnfitError(Exception):
    """Fault of a file."""


def open_tensors(path: str | Path) -> Opened:
    """Return the tensors of a .npy, .npz or .safetensors file, mapped into memory to be read: bfloat16 too.

    Compressed members of an .npz are unpacked into a temporary file without a name, and that is mapped.

    Raises
    ------
    ValueError
        If the name ends otherwise, or the file is not of that format, whole and with nothing else in it.
    OSError
        If it cannot be read, or not be unpacked for lack of space.
    """
    path = Path(path)
    readers = {".npy": _npy, ".npz": _npz, ".safetensors": _safetensors}
    if path.suffix not in readers:
        raise ValueError(f"FILE must end in {', '.join(readers)}, got {printable(str(path))}")
    try:
        with open_regular(path) as file:
            return readers[path.suffix](file)
    except _UnfitError as error:
        raise ValueError(f"{printable(str(path))} is no {path.suffix} file that can be read: {error}") from None


def _npy(file: BinaryIO) -> Opened:
    """Return the array of a .npy file, under the file's name."""
    size = _size(file)
    place = _array_header(file, size)
    if trailing := size - place.start - place.nbytes:
        raise _UnfitError(f"{trailing} bytes follow its array")
    return _collect(_mapped(file), {Path(file.name).stem: place})


def _array_header(source: IO[bytes], size: int) -> _Place:
    """Return the place that the head of an array in NumPy's format gives, if the array fits into ``size`` bytes."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old headers, and of odd Python in them
            version = np.lib.format.read_magic(source)
            if version not in readers:  # 3.0 is for arrays with named fields
                raise ValueError(f"version {version} of the format, known are 1.0 and 2.0")
            shape, fortran, dtype = readers[version](source)
    except (OSError, zlib.error, zipfile.BadZipFile):
        raise
    except Exception as error:  # a header is evaluated as Python, and almost anything can come of that
        raise _UnfitError(f"no array, {quoted(str(error) or type(error).__name__)}") from None
    if dtype.hasobject:
        raise _UnfitError("it holds Python objects, which are not loaded")
    if not all(type(length) is int and 0 <= length < 1 << 63 for length in shape):
        raise _UnfitError(f"no array, its shape is {quoted(shape)}")
    place = _Place(source.tell(), shape, dtype, "F" if fortran else "C")
    if place.start + place.nbytes > size:
        raise _UnfitError(f"an array of {place.nbytes} bytes cannot be in {size}")
    return place


def _npz(file: BinaryIO) -> Opened:
    """Return the arrays of a .npz file: those stored as they are mapped in place, and the unpacked ones."""
    stored: dict[str, _Place] = {}
    packed: dict[str, _Place] = {}
    skipped: dict[str, str] = {}
    with _faults("it"), zipfile.ZipFile(file) as archive, tempfile.TemporaryFile() as unpacked:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            with _faults(f"member {quoted(member.filename)}"):
                if name in stored or name in packed or name in skipped:
                    raise ValueError("it is there twice")
                if name == member.filename:
                    skipped[name] = "not an array: the member's name does not end in .npy"
                elif member.compress_type == zipfile.ZIP_STORED:
                    stored[name] = _stored(archive, member, file)
                elif member.compress_type == zipfile.ZIP_DEFLATED:
                    packed[name] = _unpacked(archive, member, unpacked)
                else:
                    raise ValueError(f"compression {member.compress_type} is not one that NumPy writes")
        if not (stored or packed):
            raise ValueError("there is no array in it")
        unpacked.flush()
        arrays = _collect(_mapped(file), stored), _collect(_mapped(unpacked), packed)
    return Opened(arrays[0].arrays | arrays[1].arrays, skipped | arrays[0].skipped | arrays[1].skipped)


@contextmanager
def _faults(place: str) -> Iterator[None]:
    """Raise one kind of error for every fault of a zip file or its member."""
    try:
        yield
    except _UnfitError as error:
        raise _UnfitError(str(error) if str(error).startswith("member ") else f"{place}: {error}") from None
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        LookupError,
        MemoryError,
        OverflowError,
        RuntimeError,  # encrypted, or a feature of zip files that Python has not
        ValueError,
    ) as error:
        raise _UnfitError(f"{place}: {printable(str(error) or type(error).__name__)[:QUOTED]}") from None


def _stored(archive: zipfile.ZipFile, member: zipfile.ZipInfo, file: BinaryIO) -> _Place:
    """Return the place in the file of an uncompressed member's array, after its checksum has been compared."""
    file.seek(member.header_offset)
    head = file.read(_LOCAL.size)
    with archive.open(member) as source:  # compares the local header with the directory
        start = member.header_offset + sum(_LOCAL.unpack(head), _LOCAL.size)
        if member.compress_size != member.file_size or start + member.file_size > _size(file):
            raise ValueError(f"it is said to have {member.file_size} bytes, and has not")
        place = _array_header(source, member.file_size)
        for _ in _data(source, place, member):
            pass
    return place._replace(start=start + place.start)


def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo, unpacked: IO[bytes]) -> _Place:
    """Unpack the array of a compressed member, and return its place in the unpacked file."""
    if member.file_size > _INFLATION * member.compress_size:
        raise ValueError(f"{member.compress_size} bytes cannot be {member.file_size} compressed ones")
    with archive.open(member) as source:
        place = _array_header(source, member.file_size)
        start = -(-unpacked.tell() // _ALIGNED) * _ALIGNED
        try:
            if place.nbytes:
                reserve(unpacked.fileno(), start + place.nbytes)
            unpacked.seek(start)
            for chunk in _data(source, place, member):
                unpacked.write(chunk)
        except OSError as error:
            wanted = (
                f"unpack {size_text(place.nbytes)} of {printable(str(archive.filename))} in {tempfile.gettempdir()}"
            )
            raise OSError(error.errno, f"cannot {wanted}: {error.strerror}") from None
    return place._replace(start=start)


def _data(source: IO[bytes], place: _Place, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yield the bytes behind a member's header: exactly its array, with the right checksum, which reading compares."""
    if trailing := member.file_size - place.start - place.nbytes:
        raise ValueError(f"{trailing} bytes follow its array")
    left = place.nbytes
    while chunk := source.read(_CHUNK):
        left -= len(chunk)
        yield chunk
    if left:
        raise ValueError(f"{left} bytes of its array are missing")


def _safetensors(file: BinaryIO) -> Opened:
    """Return the tensors of a safetensors file: as its own library, and without what the format's text forbids.

    https://huggingface.co/docs/safetensors: no duplicate keys, nothing before the header's ``{``, three keys a tensor.
    """
    size = _size(file)
    length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, MAX_HEADER):
        raise _UnfitError(f"it has {size} bytes, and its header is said to have {length} (at most {MAX_HEADER})")
    try:
        text = file.read(length).decode("utf-8")
        if not text.startswith("{"):
            raise ValueError("its header is no object")
        content = parse_json(text)
        metadata = content.pop(METADATA, {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError(f"{METADATA} must be a table of texts")
        for one in (*content, *metadata, *metadata.values()):
            one.encode()  # half a surrogate pair is no text
        entries = [(name, *_entry(name, entry)) for name, entry in content.items()]
    except ValueError as error:
        raise _UnfitError(str(error)) from None
    at = 0
    for name, _, _, (begin, end) in sorted(entries, key=lambda entry: entry[3]):
        if begin != at:
            raise _UnfitError(f"tensor {quoted(name)} begins at {begin}, and what is before it ends at {at}")
        at = end
    if at != size - 8 - length:
        raise _UnfitError(f"its tensors have {at} bytes, and {size - 8 - length} follow its header")
    places = {
        name: _Place(8 + length + begin, shape, dtype_of(_NAMES[code]))
        for name, code, shape, (begin, _) in entries
        if code in _NAMES
    }
    found = _collect(_mapped(file), places)
    others = {name: f"dtype {code} cannot be verified" for name, code, _, _ in entries if code in _OTHERS}
    return found._replace(skipped=found.skipped | others)


def _entry(name: str, entry: Any) -> tuple[str, tuple[int, ...], tuple[int, int]]:
    """Return the dtype, shape and offsets of a tensor in a safetensors header, which must agree."""
    place = f"tensor {quoted(name)}"
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{place} must be an object with dtype, shape and data_offsets, got {quoted(entry)}")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or not (code in _NAMES or code in _OTHERS):
        raise ValueError(f"{place} has the dtype {quoted(code)}, known are {', '.join((*_NAMES, *_OTHERS))}")
    for key, numbers in (("shape", shape), ("data_offsets", offsets)):
        if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n < 1 << 64 for n in numbers):
            raise ValueError(f"{place}: {key} must be a list of numbers in [0, 2**64), got {quoted(numbers)}")
    bits = 8 * _SIZES[_NAMES[code]] if code in _NAMES else _OTHERS[code]
    wanted = product((*shape, bits), 1 << 64)
    if wanted is None:
        raise ValueError(f"{place} cannot have the shape {quoted(shape)}")
    if len(offsets) != 2 or 8 * (offsets[1] - offsets[0]) != wanted:
        raise ValueError(
            f"{place}: {code}{quoted(shape)} has {wanted} bits, which data_offsets {quoted(offsets)} are not"
        )
    return code, tuple(shape), (offsets[0], offsets[1])


def product(sizes: Iterable[int], limit: int) -> int | None:
    """Return the product, or None where it reaches the limit on the way.

    Examples
    --------
    >>> product((3, 4), 100), product((1000, 1000, 0), 100)
    (12, None)
    """
    found = 1
    for size in sizes:
        found *= size
        if found >= limit:
            return None
    return found


def _size(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size


def _mapped(file: IO[bytes]) -> Array:
    """Return the bytes of a file, to be read; the mapping outlives the file object."""
    if _size(file) == 0:
        return np.empty(0, np.uint8)
    return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)


def _collect(data: Array, places: Mapping[str, _Place]) -> Opened:
    """Return the arrays at these places of a file, as far as NumPy and `verify` know their kinds."""
    arrays: dict[str, Array] = {}
    skipped: dict[str, str] = {}
    for name, place in places.items():
        if place.dtype.name not in CODES or not place.dtype.isnative:
            skipped[name] = f"dtype {printable(str(place.dtype))[:QUOTED]} cannot be verified"
            continue
        try:
            values = data[place.start : place.start + place.nbytes].view(place.dtype)
            arrays[name] = values.reshape(place.shape, order=place.order)
        except ValueError:  # more axes than it has, or huge ones without elements
            skipped[name] = f"NumPy has no arrays of shape {quoted(list(place.shape))}"
    return Opened(arrays, skipped)
