"""The kernels of a GPU: the scalar functions of `transforms`, four values (of float64 two) a thread and step.

A thread makes one Philox block, whose values lie next to each other in the tensor, and stores them at once where they
do so in memory. What must be drawn again is drawn by the thread that made it, one attempt of one element a step: so the
threads of a warp wait for the longest sum of attempts, not for the sum of the longest.
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
from fastinit.kernels.cpu import LAST_ATTEMPT
from fastinit.kernels.cuda_cache import kept
from fastinit.kernels.entries import describe
from fastinit.kernels.intrinsics import (
    long_word,
    low_half,
    low_word,
    lshr,
    put_four,
    put_one,
    put_two,
    select,
    shl,
    to_bfloat16,
    to_float16,
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

THREADS = 256  # of a block
BOUNDS = (THREADS, 4)  # four of these blocks on a multiprocessor of any kind: 64 registers a thread at most

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


def _maker(transform_class, wide):
    """Return a function from a block to its finished values."""
    row = ROWS[transform_class]
    draw: Any = row.pair

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

    if row.propose is None:
        return two if wide else four

    @_device
    def some_of_two(transform, block, key, stream):
        a, b = two(transform, block, key, stream)
        return a, b, _outside(transform, a) != 0, _outside(transform, b) != 0

    @_device
    def some_of_four(transform, block, key, stream):
        a, b, c, d = four(transform, block, key, stream)
        low = _outside(transform, a) + 2 * _outside(transform, b)
        return a, b, c, d, low + 4 * _outside(transform, c) + 8 * _outside(transform, d)

    @_device
    def all_of_two(transform, block, key, stream):
        return transform.lower, transform.lower, True, True

    @_device
    def all_of_four(transform, block, key, stream):
        return transform.lower, transform.lower, transform.lower, transform.lower, np.int64(15)

    first_attempt, proposal = row.first_attempt, _proposal(transform_class, wide)
    begin_two, begin_four = (some_of_two, some_of_four) if draw else (all_of_two, all_of_four)

    @_device
    def next_try(transform, element, attempt, key, stream):
        value, good = proposal(transform, _words(element, attempt, key, stream))
        value = select(good, value, clamp(value, transform.lower, transform.upper))  # of the last try
        return value, good | (attempt == LAST_ATTEMPT)

    @_device
    def settled_two(transform, block, key, stream):
        a, b, first, second = begin_two(transform, block, key, stream)  # conditions, which take no registers
        attempt = np.int64(first_attempt)
        while first or second:
            value, done = next_try(transform, 2 * block if first else 2 * block + 1, attempt, key, stream)
            a, b = select(first, value, a), select(first, b, value)
            attempt += 1
            if done:
                first, second, attempt = False, first and second, np.int64(first_attempt)
        return a, b

    @_device
    def settled_four(transform, block, key, stream):
        a, b, c, d, todo = begin_four(transform, block, key, stream)
        attempt = np.int64(first_attempt)
        while todo != 0:
            upper = np.int64(2) if todo & 3 == 0 else np.int64(0)
            j = upper if (todo >> upper) & 1 != 0 else upper + 1
            value, done = next_try(transform, 4 * block + j, attempt, key, stream)
            a, b = select(j == 0, value, a), select(j == 1, value, b)
            c, d = select(j == 2, value, c), select(j == 3, value, d)
            attempt += 1
            if done:
                todo, attempt = todo & (todo - 1), np.int64(first_attempt)
        return a, b, c, d

    return settled_two if wide else settled_four


def _encoder(transform_class, dtype):
    """Return a function from a value to the element that is stored."""
    encoding = DTYPES[dtype].encoding
    if encoding == "as is":
        return _device(lambda value, low, high: value)
    rounded = ROUNDINGS[encoding]
    if ROWS[transform_class].bounded:
        return _device(lambda value, low, high: low_half(rounded(clamp(value, low, high))))
    return _device(lambda value, low, high: low_half(rounded(value)))


def _stored(transform_class: Any, dtype: str) -> Any:
    """Return functions that make and that store the elements of a block, their number, and the bytes of one."""
    size, wide = DTYPES[dtype].size, DTYPES[dtype].precision is DOUBLE
    make, encode = _maker(transform_class, wide), _encoder(transform_class, dtype)

    @_device
    def two(transform, low, high, key, stream, block):
        a, b = make(transform, block, key, stream)
        return encode(a, low, high), encode(b, low, high)

    @_device
    def four(transform, low, high, key, stream, block):
        a, b, c, d = make(transform, block, key, stream)
        return encode(a, low, high), encode(b, low, high), encode(c, low, high), encode(d, low, high)

    return (two, _put_two, 2, size) if wide else (four, _put_four, 4, size)


def _repeated(size: int) -> Any:
    """Return the parts that `_stored` does, for a constant's bits."""

    @_device
    def two(transform, low, high, key, stream, block):
        return transform.value, transform.value

    @_device
    def four(transform, low, high, key, stream, block):
        return transform.value, transform.value, transform.value, transform.value

    return (two, _put_two, 2, size) if size == 8 else (four, _put_four, 4, size)


def _kernel(elements, put, count, size):
    """Return the loop over blocks."""
    shift = count.bit_length() - 1

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
            row = np.int64(y)
            while row < rows:
                to = address + plane * plane_stride + row * row_stride
                begin = first + plane * plane_step + row * row_step
                last = (begin + columns - 1) >> shift
                block = (begin >> shift) + np.int64(x)
                while block <= last:
                    at = (block << shift) - begin
                    put(to + at * stride, elements(transform, low, high, key, stream, block), at, columns, stride, size)
                    block += x_step
                row += y_step
            plane += z_step

    return fill_blocks


@lru_cache(maxsize=64)
def _function(transform_class: Any, dtype: str) -> Any:
    """Return the loop of a transform and a dtype, to be compiled."""
    parts = (
        _repeated(np.dtype(dtype).itemsize) if transform_class is ConstantTransform else _stored(transform_class, dtype)
    )
    return _kernel(*parts)


@lru_cache(maxsize=64)
def kernel(transform_class: Any, dtype: str) -> Any:
    """Return the kernel of a transform and a dtype, compiled when it is first launched; `ptx` lists its parameters.

    The bits of a constant are an unsigned integer, whose dtype is named for it.
    """
    function = _function(transform_class, dtype)
    if SIMULATED:
        return cuda.jit(function)
    return kept(cuda.jit(function, launch_bounds=BOUNDS), f"{describe(transform_class, dtype)} on a GPU")


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
        text, _ = cuda.compile(
            _function(transform_class, dtype), arguments, device=False, abi="numba", cc=cc, launch_bounds=BOUNDS
        )
    return str(text)


def check_installed() -> None:
    """Refuse to go on without numba-cuda; Numba's own simulator will do."""
    if not SIMULATED and importlib.util.find_spec("numba_cuda") is None:
        raise ImportError(f"arrays on a GPU need numba-cuda: {INSTALL}")
