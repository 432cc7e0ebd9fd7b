"""The kernels of a GPU: the scalar functions of `draws`, four values (of float64 two) a thread and step.

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

from fastinit.kernels.compiled import draws_of, keep
from fastinit.kernels.cpu import LAST_ATTEMPT
from fastinit.kernels.draws import (
    DRAW,
    PROPOSE,
    NarrowDraw,
    NormalDraw,
    TailDraw,
    TruncatedDraw,
    UniformDraw,
    hold,
)
from fastinit.kernels.numerics import (
    choose,
    left,
    long_word,
    low_half,
    low_word,
    put_four,
    put_one,
    put_two,
    right,
    to_bfloat16,
    to_float16,
)
from fastinit.kernels.philox import philox
from fastinit.text import quoted

cuda: Any = importlib.import_module("numba.cuda")  # which has no types
SIMULATED = bool(vars(config)["ENABLE_CUDASIM"])
INSTALL = "pip install 'fastinit-weights[cuda]' (or 'fastinit-weights[cuda13]' for the wheels of CUDA 13)"


class ConstantDraw(NamedTuple):
    """The bits of one value, which all elements get."""

    value: Any


KINDS: dict[str, Any] = {
    "constant": ConstantDraw,
    "uniform": UniformDraw,
    "normal": NormalDraw,
    "truncated": TruncatedDraw,
    "narrow": NarrowDraw,
    "tail": TailDraw,
}

THREADS = 256  # of a block
BOUNDS = (THREADS, 4)  # four such blocks on a multiprocessor of any kind: 64 registers a thread at most

_device = register_jitable(forceinline=True)


@_device
def _words(block, attempt, key, stream):
    """The four words of a block, as uint32."""
    second = left(attempt, 20) | right(block, 32)
    return philox(
        low_word(block),
        low_word(second),
        low_word(stream),
        low_word(right(stream, 32)),
        low_word(key),
        low_word(right(key, 32)),
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
    """The same of two elements."""
    a, b = values
    apart = (to & (2 * size - 1)) | (stride ^ size)
    if at >= 0 and at + 2 <= columns and apart == 0:
        put_two(to, a, b)
    else:
        _one(to, at, columns, a)
        _one(to + stride, at + 1, columns, b)


def _proposal(law_class, wide):
    """A function from an element's own words to a value, and whether it is good."""
    first_attempt, propose = PROPOSE[law_class]

    @_device
    def wide_proposal(law, words):
        return propose(law, long_word(words[0], words[1]), long_word(words[2], words[3]))

    @_device
    def narrow_proposal(law, words):
        first, taken = propose(law, words[0], words[1])
        second, spare = propose(law, words[2], words[3])
        return choose(taken, first, second), taken | spare

    return first_attempt, wide_proposal if wide else narrow_proposal


@_device
def _outside(law, value):
    """1 if the value must be drawn again."""
    return np.int64((value < law.lower) | (value > law.upper))


def _maker(law_class, wide):
    """A function from a block to its finished values."""
    draw: Any = DRAW.get(law_class)

    @_device
    def two(law, block, key, stream):
        w = _words(block, np.int64(0), key, stream)
        return draw(law, long_word(w[0], w[1]), long_word(w[2], w[3]))

    @_device
    def four(law, block, key, stream):
        w = _words(block, np.int64(0), key, stream)
        a, b = draw(law, w[0], w[1])
        c, d = draw(law, w[2], w[3])
        return a, b, c, d

    if law_class not in PROPOSE:
        return two if wide else four

    @_device
    def some_of_two(law, block, key, stream):
        a, b = two(law, block, key, stream)
        return a, b, _outside(law, a) != 0, _outside(law, b) != 0

    @_device
    def some_of_four(law, block, key, stream):
        a, b, c, d = four(law, block, key, stream)
        return a, b, c, d, _outside(law, a) + 2 * _outside(law, b) + 4 * _outside(law, c) + 8 * _outside(law, d)

    @_device
    def all_of_two(law, block, key, stream):
        return law.lower, law.lower, True, True

    @_device
    def all_of_four(law, block, key, stream):
        return law.lower, law.lower, law.lower, law.lower, np.int64(15)

    first_attempt, proposal = _proposal(law_class, wide)
    begin_two, begin_four = (some_of_two, some_of_four) if draw else (all_of_two, all_of_four)

    @_device
    def next_try(law, element, attempt, key, stream):
        value, good = proposal(law, _words(element, attempt, key, stream))
        value = choose(good, value, hold(value, law.lower, law.upper))  # the last try counts, held in the bounds
        return value, good | (attempt == LAST_ATTEMPT)

    @_device
    def settled_two(law, block, key, stream):
        a, b, first, second = begin_two(law, block, key, stream)  # conditions, which take no registers
        attempt = np.int64(first_attempt)
        while first or second:
            value, done = next_try(law, 2 * block if first else 2 * block + 1, attempt, key, stream)
            a, b = choose(first, value, a), choose(first, b, value)
            attempt += 1
            if done:
                first, second, attempt = False, first and second, np.int64(first_attempt)
        return a, b

    @_device
    def settled_four(law, block, key, stream):
        a, b, c, d, todo = begin_four(law, block, key, stream)
        attempt = np.int64(first_attempt)
        while todo != 0:
            upper = np.int64(2) if todo & 3 == 0 else np.int64(0)
            j = upper if (todo >> upper) & 1 != 0 else upper + 1
            value, done = next_try(law, 4 * block + j, attempt, key, stream)
            a, b = choose(j == 0, value, a), choose(j == 1, value, b)
            c, d = choose(j == 2, value, c), choose(j == 3, value, d)
            attempt += 1
            if done:
                todo, attempt = todo & (todo - 1), np.int64(first_attempt)
        return a, b, c, d

    return settled_two if wide else settled_four


def _encoder(law_class, dtype):
    """A function from a value to the element that is stored."""
    if dtype in ("float32", "float64"):
        return _device(lambda value, low, high: value)
    rounded = to_bfloat16 if dtype == "bfloat16" else to_float16
    if law_class is NormalDraw:
        return _device(lambda value, low, high: low_half(rounded(value)))
    return _device(lambda value, low, high: low_half(rounded(hold(value, low, high))))


def _stored(law_class: Any, dtype: str) -> Any:
    """The elements of a block and the function that stores them; how many; the bytes of one."""
    size = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}[dtype]
    wide = size == 8
    make, encode = _maker(law_class, wide), _encoder(law_class, dtype)

    @_device
    def two(law, low, high, key, stream, block):
        a, b = make(law, block, key, stream)
        return encode(a, low, high), encode(b, low, high)

    @_device
    def four(law, low, high, key, stream, block):
        a, b, c, d = make(law, block, key, stream)
        return encode(a, low, high), encode(b, low, high), encode(c, low, high), encode(d, low, high)

    return (two, _put_two, 2, size) if wide else (four, _put_four, 4, size)


def _repeated(size: int) -> Any:
    """The same for a constant, whose bits are stored."""

    @_device
    def two(law, low, high, key, stream, block):
        return law.value, law.value

    @_device
    def four(law, low, high, key, stream, block):
        return law.value, law.value, law.value, law.value

    return (two, _put_two, 2, size) if size == 8 else (four, _put_four, 4, size)


def _kernel(elements, put, count, size):
    """The loop over blocks."""
    shift = count.bit_length() - 1

    def fill_blocks(
        address,
        law,
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
                    put(to + at * stride, elements(law, low, high, key, stream, block), at, columns, stride, size)
                    block += x_step
                row += y_step
            plane += z_step

    return fill_blocks


@lru_cache(maxsize=64)
def _function(law_class: Any, dtype: str) -> Any:
    """The loop of a law and a dtype, to be compiled."""
    parts = _repeated(np.dtype(dtype).itemsize) if law_class is ConstantDraw else _stored(law_class, dtype)
    return _kernel(*parts)


@lru_cache(maxsize=64)
def kernel(law_class: Any, dtype: str) -> Any:
    """The kernel of a law and a dtype, compiled when it is first launched; see `ptx` for what it is given.

    The bits of a constant are an unsigned integer, whose dtype is named for it.
    """
    function = _function(law_class, dtype)
    if SIMULATED:
        return cuda.jit(function)
    form: Any = importlib.import_module("numba.cuda.dispatcher")
    return keep(
        cuda.jit(function, launch_bounds=BOUNDS),
        f"{draws_of(law_class, dtype)} on a GPU",
        form.CUDACacheImpl,
        "cuda",
    )


def bits_name(size: int) -> str:
    """The unsigned integers of so many bytes, in which constants are stored."""
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


def ptx(law_kind: str, dtype: str, cc: tuple[int, int] = (9, 0)) -> str:
    """The PTX text of a kernel, compiled without a GPU.

    Parameters
    ----------
    law_kind
        ``"constant"``, ``"uniform"``, ``"normal"``, ``"truncated"`` (a normal drawn until it is inside), ``"narrow"``
        (a truncated normal by uniform proposals) or ``"tail"`` (one by exponential proposals): a class of
        `fastinit.kernels.draws` each, which `fastinit.prepare` makes of a law.
    dtype
        ``"float16"``, ``"bfloat16"``, ``"float32"`` or ``"float64"``; of a constant, others too.
    cc
        The compute capability.

    Returns
    -------
    str
        One ``.entry``, whose parameters are, in this order:

        - ``address`` (b64): where the region's first element is stored;
        - the law's parameters in the order of its class's fields, f32 for the 16-bit dtypes and float32, else f64;
          of a constant its bits, an unsigned integer of the dtype's size;
        - ``low``, ``high`` (as the law's): the bounds in which 16-bit values are held; other kernels ignore them;
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
    if law_kind not in KINDS:
        raise ValueError(f"law_kind must be one of {', '.join(KINDS)}, got {quoted(law_kind)}")
    law_class, floats = KINDS[law_kind], ("float16", "bfloat16", "float32", "float64")
    if dtype not in floats and law_class is not ConstantDraw:
        raise ValueError(f"dtype must be one of {', '.join(floats)}, got {quoted(dtype)}")
    check_installed()
    if SIMULATED:
        raise RuntimeError("the simulator of CUDA (NUMBA_ENABLE_CUDASIM=1) compiles no PTX")
    real = types.float64 if dtype == "float64" else types.float32
    if law_class is ConstantDraw:
        dtype = bits_name(2 if dtype == "bfloat16" else np.dtype(dtype).itemsize)
        fields = [getattr(types, dtype)]
    else:
        fields = [real] * len(law_class._fields)
    law = types.NamedUniTuple(fields[0], len(fields), law_class)
    arguments = (types.int64, law, real, real, types.uint64, types.uint64, *[types.int64] * 9)
    with _as_device(cc):
        text, _ = cuda.compile(
            _function(law_class, dtype), arguments, device=False, abi="numba", cc=cc, launch_bounds=BOUNDS
        )
    return str(text)


def check_installed() -> None:
    """Refuse to go on without numba-cuda; Numba's own simulator will do."""
    if not SIMULATED and importlib.util.find_spec("numba_cuda") is None:
        raise ImportError(f"arrays on a GPU need numba-cuda: {INSTALL}")
