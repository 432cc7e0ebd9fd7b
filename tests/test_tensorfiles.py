"""Readers of .npy, .npz and .safetensors: what is read is right, and what is wrong is refused in one line."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors import deserialize as untyped

import fastinit as fi
from fastinit.io import tensor_files as tensorfiles
from fastinit.io.tensor_files import CODES, Opened, open_tensors, product
from tests.helpers import printed, python

deserialize: Any = untyped
DTYPES = {code: np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name) for name, code in CODES.items()}
FLOAT = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
ZEROS = b"\1\2\3\4"


def head(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def float_with(**changes: Any) -> bytes:
    return head({"w": {**FLOAT, **changes}}, ZEROS)


def raw(entry: str) -> bytes:
    return head(('{"w":{' + entry + "}}").encode(), ZEROS)


def of(code: str, shape: list[int], size: int) -> bytes:
    return head({"w": {"dtype": code, "shape": shape, "data_offsets": [0, size]}}, bytes(range(256))[:size])


def two(first: list[int], second: list[int], data: bytes = bytes(8)) -> bytes:
    entries = {"a": {**FLOAT, "data_offsets": first}, "b": {**FLOAT, "data_offsets": second}}
    return head(entries, data)


def empty(*offsets: int, shape: tuple[int, ...] = (0,)) -> bytes:
    return head({"w": FLOAT, "z": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}, ZEROS)


UNALIGNED = {
    "b": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
    "w": {"dtype": "F32", "shape": [1], "data_offsets": [1, 5]},
}
SIDE_BY_SIDE = {
    "one": head({"w": FLOAT}, ZEROS),
    "scalar": float_with(shape=[]),
    "no tensors": head({}),
    "metadata": head({"__metadata__": {"a": "b"}, "w": FLOAT}, ZEROS),
    "metadata alone": head({"__metadata__": {}}),
    "metadata of numbers": head({"__metadata__": {"a": 1}}),
    "metadata of null": head({"__metadata__": {"a": None}}),
    "metadata a list": head({"__metadata__": []}),
    "metadata a text": head({"__metadata__": "a"}),
    "spaces behind": head(json.dumps({"w": FLOAT}).encode() + b" \t\r\n", ZEROS),
    "zero byte behind": head(json.dumps({"w": FLOAT}).encode() + b"\0", ZEROS),
    "byte order mark": head(b"\xef\xbb\xbf" + json.dumps({"w": FLOAT}).encode(), ZEROS),
    "UTF-16": head(json.dumps({"w": FLOAT}).encode("utf-16"), ZEROS),
    "Latin-1": head('{"ä":'.encode("latin-1") + json.dumps(FLOAT).encode() + b"}", ZEROS),
    "UTF-8": head('{"ä\U0001f600":'.encode() + json.dumps(FLOAT).encode() + b"}", ZEROS),
    "half a pair": head(b'{"\\ud800":' + json.dumps(FLOAT).encode() + b"}", ZEROS),
    "a whole pair": head(b'{"\\ud83d\\ude00":' + json.dumps(FLOAT).encode() + b"}", ZEROS),
    "half a pair in metadata": head(b'{"__metadata__":{"a":"\\udfff"}}'),
    "a newline in a name": head(b'{"a\nb":' + json.dumps(FLOAT).encode() + b"}", ZEROS),
    "control characters": head({"a\0\x1b[2J": FLOAT}, ZEROS),
    "an empty name": head({"": FLOAT}, ZEROS),
    "no file": b"",
    "seven bytes": bytes(7),
    "no header": bytes(8),
    "header of no length": head(b"", b"{}"),
    "header past the end": head(b"{}", length=3),
    "header of 2**63": head(b"{}", length=1 << 63),
    "header of 2**64 - 1": head(b"{}", length=(1 << 64) - 1),
    "header a list": head([]),
    "header a number": head(b"1"),
    "header NaN": head(b'{"w":NaN}'),
    "header cut": head(b'{"w":'),
    "nested": head(b'{"w":' + b"[" * 10_000 + b"]" * 10_000 + b"}"),
    "entry null": head({"w": None}),
    "entry a number": head({"w": 1}),
    "entry empty": head({"w": {}}),
    "no dtype": raw('"shape":[1],"data_offsets":[0,4]'),
    "no shape": raw('"dtype":"F32","data_offsets":[0,4]'),
    "no offsets": raw('"dtype":"F32","shape":[1]'),
    "a field twice": raw('"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]'),
    "metadata twice": head(b'{"__metadata__":{},"__metadata__":{}}'),
    "dtype unknown": float_with(dtype="F128"),
    "dtype in lower case": float_with(dtype="f32"),
    "dtype null": float_with(dtype=None),
    "dtype a number": float_with(dtype=1),
    "shape null": float_with(shape=None),
    "shape an integer": float_with(shape=1),
    "shape a text": float_with(shape="1"),
    "shape of -1": float_with(shape=[-1]),
    "shape of -1 twice": float_with(shape=[-1, -1]),
    "shape of true": float_with(shape=[True]),
    "shape of 1.0": float_with(shape=[1.0]),
    "shape of 1e0": raw('"dtype":"F32","shape":[1e0],"data_offsets":[0,4]'),
    "shape of null": float_with(shape=[None]),
    "shape of a list": float_with(shape=[[1]]),
    "shape too small": float_with(shape=[0]),
    "shape too large": float_with(shape=[2]),
    "many axes": float_with(shape=[1] * 100),
    "overflow, then nothing": empty(4, 4, shape=(1 << 40, 1 << 40, 0)),
    "nothing, then an overflow": empty(4, 4, shape=(0, 1 << 40, 1 << 40)),
    "bits overflow": of("F64", [1 << 61], 8),
    "2**64 wraps to nothing": of("U8", [1 << 32, 1 << 32], 0),
    "2**64": empty(4, 4, shape=(0, 1 << 64)),
    "2**64 - 1": empty(4, 4, shape=(0, (1 << 64) - 1)),
    "offsets null": float_with(data_offsets=None),
    "offsets an integer": float_with(data_offsets=4),
    "no offset": float_with(data_offsets=[]),
    "one offset": float_with(data_offsets=[4]),
    "three offsets": float_with(data_offsets=[0, 4, 4]),
    "offsets of bools": of("U8", [1], 1).replace(b"[0, 1]", b"[false, true]"),
    "offsets that read the header": float_with(data_offsets=[-4, 0]),
    "offsets of -0": raw('"dtype":"F32","shape":[1],"data_offsets":[-0,4]'),
    "offsets of 4.0": float_with(data_offsets=[0, 4.0]),
    "offsets backwards": float_with(data_offsets=[4, 0]),
    "offsets past the end": float_with(data_offsets=[4, 8]),
    "offsets too short": float_with(data_offsets=[0, 3]),
    "offsets from 1": head({"w": {**FLOAT, "data_offsets": [1, 5]}}, bytes(5)),
    "offsets of 2**64": float_with(data_offsets=[0, 1 << 64]),
    "too little data": head({"w": FLOAT}, ZEROS[:3]),
    "too much data": head({"w": FLOAT}, ZEROS + b"5"),
    "data alone": head({}, b"1"),
    "two": two([0, 4], [4, 8]),
    "two, the second first": two([4, 8], [0, 4]),
    "overlapping": two([0, 4], [2, 6], bytes(6)),
    "on each other": two([0, 4], [0, 4], bytes(4)),
    "a hole": two([0, 4], [5, 9], bytes(9)),
    "without elements behind": empty(4, 4),
    "without elements before": empty(0, 0),
    "without elements within": empty(2, 2),
    "without elements past the end": empty(8, 8),
    "without elements backwards": empty(4, 3),
    "unaligned": head(UNALIGNED, b"12345"),
    **{f"a {code}": of(code, [2, 2], 4 * dtype.itemsize) for code, dtype in DTYPES.items()},
    **{f"a {code}": of(code, [2, 2], 4 * bits // 8) for code, bits in tensorfiles._OTHERS.items()},
    "half a byte": of("F4", [1], 1),
    "half a byte, rounded down": of("F4", [3], 1),
}


def check(path: Path, content: bytes, *, stricter: bool = False) -> str:
    """Compare the package with us: what it refuses we refuse, and what it accepts we read to the same values.

    ``stricter`` allows to refuse what the format's description forbids and the package lets pass.
    """
    path.write_bytes(content)
    try:
        theirs: dict[str, Any] | None = dict(deserialize(content))
    except SafetensorError:
        theirs = None
    try:
        ours: Opened | None = open_tensors(path)
    except ValueError as error:
        ours, message = None, str(error)
    if ours is None:
        assert str(path) in message
        assert message.isprintable()
        assert len(message) < 1500
        assert theirs is None or stricter, message
        return "refused"
    assert theirs is not None, "the package refuses this"
    assert ours.arrays.keys() | ours.skipped.keys() == theirs.keys()
    assert not ours.arrays.keys() & ours.skipped.keys()
    for name, array in ours.arrays.items():
        assert list(array.shape) == theirs[name]["shape"]
        assert array.dtype == DTYPES[theirs[name]["dtype"]]
        assert array.tobytes() == bytes(theirs[name]["data"])
    for name in ours.skipped:
        assert (
            theirs[name]["dtype"] not in DTYPES
            or not 1 <= np.prod(theirs[name]["shape"], dtype=object) < 1 << 40
            or (len(theirs[name]["shape"]) > 32)
        )
    return "read"


@pytest.mark.parametrize("name", SIDE_BY_SIDE)
def test_safetensors_as_its_own_package(tmp_path: Path, name: str) -> None:
    check(tmp_path / "x.safetensors", SIDE_BY_SIDE[name])


def test_both_verdicts_are_among_them(tmp_path: Path) -> None:
    found = [check(tmp_path / "x.safetensors", content) for content in SIDE_BY_SIDE.values()]
    assert found.count("read") >= 30
    assert found.count("refused") >= 50


W = json.dumps(FLOAT)
STRICTER = {  # https://huggingface.co/docs/safetensors forbids the first two; nobody writes the others
    "a tensor twice": f'{{"w":{W},"w":{W}}}',
    "a space before": f' {{"w":{W}}}',
    "metadata twice": f'{{"__metadata__":{{"a":"b","a":"c"}},"w":{W}}}',
    "a fourth field": f'{{"w":{W[:-1]},"x":1}}}}',
    "an entry that is a list": '{"w":["F32",[1],[0,4]]}',
    "a dtype that is an object": f'{{"w":{W.replace(chr(34) + "F32" + chr(34), json.dumps({"F32": None}))}}}',
    "metadata null": f'{{"__metadata__":null,"w":{W}}}',
}


@pytest.mark.parametrize("name", STRICTER)
def test_safetensors_stricter_than_its_package(tmp_path: Path, name: str) -> None:
    content = head(STRICTER[name].encode(), ZEROS)
    assert deserialize(content)
    assert check(tmp_path / "x.safetensors", content, stricter=True) == "refused"


VALUE: st.SearchStrategy[Any] = st.one_of(
    st.integers(-2, 9),
    st.sampled_from(
        [True, False, None, 1.0, "F32", "F16", "F4", "F8_E4M3", "x", [], [1], [0, 4], {}, 1 << 63, 1 << 64]
    ),
)
ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*DTYPES, *tensorfiles._OTHERS]) | VALUE,
        "shape": st.lists(st.integers(0, 3), max_size=3) | st.lists(VALUE, max_size=3) | VALUE,
        "data_offsets": st.tuples(st.integers(0, 16), st.integers(0, 16)) | st.lists(VALUE, max_size=3),
    }
)


@st.composite
def nearly_right(draw: st.DrawFn) -> bytes:
    """A right file with up to two things changed: a value of the header, or a byte anywhere."""
    entries: dict[str, Any] = {}
    at = 0
    for n in range(draw(st.integers(0, 4))):
        code = draw(st.sampled_from([*DTYPES, *tensorfiles._OTHERS]))
        shape = draw(st.lists(st.integers(0, 3), max_size=3))
        bits = DTYPES[code].itemsize * 8 if code in DTYPES else tensorfiles._OTHERS[code]
        size = int(np.prod(shape, dtype=int)) * bits // 8
        entries[f"t{n}"] = {"dtype": code, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    if draw(st.booleans()):
        names: st.SearchStrategy[list[str]] = st.permutations(list(entries))
        entries = {name: entries[name] for name in draw(names)}
    for _ in range(draw(st.integers(0, 2))):
        if draw(st.booleans()) and entries:
            name = draw(st.sampled_from(list(entries)))
            if draw(st.integers(0, 3)) == 0:
                entries[name] = draw(ENTRY)
            else:
                entry = dict(entries[name])
                field = draw(st.sampled_from(list(entry)))
                value = entry[field]
                if isinstance(value, list) and value:
                    value = list(value)
                    value[draw(st.integers(0, len(value) - 1))] = draw(VALUE)
                    entry[field] = value
                else:
                    entry[field] = draw(VALUE)
                entries[name] = entry
    content = bytearray(head(entries, bytes(n % 251 for n in range(at))))
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(content) - 1))
        kind = draw(st.integers(0, 2))
        if kind == 0:
            content[place] = draw(st.sampled_from(b'{}[]",:-0123456789aF \\\n\xff\0'))
        elif kind == 1:
            del content[place]
            content = content or bytearray(b"\0")
        else:
            content.insert(place, draw(st.sampled_from(b'{}[]",:-019 ')))
    return bytes(content)


def loose(content: bytes) -> bool:
    """Whether a header has what only the package lets pass: see STRICTER."""
    text = content[8 : 8 + int.from_bytes(content[:8], "little")].decode()
    found = []
    content_ = json.loads(text, object_pairs_hook=lambda pairs: found.append(pairs) or dict(pairs))  # type: ignore[func-returns-value]
    twice = any(len(dict(pairs)) < len(pairs) for pairs in found)
    entries = [entry for name, entry in content_.items() if name != "__metadata__"]
    return (
        twice
        or not text.startswith("{")
        or content_.get("__metadata__", {}) is None
        or any(not isinstance(entry, dict) or len(entry) > 3 or isinstance(entry["dtype"], dict) for entry in entries)
    )


@settings(
    max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(content=nearly_right())
def test_safetensors_nearly_right(tmp_path: Path, content: bytes) -> None:
    try:
        deserialize(content)
        stricter = loose(content)
    except SafetensorError:
        stricter = False
    check(tmp_path / "x.safetensors", content, stricter=stricter)


def test_a_header_may_be_as_large_as_the_package_has_it(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    limit = tensorfiles.MAX_HEADER
    for length, fits in ((limit, True), (limit + 1, False)):
        content = head(b"{}" + b" " * (length - 2))
        path.write_bytes(content)
        if fits:
            assert deserialize(content) == []
            assert open_tensors(path) == ({}, {})
        else:
            with pytest.raises(SafetensorError):
                deserialize(content)
            with pytest.raises(ValueError, match="header"):
                open_tensors(path)


def test_many_tensors_take_linear_time(tmp_path: Path) -> None:
    count = 100_000
    entries = {f"t{n}": {"dtype": "U8", "shape": [1], "data_offsets": [n, n + 1]} for n in range(count)}
    path = tmp_path / "x.safetensors"
    path.write_bytes(head(entries, bytes(n % 251 for n in range(count))))
    found = open_tensors(path).arrays
    assert len(found) == count
    assert all(int(array[0]) == n % 251 for n, array in enumerate(found.values()))


def test_unaligned_tensors_are_verified(tmp_path: Path) -> None:
    """Of a right file, whose header may have any length."""
    from fastinit.verification.checkpoints import verify_tensors

    values = fi.array(20_000, fi.normal(), seed=0, name="w")
    entries = {
        "b": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "w": {"dtype": "F32", "shape": [20_000], "data_offsets": [1, 80_001]},
    }
    for spaces in range(4):
        path = tmp_path / "x.safetensors"
        path.write_bytes(head(json.dumps(entries).encode() + b" " * spaces, b"\1" + values.tobytes()))
        found = open_tensors(path).arrays["w"]
        assert np.array_equal(found, values)
        report = verify_tensors({"w": (found, fi.normal())}).reports["w"]
        assert report.results == fi.verify(values, fi.normal()).results


def npy(array: Any, **header: Any) -> bytes:
    stream = io.BytesIO()
    if header:
        np.lib.format.write_array_header_1_0(stream, header)
        stream.write(np.asarray(array).tobytes())
    else:
        np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def with_header(text: str, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode() + data


def numpy_header(descr: str = "'<f4'", shape: str = "(2,)", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}\n"


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


BAD_NPY = {
    "empty": b"",
    "zip": zipped({"x.npy": npy(np.zeros(3))}),
    "pickle": b"\x80\x04K\x01.",
    "objects": npy(np.array([None, 1], object)),
    "truncated": npy(np.zeros(3))[:-1],
    "followed by something": npy(np.zeros(3)) + b"\0",
    "cut in the header": npy(np.zeros(3))[:20],
    "descr i4,,,": with_header(numpy_header("'i4,,,'"), bytes(8)),
    "descr (": with_header(numpy_header("'('"), bytes(8)),
    "descr None": with_header(numpy_header("None"), bytes(8)),
    "descr a list": with_header(numpy_header("[1, 2]"), bytes(8)),
    "descr nested": with_header(numpy_header("[" * 3000 + "]" * 3000), bytes(8)),
    "descr of 300 parentheses": with_header(numpy_header("(" * 300 + "1" + ")" * 300), bytes(8)),
    "descr of 2 GB": with_header(numpy_header("'S2147483648'"), bytes(8)),
    "minus signs": with_header("-" * 9000 + "1\n"),
    "sizes of 2**63": with_header(numpy_header(shape=f"({1 << 63},)"), bytes(8)),
    "sizes of 4 TiB": with_header(numpy_header(shape=f"({1 << 40},)"), bytes(8)),
    "sizes that wrap": with_header(numpy_header(shape=f"({1 << 32}, {1 << 32})"), bytes(8)),
    "negative sizes": with_header(numpy_header(shape="(-1, -2)"), bytes(8)),
    "bools": with_header(numpy_header(shape="(True, 2)"), bytes(8)),
    "no tuple": with_header(numpy_header(shape="2"), bytes(8)),
    "version 9": b"\x93NUMPY\x09\0" + bytes(100),
    "control characters": with_header("\x1b[2J\n"),
}


@pytest.mark.parametrize("name", BAD_NPY)
def test_bad_npy(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(BAD_NPY[name])
    with pytest.raises(ValueError, match=r"x\.npy is no \.npy file") as caught:
        open_tensors(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


ARRAYS = [
    np.arange(12, dtype=np.float32).reshape(3, 4),
    np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    np.float16(3),
    np.zeros((0, 3)),
    np.array([True, False]),
    np.arange(7, dtype=np.uint16),
    np.arange(100_000, dtype=np.int64),
]


def same(found: Any, array: Any) -> bool:
    return (
        found.shape == array.shape
        and found.dtype == array.dtype
        and np.array_equal(found, array)
        and not found.flags.writeable
    )


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_npy(tmp_path: Path, array: Any) -> None:
    np.save(tmp_path / "x.npy", array)
    found = open_tensors(tmp_path / "x.npy")
    assert same(found.arrays["x"], array)
    assert found.arrays["x"].flags.f_contiguous == np.asarray(array).flags.f_contiguous
    assert found.skipped == {}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path: Path, save: Any) -> None:
    arrays = {f"a/{n}": array for n, array in enumerate(ARRAYS)}
    save(tmp_path / "x.npz", **arrays)
    found = open_tensors(tmp_path / "x.npz")
    assert found.arrays.keys() == arrays.keys()
    assert all(same(found.arrays[name], array) for name, array in arrays.items())
    assert found.skipped == {}


def test_npz_behind_something_else(tmp_path: Path) -> None:
    """A zip file may begin anywhere: its directory is at the end."""
    path = tmp_path / "x.npz"
    path.write_bytes(b"#!/bin/sh\n" + zipped({"a.npy": npy(ARRAYS[0])}))
    assert same(open_tensors(path).arrays["a"], ARRAYS[0])


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(3, complex),
        np.zeros(3, ">f4"),
        np.zeros(3, ml_dtypes.bfloat16),
        np.zeros(3, "S5"),
        np.zeros(3, [("a", "f4"), ("b", "f8")]),
        np.zeros(3, "M8[s]"),
    ],
    ids=lambda array: str(array.dtype),
)
def test_other_dtypes_are_skipped_by_name(tmp_path: Path, array: Any) -> None:
    np.save(tmp_path / "x.npy", array)
    np.savez(tmp_path / "x.npz", x=array, y=np.zeros(3))
    assert "dtype" in open_tensors(tmp_path / "x.npy").skipped["x"]
    found = open_tensors(tmp_path / "x.npz")
    assert found.arrays.keys() == {"y"}
    assert found.skipped.keys() == {"x"}


GOOD = zipped({"a.npy": npy(np.arange(1000.0))}, zipfile.ZIP_DEFLATED)
STORED = zipped({"a.npy": npy(np.arange(1000.0))})


def changed(content: bytes, place: int, new: bytes, *, central: int | None = None) -> bytes:
    """The zip file with bytes of the local header, and of the directory's entry, replaced."""
    found = bytearray(content)
    found[place : place + len(new)] = new
    if central is not None:
        at = content.index(b"PK\1\2") + central
        found[at : at + len(new)] = new
    return bytes(found)


def claiming(content: bytes, size: int, packed: int | None = None) -> bytes:
    """The zip file whose directory says that its member has that size."""
    found = bytearray(content)
    at = content.index(b"PK\1\2")
    if packed is not None:
        found[at + 20 : at + 24] = struct.pack("<I", packed)
    found[at + 24 : at + 28] = struct.pack("<I", size)
    return bytes(found)


HUGE = with_header(numpy_header(shape=f"({1 << 40},)"), bytes(8))  # 4 TiB
BAD_NPZ = {
    "empty": b"",
    "no zip": b"PK\3\4" + bytes(100),
    "no members": zipped({}),
    "no arrays": zipped({"notes.txt": b"hello"}),
    "truncated": GOOD[:-30],
    "the end alone": GOOD[-60:],
    "a wrong checksum": changed(GOOD, 14, b"\0\0\0\0", central=16),
    "a wrong checksum, stored": changed(STORED, 14, b"\0\0\0\0", central=16),
    "a changed byte": changed(GOOD, GOOD.index(b"a.npy") + 300, b"\x55\xaa\x55"),
    "a changed byte, stored": changed(STORED, STORED.index(b"a.npy") + 300, b"\x55"),
    "encrypted": changed(GOOD, 6, b"\1\0", central=8),
    "encrypted, stored": changed(STORED, 6, b"\1\0", central=8),
    "unknown compression": changed(GOOD, 8, b"\x63\0", central=10),
    "bzip2": zipped({"a.npy": npy(np.zeros(3))}, zipfile.ZIP_BZIP2),
    "lzma": zipped({"a.npy": npy(np.zeros(3))}, zipfile.ZIP_LZMA),
    "4 TiB": zipped({"a.npy": HUGE}),
    "4 TiB, compressed": zipped({"a.npy": HUGE}, zipfile.ZIP_DEFLATED),
    "4 GB from nothing": claiming(GOOD, 0xFFFFFF00),
    "a size too large": claiming(GOOD, 9000),
    "a size too large, stored": claiming(STORED, 9000, 9000),
    "a size too small": claiming(GOOD, 8000),
    "sizes that differ, stored": claiming(STORED, 8000),
    "objects": zipped({"a.npy": npy(np.array([None], object))}),
    "i4,,,": zipped({"a.npy": with_header(numpy_header("'i4,,,'"), bytes(8))}, zipfile.ZIP_DEFLATED),
    "truncated array": zipped({"a.npy": npy(np.zeros(3))[:-1]}),
    "trailing bytes": zipped({"a.npy": npy(np.zeros(3)) + b"1"}, zipfile.ZIP_DEFLATED),
    "empty member": zipped({"a.npy": b""}),
    "a name twice": zipped({"a.npy": npy(np.zeros(3)), "b.npy": npy(np.ones(3))}).replace(b"b.npy", b"a.npy"),
    "a header elsewhere": changed(STORED, 0, b"XX"),
}


@pytest.mark.parametrize("name", BAD_NPZ)
def test_bad_npz(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(BAD_NPZ[name])
    with pytest.raises(ValueError, match=r"x\.npz is no \.npz file") as caught:
        open_tensors(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


def test_any_changed_byte_is_one_line_or_the_same_array(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    array = np.arange(40, dtype=np.float32)
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        content = zipped({"a.npy": npy(array)}, compression)
        for place in range(len(content)):
            for new in (0, 255, content[place] ^ 1):
                found = bytearray(content)
                found[place] = new
                path.write_bytes(found)
                try:
                    read = open_tensors(path)
                except (ValueError, OSError):
                    continue
                assert len(read.arrays) == 1  # its name may have changed
                assert np.array_equal(next(iter(read.arrays.values())), array)


def test_unpacking_needs_space(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk."""
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros(1 << 20))
    source = """
import resource, sys
from fastinit.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
main()
"""
    done = python(source, "verify", tmp_path / "x.npz", "--init", "zeros", timeout=60)
    assert done.code == 1
    assert re.fullmatch(r"fastinit: .*cannot unpack .*x\.npz.*\n", done.errors)


MEMORY = """
import sys, threading, time
from fastinit.io.tensor_files import open_tensors
def anonymous():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("RssAnon"))
before = anonymous()
seen = [before]
def watch():
    while True:
        seen.append(anonymous())
        time.sleep(0.005)
threading.Thread(target=watch, daemon=True).start()
array = open_tensors(sys.argv[1]).arrays["a"]
assert array.nbytes == int(sys.argv[2]), array.nbytes
for start in range(0, array.size, 1 << 24):
    assert not array[start : start + (1 << 24)].any()
assert len(seen) > 10
print(max(seen) - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux")
@pytest.mark.parametrize("size", [1 << 28, pytest.param(3 << 30, marks=pytest.mark.slow)], ids=["256 MiB", "3 GiB"])
def test_memory_is_bounded(tmp_path: Path, size: int) -> None:
    stream = zlib.compressobj(wbits=-15)
    header = with_header(numpy_header(shape=f"({size // 4},)"))
    checksum, packed = zlib.crc32(header), [stream.compress(header)]
    zeros = bytes(1 << 20)
    for _ in range(size >> 20):
        checksum = zlib.crc32(zeros, checksum)
        packed.append(stream.compress(zeros))
    data = b"".join([*packed, stream.flush()])
    whole = size + len(header)
    fields = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 0, checksum, len(data), whole, 5, 0)
    directory = b"PK\1\2\x14\0" + fields + struct.pack("<HHHII", 0, 0, 0, 0, 0) + b"a.npy"
    local = b"PK\3\4" + fields + b"a.npy"
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1, 1, len(directory), len(local) + len(data), 0)
    path = tmp_path / "x.npz"
    path.write_bytes(local + data + directory + end)
    assert len(data) < size / 900
    found = int(printed(MEMORY, path, size, timeout=120))
    print(f"{found / 1e6:.1f} MB of {size / 1e6:.0f}")
    assert found < 64 << 20


def test_a_name_tells_the_format(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"must end in \.npy"):
        open_tensors(tmp_path / "x.txt")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
def test_a_fifo_is_not_waited_for(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"x{suffix}")
    with pytest.raises(ValueError, match="regular file, but is a FIFO"):
        open_tensors(tmp_path / f"x{suffix}")


def test_products_stop_at_their_limit() -> None:
    assert product([2, 3], 7) == 6
    assert product([2, 3], 6) is None
    assert product([0, 1 << 70], 1 << 64) == 0
    assert product(itertools.repeat(1 << 70), 1 << 64) is None
