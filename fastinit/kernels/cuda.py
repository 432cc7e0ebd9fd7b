"""The kernels of a GPU: the scalar functions of `transforms`, four values (of float64 two) a thread and step.

A thread makes one Philox block, whose values lie next to each other in the tensor, and stores them at once where they
do so in memory. What must be drawn again is stored and noted, a bit each, for some blocks; then the thread that noted
it makes its attempts, one a step, whichever element they are for. The threads of a warp wait for the longest sum of
attempts: of many blocks, since those sums are more alike than those of one.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.core import config
from numba.extending import register_jitable

from fastinit.core.dtypes import DOUBLE, DTYPES, FLOATS, dtype_of
from fastinit.core.text import quoted
from fastinit.kernels.cache import describe, keep
from fastinit.kernels.cpu import LAST_ATTEMPT
from fastinit.kernels.intrinsics import (
    add,
    and_,
    long_word,
    low_half,
    low_word,
    lshr,
    put_four,
    put_one,
    put_two,
    select,
    shl,
    sub,
    to_bfloat16,
    to_float16,
    trailing_zeros,
)
from fastinit.kernels.philox import philox
from fastinit.kernels.transforms import ROWS, TRANSFORMS, clamp

cuda: Any = importlib.import_module("numba.cuda")  # which has no types
SIMULATED = bool(vars(config)["ENABLE_CUDASIM"])
INSTALL = "pip install 'fastinit-weights[cuda]' (or 'fastinit-weights[cuda13]' for the wheels of CUDA 13)"


class ConstantTransform(NamedTuple):
    """The bits of one value, which all elements get."""

    value: Any


# the transforms that a GPU has, by name
KINDS: dict[str, Any] = {"constant": ConstantTransform} | {
    name: row.parameters for name, row in TRANSFORMS.items() if name != "words"
}
ROUNDINGS: dict[str, Any] = {"float16": to_float16, "bfloat16": to_bfloat16}  # by the encoding's name

NOTED = 64  # elements that a thread stores before it redraws those that were rejected: the bits of an integer
THREADS = 256  # of a block
BLOCKS_AT_ONCE = 4  # of these on a multiprocessor of any kind: 64 registers a thread at most

_device = register_jitable(forceinline=True)


@_device
def _words(block, attempt, key, stream):
    """Return the four words of a block, as uint32."""
    second = shl(attempt, 20) | lshr(block, 32)
    return philox(
        low_word(block),
        low_word(second),
        low_word(stream),
        low_word(lshr(stream, 32)),
        low_word(key),
        low_word(lshr(key, 32)),
    )


@_device
def _one(to, at, columns, value):
    """Store one element, if it is one of the row's."""
    if at >= 0 and at < columns:
        put_one(to, value)


@_device
def _put_four(to, values, at, columns, stride, size):
    """Store the elements of a block, of which number ``at`` of the row is the first: together where memory allows."""
    a, b, c, d = values
    # one condition, of which no part can be decided before the loop: the compiler would make the loop twice
    apart = (to & (4 * size - 1)) | (stride ^ size)
    if at >= 0 and at + 4 <= columns and apart == 0:
        put_four(to, a, b, c, d)
    else:
        _one(to, at, columns, a)
        _one(to + stride, at + 1, columns, b)
        _one(to + 2 * stride, at + 2, columns, c)
        _one(to + 3 * stride, at + 3, columns, d)


@_device
def _put_two(to, values, at, columns, stride, size):
    """Store the elements of a block of two."""
    a, b = values
    apart = (to & (2 * size - 1)) | (stride ^ size)
    if at >= 0 and at + 2 <= columns and apart == 0:
        put_two(to, a, b)
    else:
        _one(to, at, columns, a)
        _one(to + stride, at + 1, columns, b)


def _proposal(transform_class, wide):
    """Return a function from an element's own words to a value, and whether it is accepted."""
    propose: Any = ROWS[transform_class].propose

    @_device
    def wide_proposal(transform, words):
        return propose(transform, long_word(words[0], words[1]), long_word(words[2], words[3]))

    @_device
    def narrow_proposal(transform, words):
        first, taken = propose(transform, words[0], words[1])
        second, spare = propose(transform, words[2], words[3])
        return select(taken, first, second), taken | spare

    return wide_proposal if wide else narrow_proposal


@_device
def _outside(transform, value):
    """Return 1 if the value must be drawn again."""
    return np.int64((value < transform.lower) | (value > transform.upper))


def _values(transform_class, wide):
    """Return a function from a block to its values of attempt 0."""
    draw: Any = ROWS[transform_class].pair

    @_device
    def two(transform, block, key, stream):
        w = _words(block, np.int64(0), key, stream)
        return draw(transform, long_word(w[0], w[1]), long_word(w[2], w[3]))

    @_device
    def four(transform, block, key, stream):
        w = _words(block, np.int64(0), key, stream)
        a, b = draw(transform, w[0], w[1])
        c, d = draw(transform, w[2], w[3])
        return a, b, c, d

    return two if wide else four


def _attempts(transform_class, wide):
    """Return a function that makes an attempt of an element: a value, and whether it is the last one."""
    proposal = _proposal(transform_class, wide)

    @_device
    def attempt_of(transform, element, attempt, key, stream):
        value, good = proposal(transform, _words(element, attempt, key, stream))
        value = select(good, value, clamp(value, transform.lower, transform.upper))  # of the last try
        return value, good | (attempt == LAST_ATTEMPT)

    return attempt_of


def _encoder(transform_class, dtype):
    """Return a function from a value to the element that is stored."""
    encoding = DTYPES[dtype].encoding
    if encoding == "as is":
        return _device(lambda value, low, high: value)
    rounded = ROUNDINGS[encoding]
    if ROWS[transform_class].bounded:
        return _device(lambda value, low, high: low_half(rounded(clamp(value, low, high))))
    return _device(lambda value, low, high: low_half(rounded(value)))


def _elements(transform_class: Any, dtype: str) -> Any:
    """Return a function from values of a block to the elements that are stored."""
    encode = _encoder(transform_class, dtype)

    @_device
    def two(values, low, high):
        return encode(values[0], low, high), encode(values[1], low, high)

    @_device
    def four(values, low, high):
        a, b, c, d = values
        return encode(a, low, high), encode(b, low, high), encode(c, low, high), encode(d, low, high)

    return two if DTYPES[dtype].precision is DOUBLE else four


def _plain_row(values: Any, encode: Any, size: int, shift: int) -> Any:
    """Return a function that makes and stores those blocks of one row that are a thread's."""
    put = _put_two if shift == 1 else _put_four

    @_device
    def plain(transform, low, high, key, stream, to, begin, columns, stride, block, step):
        last = (begin + columns - 1) >> shift
        while block <= last:
            at = (block << shift) - begin
            elements = encode(values(transform, block, key, stream), low, high)
            put(to + at * stride, elements, at, columns, stride, size)
            block += step

    return plain


def _redrawn_row(transform_class: Any, dtype: str, values: Any, encode: Any, size: int, shift: int) -> Any:
    """Return the same where some values, or all, are made by attempts."""
    put, row, encode_one = (
        _put_two if shift == 1 else _put_four,
        ROWS[transform_class],
        _encoder(transform_class, dtype),
    )
    attempt_of, first_attempt = _attempts(transform_class, shift == 1), row.first_attempt
    per_block, all_places = 1 << shift, (1 << (1 << shift)) - 1

    @_device
    def rejected_two(transform, made):
        return _outside(transform, made[0]) + 2 * _outside(transform, made[1])

    @_device
    def rejected_four(transform, made):
        low = _outside(transform, made[0]) + 2 * _outside(transform, made[1])
        return low + 4 * _outside(transform, made[2]) + 8 * _outside(transform, made[3])

    rejected = rejected_two if shift == 1 else rejected_four

    @_device
    def some_places(transform, low, high, key, stream, to, at, columns, stride, block):
        made = values(transform, block, key, stream)
        put(to, encode(made, low, high), at, columns, stride, size)
        return rejected(transform, made)

    @_device
    def every_place(transform, low, high, key, stream, to, at, columns, stride, block):
        return np.int64(all_places)

    places = every_place if row.pair is None else some_places

    @_device
    def redrawn(transform, low, high, key, stream, to, begin, columns, stride, block, step):
        last = (begin + columns - 1) >> shift
        while block <= last:
            todo, bit = np.int64(0), np.int64(0)
            while bit < NOTED and block <= last:
                at = (block << shift) - begin
                noted = places(transform, low, high, key, stream, to + at * stride, at, columns, stride, block)
                todo = add(todo, shl(noted, bit))
                block += step
                bit += per_block
            attempt = np.int64(first_attempt)
            while todo != 0:
                place = trailing_zeros(todo)
                its_block = block - ((bit >> shift) - (place >> shift)) * step
                element = (its_block << shift) + (place & (per_block - 1))
                value, done = attempt_of(transform, element, attempt, key, stream)
                attempt += 1
                if done:
                    at = element - begin
                    _one(to + at * stride, at, columns, encode_one(value, low, high))
                    todo, attempt = and_(todo, sub(todo, 1)), np.int64(first_attempt)

    return redrawn


def _repeated(size: int) -> Any:
    """Return the row of a constant's bits."""

    @_device
    def bits_of(transform, block, key, stream):
        return transform.value

    @_device
    def two(value, low, high):
        return value, value

    @_device
    def four(value, low, high):
        return value, value, value, value

    return _plain_row(bits_of, two if size == 8 else four, size, 1 if size == 8 else 2)


def _kernel(row: Any, shift: int) -> Any:
    """Return the loop over the rows of an array; a block has ``1 << shift`` elements."""

    def fill_blocks(
        address,
        transform,
        low,
        high,
        key,
        stream,
        first,
        columns,
        stride,
        rows,
        row_stride,
        row_step,
        planes,
        plane_stride,
        plane_step,
    ):
        x, y, z = cuda.grid(3)
        x_step, y_step, z_step = cuda.gridsize(3)
        plane = np.int64(z)
        while plane < planes:
            place = np.int64(y)
            while place < rows:
                to = address + plane * plane_stride + place * row_stride
                begin = first + plane * plane_step + place * row_step
                block = (begin >> shift) + np.int64(x)
                row(transform, low, high, key, stream, to, begin, columns, stride, block, np.int64(x_step))
                place += y_step
            plane += z_step

    return fill_blocks


@lru_cache(maxsize=64)
def _function(transform_class: Any, dtype: str) -> Any:
    """Return the loop of a transform and a dtype, to be compiled."""
    if transform_class is ConstantTransform:
        size = np.dtype(dtype).itemsize
        return _kernel(_repeated(size), 1 if size == 8 else 2)
    size, wide = DTYPES[dtype].size, DTYPES[dtype].precision is DOUBLE
    shift, values, encode = 1 if wide else 2, _values(transform_class, wide), _elements(transform_class, dtype)
    if ROWS[transform_class].propose is None:
        return _kernel(_plain_row(values, encode, size, shift), shift)
    return _kernel(_redrawn_row(transform_class, dtype, values, encode, size, shift), shift)


def _bounds(transform_class: Any) -> tuple[int, int]:
    """Return the threads of a block, and how many blocks are to run at once: of a kernel with two draws one less."""
    row = None if transform_class is ConstantTransform else ROWS[transform_class]
    return THREADS, BLOCKS_AT_ONCE - (row is not None and row.pair is not None and row.propose is not None)


@lru_cache(maxsize=64)
def kernel(transform_class: Any, dtype: str) -> Any:
    """Return the kernel of a transform and a dtype, compiled when it is first launched; `ptx` lists its parameters.

    The bits of a constant are an unsigned integer, whose dtype is named for it.
    """
    function = _function(transform_class, dtype)
    if SIMULATED:
        return cuda.jit(function)
    form: Any = importlib.import_module("numba.cuda.dispatcher")
    return keep(
        cuda.jit(function, launch_bounds=_bounds(transform_class)),
        f"{describe(transform_class, dtype)} on a GPU",
        form.CUDACacheImpl,
        "cuda",
    )


def bits_name(size: int) -> str:
    """Return the name of the unsigned integers of this size in bytes, in which constants are stored."""
    return f"uint{8 * size}"


@contextmanager
def _as_device(cc: tuple[int, int]) -> Iterator[None]:
    """Let numba-cuda compile without a device: it asks for the current one's capability at every inner function."""
    dispatcher: Any = importlib.import_module("numba.cuda.dispatcher")

    asked = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=cc)
    try:
        yield
    finally:
        dispatcher.get_current_device = asked


def ptx(transform: str, dtype: str, cc: tuple[int, int] = (9, 0)) -> str:
    """Return the PTX text of a kernel, compiled without a GPU.

    Parameters
    ----------
    transform
        ``"constant"``, ``"uniform"``, ``"normal"``, ``"truncated"`` (a normal drawn until it is inside), ``"narrow"``
        (a truncated normal by uniform proposals) or ``"tail"`` (one by exponential proposals): a class of
        `fastinit.kernels.transforms` each, which `fastinit.sampling.lowering` makes of a distribution.
    dtype
        ``"float16"``, ``"bfloat16"``, ``"float32"`` or ``"float64"``; of a constant, others too.
    cc
        The compute capability.

    Returns
    -------
    str
        One ``.entry``, whose parameters are, in this order:

        - ``address`` (b64): where the region's first element is stored;
        - the distribution's parameters in the order of its class's fields, f32 for the 16-bit dtypes and float32, else
        f64;
          of a constant its bits, an unsigned integer of the dtype's size;
        - ``low``, ``high`` (as the distribution's): the bounds in which 16-bit values are held; other kernels ignore
        them;
        - ``key``, ``stream`` (b64): the seed, and the number that the name stands for;
        - ``first`` (b64): the index in the tensor of the region's first element;
        - ``columns``, ``stride`` (b64): how many elements follow each other in the tensor, and how many bytes
          apart they are stored;
        - ``rows``, ``row_stride``, ``row_step``, ``planes``, ``plane_stride``, ``plane_step`` (b64 each): two outer
          axes; how many, how many bytes and how many elements of the tensor apart.

        It runs on a grid of any size in three axes: x along the blocks of a row, y along the rows, z along the planes.

    Raises
    ------
    ImportError
        Without numba-cuda.
    RuntimeError
        In the simulator, which compiles nothing.
    ValueError
        If there is no such kernel.
    """
    if transform not in KINDS:
        raise ValueError(f"transform must be one of {', '.join(KINDS)}, got {quoted(transform)}")
    transform_class = KINDS[transform]
    if dtype not in FLOATS and transform_class is not ConstantTransform:
        raise ValueError(f"dtype must be one of {', '.join(FLOATS)}, got {quoted(dtype)}")
    check_installed()
    if SIMULATED:
        raise RuntimeError("the simulator of CUDA (NUMBA_ENABLE_CUDASIM=1) compiles no PTX")
    real = types.float64 if dtype in DTYPES and DTYPES[dtype].precision is DOUBLE else types.float32
    if transform_class is ConstantTransform:
        dtype = bits_name(dtype_of(dtype).itemsize)
        fields = [getattr(types, dtype)]
    else:
        fields = [real] * len(transform_class._fields)
    parameters = types.NamedUniTuple(fields[0], len(fields), transform_class)
    arguments = (types.int64, parameters, real, real, types.uint64, types.uint64, *[types.int64] * 9)
    with _as_device(cc):
        options = {"device": False, "abi": "numba", "cc": cc, "launch_bounds": _bounds(transform_class)}
        text, _ = cuda.compile(_function(transform_class, dtype), arguments, **options)
    return str(text)


def check_installed() -> None:
    """Refuse to go on without numba-cuda; Numba's own simulator will do."""
    if not SIMULATED and importlib.util.find_spec("numba_cuda") is None:
        raise ImportError(f"arrays on a GPU need numba-cuda: {INSTALL}")
