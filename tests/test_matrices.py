"""Matrices that are made as a whole: their defining properties, their measures, and that a region is a slice of them.

The Kolmogorov-Smirnov and chi-square tests have a fixed seed and the false alarm rate `ALPHA`, divided by their number.
"""

from __future__ import annotations

import math
import re
import tracemalloc
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import fastinit as fi
from fastinit.initializers.base import FACTORIES
from fastinit.initializers.matrices import Matrix, Places, Sparse, Table
from fastinit.io.checkpoint import initialize
from fastinit.io.manifests import Tensor
from fastinit.io.rules import Rule
from tests import reference
from tests.helpers import DTYPES, assert_same, every_dtype, invoke
from tests.test_fill import assert_only_written, placed

Array = np.ndarray[Any, Any]

ALPHA = 1e-4
MATRICES = 20_000  # a KS test of so many sees a distance of sqrt(ln(2 / ALPHA) / (2 MATRICES)) = 0.016

# what is to be made, and how many axes it takes
INITS: dict[str, tuple[fi.Initializer, int]] = {
    "orthogonal": (fi.orthogonal(), 2),
    "orthogonal, convolution": (fi.orthogonal(0.5), 4),
    "orthogonal, stacked": (fi.orthogonal(layout="NIO"), 3),
    "orthogonal, Keras": (fi.orthogonal(layout="...IO"), 3),
    "orthogonal, heads": (fi.orthogonal(layout="INOO"), 4),
    "delta_orthogonal": (fi.delta_orthogonal(2.0, layout="H...IO"), 4),
    "delta_orthogonal, stacked": (fi.delta_orthogonal(layout="NOHI"), 4),
    "eye": (fi.eye(-0.3), 2),
    "dirac": (fi.dirac(), 4),
    "dirac, groups": (fi.dirac(2, layout="IOH"), 3),
    "dirac, stacked": (fi.dirac(layout="HNOI"), 4),
    "sparse": (fi.sparse(0.3), 2),
    "sparse, Keras": (fi.sparse(0.3, std=1.0, layout="IO"), 2),
    "sinusoidal": (fi.sinusoidal(), 2),
    "sinusoidal, repeated": (fi.sinusoidal("whisper", base=500.0), 3),
}
every_init = pytest.mark.parametrize(("init", "axes"), INITS.values(), ids=INITS)
proven = settings(derandomize=True, deadline=None)


def made(shape: Sequence[int], init: fi.Initializer, dtype: Any = np.float32, seed: int = 7, threads: int = 1) -> Array:
    return fi.array(shape, init, seed=seed, name="w", dtype=dtype, threads=threads)


def test_every_matrix_is_tested_here() -> None:
    found = {type(init.resolve(whole_shape(init, [6] * axes))) for init, axes in INITS.values()}
    assert found == set(Matrix.__args__) - {Table}  # whose shape is given: tests/test_tables.py
    for name in ("orthogonal", "delta_orthogonal", "eye", "dirac", "sparse", "sinusoidal"):
        assert name in FACTORIES
        assert any(init.factory == name for init, _ in INITS.values())


def whole_shape(init: fi.Initializer, sizes: Sequence[int]) -> tuple[int, ...]:
    """These sizes, changed so that the initializer takes them."""
    shape, layout = list(sizes), dict(init.arguments).get("layout", "OI...")
    o = {"H...IO": 3, "NOHI": 1}.get(layout)
    if init.factory == "delta_orthogonal":
        i = {"H...IO": 2, "NOHI": 3}[layout]
        shape[o], shape[i] = max(shape[o], shape[i]), min(shape[o], shape[i])  # type: ignore[index]
    if "whisper" in dict(init.arguments).values():
        shape[-1] = max(4, shape[-1] + shape[-1] % 2)
    if "groups" in dict(init.arguments):
        shape[1] += shape[1] % 2
    return tuple(shape)


@every_init
@proven
@given(st.data())
def test_a_region_is_a_slice_of_the_whole_in_any_memory(init: fi.Initializer, axes: int, data: st.DataObject) -> None:
    sizes = st.lists(st.sampled_from([1, 2, 3, 5, 8]), min_size=axes, max_size=axes)
    whole = whole_shape(init, data.draw(sizes))
    dtype, threads = data.draw(st.sampled_from(DTYPES)), data.draw(st.integers(1, 3))
    offset = [data.draw(st.integers(0, size - 1)) for size in whole]
    shape = [data.draw(st.integers(0, size - at)) for size, at in zip(whole, offset, strict=True)]
    order = data.draw(st.permutations(range(axes)))
    steps = data.draw(st.lists(st.sampled_from([1, -1, 2, -3]), min_size=axes, max_size=axes))
    memory, view = placed(shape, dtype, order, steps, data.draw(st.integers(0, 2)), data.draw(st.integers(0, 7)))
    out = fi.fill(view, init, seed=7, name="w", threads=threads, global_shape=whole, global_offset=offset)
    assert out is view
    here = tuple(slice(at, at + size) for at, size in zip(offset, shape, strict=True))
    assert_same(view, made(whole, init, dtype)[here])
    assert_only_written(memory, view)


@every_init
def test_large_enough_for_several_pieces(init: fi.Initializer, axes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = {2: (60, 90), 3: (6, 40, 30), 4: (6, 20, 8, 30)}[axes]
    shape = whole_shape(init, shape)
    once = made(shape, init)
    monkeypatch.setattr("fastinit.initializers.matrices.KEY_BYTES", 1 << 12)
    monkeypatch.setattr("fastinit.initializers.matrices.PIECE_BYTES", 1 << 9)
    seen: list[tuple[int, int]] = []
    pieces = np.empty(shape, np.float32)
    fi.fill(pieces, init, seed=7, name="w", threads=3, progress=lambda *done: seen.append(done))
    assert_same(pieces, once)
    assert seen[0] == (0, once.nbytes)
    assert seen[-1] == (once.nbytes, once.nbytes)


@every_init
def test_sixteen_bits_are_the_float32_value_rounded(init: fi.Initializer, axes: int) -> None:
    shape = whole_shape(init, [8, 5, 4, 6][:axes])
    for dtype in DTYPES[:2]:
        assert_same(made(shape, init, dtype), made(shape, init).astype(dtype))
    wide = made(shape, init, np.float64)
    assert wide.dtype == np.float64
    if init.factory == "eye":
        assert wide[0, 0] == -0.3 != float(np.float32(-0.3)) == float(made(shape, init)[0, 0])


# Orthogonal

LAYOUTS = {  # a layout, and the order of axes that makes it stack, outputs, all else
    "OI...": lambda n: range(n),
    "...IO": lambda n: (n - 1, *range(n - 1)),
    "IO...": lambda n: (1, 0, *range(2, n)),
    "O...I": lambda n: range(n),
}


def as_matrix(weight: Array, layout: str) -> Array:
    turned = weight.transpose(LAYOUTS[layout](weight.ndim))  # type: ignore[no-untyped-call]
    return turned.reshape(turned.shape[0], -1).astype(np.float64)


@proven
@given(
    st.lists(st.sampled_from([1, 2, 3, 7, 16, 33]), min_size=2, max_size=4),
    st.sampled_from(sorted(LAYOUTS)),
    st.integers(0, 2**64 - 1),
    st.sampled_from([1.0, 0.3, 1.7]),
    st.sampled_from([np.float32, np.float64]),
)
def test_orthogonal_is_orthogonal(shape: list[int], layout: str, seed: int, gain: float, dtype: Any) -> None:
    w = as_matrix(made(shape, fi.orthogonal(gain, layout=layout), dtype, seed), layout)
    normals = as_matrix(made(shape, fi.normal(), dtype, seed), layout)
    tall, q = (normals, w) if len(w) >= w.shape[1] else (normals.T, w.T)
    np.testing.assert_allclose(
        q.T @ q / gain**2, np.eye(q.shape[1]), rtol=0, atol=1e-6 if dtype == np.float32 else 1e-14
    )
    # what the normals are in Q's basis is upper triangular, with a diagonal above zero: so q is the Q of theirs
    r = q.T @ tall
    scale = abs(r).max()
    assert abs(np.tril(r, -1)).max() < 1e-5 * scale
    assert (np.diagonal(r) > -1e-5 * scale).all()


@pytest.mark.parametrize("shape", [(256, 300), (700, 64), (400, 400), (1, 5000), (5000, 1), (64, 3, 7, 7)], ids=str)
def test_large_ones_are_orthonormal_to_a_millionth(shape: tuple[int, ...]) -> None:
    w = as_matrix(made(shape, fi.orthogonal()), "OI...")
    small = w @ w.T if len(w) <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(small, np.eye(len(small)), rtol=0, atol=1e-6)
    assert w.mean() == pytest.approx(0, abs=5 / max(w.shape) ** 0.5 / w.size**0.5)
    assert (w**2).mean() == pytest.approx(1 / max(w.shape), rel=1e-6)


def test_a_stack_is_of_independent_ones() -> None:
    stack = made((3, 8, 5), fi.orthogonal(layout="NOI")).astype(np.float64)
    for one in stack:
        np.testing.assert_allclose(one.T @ one, np.eye(5), rtol=0, atol=1e-6)
    assert abs(stack[0] - stack[1]).max() > 0.1
    flat = as_matrix(made((3, 8, 5), fi.orthogonal()), "OI...")  # the same normals, read as a convolution's
    np.testing.assert_allclose(flat @ flat.T, np.eye(3), rtol=0, atol=1e-6)


def ks(values: Array, cdf: Any) -> float:
    return float(stats.kstest(values.ravel(), cdf).pvalue)


def test_the_measure_is_haars() -> None:
    """Of a Haar-distributed 3 x 3 matrix every element is uniform on [-1, 1], the trace has mean 0 and variance 1 (the
    identity's characters), and the determinant is as often -1 as 1. LAPACK's own Q fails all of them.
    """
    shape = (MATRICES, 3, 3)
    fixed = made(shape, fi.orthogonal(layout="NOI")).astype(np.float64)
    bare = np.linalg.qr(made(shape, fi.normal()).astype(np.float64))[0]
    uniform = stats.uniform(-1, 2).cdf
    assert min(ks(fixed[:, i, j], uniform) for i in range(3) for j in range(3)) > ALPHA / 9
    assert ks(bare[:, 0, 0], uniform) < ALPHA / 9
    assert (fixed**2).mean(axis=0) == pytest.approx(np.full((3, 3), 1 / 3), abs=5 * math.sqrt(4 / 45 / MATRICES))
    error = 5 / math.sqrt(MATRICES)
    traces, bare_traces = np.trace(fixed, axis1=1, axis2=2), np.trace(bare, axis1=1, axis2=2)
    assert traces.mean() == pytest.approx(0, abs=error)
    assert traces.var() == pytest.approx(1, abs=2 * error)  # the fourth moment is 3, so the variance's error is sqrt(2)
    assert abs(bare_traces.mean()) > error
    assert np.linalg.det(fixed).mean() == pytest.approx(0, abs=error)
    assert abs(np.linalg.det(bare).mean()) > error


def test_memory_of_the_orthogonal() -> None:
    """As the docstring says: 8 bytes an element, and 4 more beside them while float32 is converted."""
    made((8, 8), fi.orthogonal())
    made((8, 8), fi.orthogonal(), np.float64)
    for dtype, each in ((np.float32, 12), (np.float64, 8)):
        for shape in ((900, 1000), (3000, 300)):
            out = np.empty(shape, dtype)
            tracemalloc.start()
            fi.fill(out, fi.orthogonal(), seed=0, name=0)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < (each + 0.7) * out.size + 1e6, (dtype, shape, peak / out.size)


@proven
@given(st.data(), st.integers(0, 2**64 - 1))
def test_delta_orthogonal(data: st.DataObject, seed: int) -> None:
    inputs = data.draw(st.integers(1, 9))
    outputs = data.draw(st.integers(inputs, 16))
    field = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    w = made((*field, inputs, outputs), fi.delta_orthogonal(0.5, layout="...IO"), seed=seed)
    middle = tuple((size - 1) // 2 for size in field)
    h = w[middle].astype(np.float64)
    np.testing.assert_allclose(h @ h.T, np.eye(inputs) / 4, rtol=0, atol=1e-6)
    assert np.count_nonzero(w) == np.count_nonzero(h)
    same = made((outputs, inputs, *field), fi.delta_orthogonal(0.5), seed=seed)
    assert np.count_nonzero(same) == np.count_nonzero(same.T[tuple(reversed(middle))])


def test_a_delta_convolution_keeps_norms() -> None:
    w = made((5, 3, 4), fi.delta_orthogonal(layout="HIO")).astype(np.float64)
    signal = np.random.default_rng(0).standard_normal((3, 50))
    passed = np.stack([sum(np.convolve(signal[i], w[::-1, i, o], "same") for i in range(3)) for o in range(4)])
    assert (passed**2).sum() == pytest.approx((signal**2).sum(), rel=1e-6)


# Identities


@pytest.mark.parametrize("shape", [(1, 1), (5, 5), (3, 8), (8, 3), (0, 4)], ids=str)
def test_eye(shape: tuple[int, int]) -> None:
    assert_same(made(shape, fi.eye()), np.eye(*shape, dtype=np.float32))
    assert_same(made(shape, fi.eye(2.5), np.float64), 2.5 * np.eye(*shape))


@proven
@given(st.data())
def test_dirac(data: st.DataObject) -> None:
    groups, each, inputs = (data.draw(st.integers(1, 4)) for _ in range(3))
    field = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    expected = np.zeros((groups * each, inputs, *field), np.float32)
    for group in range(groups):
        for k in range(min(each, inputs)):
            expected[(group * each + k, k, *(size // 2 for size in field))] = 1
    assert_same(made(expected.shape, fi.dirac(groups)), expected)
    turned = np.ascontiguousarray(np.moveaxis(expected, (0, 1), (-1, -2)))
    assert_same(made(turned.shape, fi.dirac(groups, layout="...IO")), turned)


def test_a_small_region_of_a_huge_identity() -> None:
    """It takes no more memory than itself."""
    for init, whole in ((fi.eye(), (1 << 25, 1 << 26)), (fi.dirac(1 << 10), (1 << 25, 1 << 15, 3))):
        at = (1 << 15) - 2
        out = np.empty((5, 4, *[3] * (len(whole) - 2)), np.float32)
        fi.fill(out, init, seed=0, name=0, global_shape=whole, global_offset=(at, at - 2, *[0] * (len(whole) - 2)))
        tap = out[..., 1] if out.ndim == 3 else out
        ones = [(k, k + 2) for k in range(2)]
        assert [tuple(place) for place in np.argwhere(tap).tolist()] == ones
        assert np.count_nonzero(out) == len(ones)


# Sparse


def keys(index: Array, seed: int) -> Array:
    """The elements' words of attempt 1, from the contract's reference."""
    block, word = np.divmod(index.ravel().astype(np.uint64), np.uint64(4))
    four = reference.block_words(block, 1, seed, "w")
    return np.take_along_axis(four, word.astype(np.int64)[:, None], axis=1).reshape(index.shape)


@proven
@given(
    st.integers(1, 40),
    st.integers(1, 12),
    st.integers(0, 100),
    st.integers(0, 2**64 - 1),
    st.sampled_from(DTYPES),
    st.sampled_from(["OI", "IO"]),
)
def test_sparse(rows: int, columns: int, percent: int, seed: int, dtype: np.dtype[Any], layout: str) -> None:
    shape = (rows, columns) if layout == "OI" else (columns, rows)
    w = made(shape, fi.sparse(percent / 100, std=0.5, layout=layout), dtype, seed)
    normals = made(shape, fi.normal(std=0.5), dtype, seed)
    words = keys(np.arange(rows * columns).reshape(shape), seed)
    if layout == "IO":
        w, normals, words = w.T, normals.T, words.T
    zeros = -(-rows * percent // 100)
    places = np.argsort(words, axis=0, kind="stable")[:zeros]
    expected = normals.copy()
    np.put_along_axis(expected, places, 0, axis=0)
    assert_same(w, expected)
    if dtype.itemsize > 2:  # no float32 or float64 of the normal itself is zero
        assert ((w == 0).sum(axis=0) == zeros).all()


@every_dtype
def test_pinned_zeros(dtype: np.dtype[Any]) -> None:
    """Of stream format 1, the same in every precision."""
    w = fi.array((8, 4), fi.sparse(0.25), seed=0, name="w", dtype=dtype)
    assert [np.flatnonzero(column == 0).tolist() for column in w.T] == [[2, 3], [0, 5], [6, 7], [2, 7]]


def test_equal_keys_and_the_upper_row() -> None:
    class Equal:
        def values(self, out: Array, distribution: fi.Distribution, offset: Places) -> None:
            out[...] = 1

        def keys(self, out: Array, offset: Places) -> None:
            out[...] = 5

    out = np.empty((5, 3), np.float32)
    Sparse((8, 3), 1.0, 0.5, "OI").make(out, (1, 0), Equal())
    assert out.tolist() == [[0.0] * 3] * 3 + [[1.0] * 3] * 2


def test_far_into_a_huge_sparse_tensor() -> None:
    whole, offset = (64, 1 << 45), (3, (1 << 45) - 5)
    out = fi.fill(
        np.empty((20, 5), np.float32), fi.sparse(0.4), seed=9, name="w", global_shape=whole, global_offset=offset
    )
    index = np.arange(64)[:, None] * (1 << 45) + np.arange(offset[1], whole[1])
    rank = np.argsort(np.argsort(keys(index, 9), axis=0), axis=0)
    assert ((out == 0) == (rank < 26)[3:23]).all()


def test_how_many_zeros() -> None:
    """The share is the decimal number that was written, where torch's product of floats may pass an integer."""
    more = []
    for percent in range(101):
        for rows in (1, 3, 7, 30, 100, 300):
            share = percent / 100
            zeros = Sparse((rows, 1), 1.0, share, "OI").zeros
            assert zeros == math.ceil(Fraction(percent, 100) * rows)
            if math.ceil(share * rows) != zeros:
                more.append((share, rows))
    assert (0.07, 100) in more
    assert len(more) == 13
    assert all((made((100, 9), fi.sparse(share)) == 0).sum() == 900 * share for share in (0.0, 0.5, 1.0))


def test_the_zeros_lie_anywhere() -> None:
    """Chi-square of the zeros in each of 20 rows over 20000 columns: sees a share that is wrong by some 4 %."""
    rows, columns = 20, MATRICES
    zero = made((rows, columns), fi.sparse(0.3)) == 0

    def p_value(zero: Array) -> float:
        counts, share = zero.sum(axis=1), 0.3
        # the counts of a column add up to 6: their covariance is singular, and (rows - 1) / rows is its factor
        statistic = ((counts - share * columns) ** 2).sum() / (columns * share * (1 - share)) * (rows - 1) / rows
        return float(stats.chi2.sf(statistic, rows - 1))

    assert p_value(zero) > ALPHA
    moved = zero.copy()
    moved[0] |= np.arange(columns) % 25 == 0
    assert p_value(moved) < ALPHA
    kept = made((rows, columns), fi.sparse(0.3, std=1.0))[~zero].astype(np.float64)
    assert ks(kept, stats.norm.cdf) > ALPHA
    assert kept.std() == pytest.approx(1, abs=5 / math.sqrt(2 * kept.size))


def test_memory_of_the_sparse() -> None:
    made((8, 8), fi.sparse(0.5))
    out = np.empty((4096, 3000), np.float32)
    tracemalloc.start()
    fi.fill(out, fi.sparse(0.5), seed=0, name=0, threads=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20


# What cannot be


@every_init
def test_no_law(init: fi.Initializer, axes: int) -> None:
    with pytest.raises(TypeError, match=rf"{re.escape(repr(init))} has no distribution.*fastinit\.array"):
        init.distribution(whole_shape(init, [6] * axes))


@pytest.mark.parametrize(
    ("init", "shape", "dtype", "error", "message"),
    [
        (fi.orthogonal(), (3, 3), np.int32, TypeError, "int32 takes only zeros"),
        (fi.eye(), (3, 3), np.bool_, TypeError, "bool takes only zeros"),
        (fi.eye(1e5), (3, 3), np.float16, ValueError, "float16 ends at 65504"),
        (fi.orthogonal(1e5), (3, 3), np.float16, ValueError, "float16 ends at 65504"),
        (fi.sparse(0.5, std=1e5), (3, 3), np.float16, ValueError, "float16 ends at 65504"),
        (fi.orthogonal(), (3,), np.float32, ValueError, "'OI...' does not describe"),
        (fi.orthogonal(layout="NO"), (3, 3), np.float32, ValueError, "axis beside the outputs"),
        (fi.orthogonal(layout="NOI"), (3, 3), np.float32, ValueError, "'NOI' does not describe"),
        (fi.delta_orthogonal(), (3, 3), np.float32, ValueError, "delta_orthogonal needs .* a field"),
        (fi.delta_orthogonal(), (3, 4, 5), np.float32, ValueError, "as many outputs as inputs"),
        (fi.delta_orthogonal(layout="OON"), (3, 4, 5), np.float32, ValueError, "one of inputs"),
        (fi.eye(), (3, 3, 3), np.float32, ValueError, "eye needs .* two axes"),
        (fi.dirac(), (3, 3), np.float32, ValueError, "dirac needs .* a field"),
        (fi.dirac(2), (3, 3, 3), np.float32, ValueError, "groups must divide the 3 outputs.*2"),
        (fi.sparse(0.5), (3, 3, 3), np.float32, ValueError, "sparse needs .* two axes"),
    ],
)
def test_nothing_is_written_where_it_cannot_be(
    init: fi.Initializer, shape: tuple[int, ...], dtype: Any, error: type[Exception], message: str
) -> None:
    out = np.zeros(shape, dtype)
    with pytest.raises(error, match=message):
        fi.fill(out, init, seed=0, name=0)
    with pytest.raises(error, match=message):  # as before a whole model is written
        fi.fill(np.empty([0] * len(shape), dtype), init, seed=0, name=0, global_shape=shape)
    assert not out.any()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fi.orthogonal(-1), ValueError, "gain.*-1"),
        (lambda: fi.orthogonal("1"), TypeError, "gain"),  # type: ignore[arg-type]
        (lambda: fi.orthogonal(layout="XY"), ValueError, "layout.*'XY'"),
        (lambda: fi.delta_orthogonal(math.nan), ValueError, "gain.*nan"),
        (lambda: fi.eye(math.inf), ValueError, "gain.*inf"),
        (lambda: fi.dirac(0), ValueError, "groups.*0"),
        (lambda: fi.dirac(1.0), TypeError, r"groups.*1\.0"),  # type: ignore[arg-type]
        (lambda: fi.sparse(1.1), ValueError, r"sparsity.*1\.1"),
        (lambda: fi.sparse(-0.1), ValueError, r"sparsity.*-0\.1"),
        (lambda: fi.sparse(0.1, -1), ValueError, "std.*-1"),
        (lambda: fi.sparse(0.1, layout="NOI"), ValueError, "layout.*'NOI'"),
        (lambda: Sparse(((1 << 32) + 1, 1), 1.0, 0.5, "OI"), ValueError, r"2\*\*32 rows"),
    ],
)
def test_bad_arguments(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


# In files

TENSORS = [
    Tensor("orthogonal", (6, 4), "float32"),
    Tensor("delta_orthogonal", (6, 4, 3), "bfloat16"),
    Tensor("eye", (6, 4), "float64"),
    Tensor("dirac", (6, 4, 3), "float16"),
    Tensor("sparse(0.5)", (6, 4), "float32"),
]


def test_a_model_of_them(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    rules = [Rule(fi.parse(tensor.name), match=tensor.name) for tensor in TENSORS]
    initialize(TENSORS, tmp_path / "w.safetensors", rules, seed=3)
    stored = safetensors.load_file(tmp_path / "w.safetensors")
    for tensor in TENSORS:
        init = fi.parse(tensor.name)
        expected = fi.array(tensor.shape, init, seed=3, name=tensor.name, dtype=tensor.dtype)
        assert_same(stored[tensor.name], expected)
    with pytest.raises(ValueError, match=r"tensor 'w'.*eye.*two axes"):
        initialize([Tensor("w", (3,), "float32")], tmp_path / "x.safetensors", [Rule(fi.eye())], seed=0)
    assert not (tmp_path / "x.safetensors").exists()


def test_the_command_line(tmp_path: Path) -> None:
    out = tmp_path / "w.npy"
    options = ["--shape", "6x4", "--init", "orthogonal(gain=2.0)", "--seed", "3", "--name", "w", "--quiet"]
    assert invoke("fill", out, *options)[0] == 0
    assert_same(np.load(out), fi.array((6, 4), fi.orthogonal(2.0), seed=3, name="w"))
