"""The regions of DTensors against torch's own splits, and the same bits from 1, 2, 4 and 6 ranks as without any.

The oracle of the regions is a tensor of indices that torch's placements split, from left to right, or in the order that
torch itself reads from them. `LINES` and `PLANES` enumerate one dimension on meshes of one and of two dimensions: 800
and 10,240 cases, each for all of its ranks and in both readings. The property adds `EXAMPLES` drawn ones, of up to
three dimensions on meshes of up to three.

The oracle of the ranks is `fastinit.array`, in this process: each rank prints digests of what it gathers.
"""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastinit as fi
from tests.helpers import ROOT, assert_same, environment

torch: Any = pytest.importorskip("torch", reason="needs torch: pip install 'torch>=2.13'", exc_type=ImportError)
if not torch.distributed.is_available():
    pytest.skip("needs a torch that is built with torch.distributed", allow_module_level=True)

dist: Any = pytest.importorskip("torch.distributed")
tensors: Any = pytest.importorskip("torch.distributed.tensor")
specs: Any = pytest.importorskip("torch.distributed.tensor._dtensor_spec")

strided: Any = pytest.importorskip("torch.distributed.tensor.placement_types")._StridedShard

from fastinit.torch import fill_, sharding  # noqa: E402 - needs torch
from fastinit.torch.sharding import LocalRegion, local_regions, regions_of  # noqa: E402

Partial, Replicate, Shard = tensors.Partial, tensors.Replicate, tensors.Shard

EXAMPLES = 1000
SECONDS = 300.0  # that all ranks may take, where they compile kernels, too

Regions = Callable[..., list[LocalRegion]]

# Of one dimension
KINDS = [Replicate(), Shard(0), strided(0, split_factor=2), strided(0, split_factor=3)]
SIZES = range(1, 41)
LINES = list(product(SIZES, product(range(1, 5), repeat=1), product([*KINDS, strided(0, split_factor=7)], repeat=1)))
PLANES = list(product(SIZES, product(range(1, 5), repeat=2), product(KINDS, repeat=2)))


def pieces(
    indices: Any, placements: Sequence[Any], mesh: Sequence[int], order: Sequence[int], at: tuple[int, ...] = ()
) -> Iterator[tuple[tuple[int, ...], Any]]:
    """Yield the coordinate of every rank, and the indices that torch's placements, in this order, leave to it."""
    if len(at) == len(order):
        yield tuple(at[order.index(mesh_dim)] for mesh_dim in range(len(mesh))), indices
        return
    placement, count = placements[order[len(at)]], mesh[order[len(at)]]
    same = placement.is_replicate()
    parts = [indices] * count if same else placement._split_tensor(indices, count, with_padding=False)[0]
    for index, part in enumerate(parts):
        yield from pieces(part, placements, mesh, order, (*at, index))


def read_by_torch(placements: Sequence[Any], mesh: Sequence[int]) -> tuple[Sequence[Any], Sequence[int]]:
    """Return plain placements and the order of the mesh's dimensions that torch's redistribution finds in strided ones.

    From first to last, with the placements as they are, if it finds none.
    """
    sizes = SimpleNamespace(size=lambda mesh_dim: mesh[mesh_dim])
    found = specs.DTensorSpec._maybe_convert_StridedShard_to_shard_order(tuple(placements), sizes)
    if found is None:
        return placements, range(len(mesh))
    order = [mesh_dim for entry in found for mesh_dim in entry.mesh_dims]
    rest = [mesh_dim for mesh_dim in range(len(mesh)) if mesh_dim not in order]
    return [p if p.is_replicate() else Shard(p.dim) for p in placements], order + rest


def check_regions(
    shape: Sequence[int], placements: Sequence[Any], mesh: Sequence[int], found: Regions, as_order: bool = False
) -> None:
    """The regions of every rank cover its indices exactly once."""
    plain, order = read_by_torch(placements, mesh) if as_order else (placements, range(len(mesh)))
    whole = np.arange(math.prod(shape)).reshape(shape)
    for coordinate, piece in pieces(torch.from_numpy(whole), plain, mesh, order):
        expected, covered = piece.numpy(), np.zeros(tuple(piece.shape), int)
        got = np.full_like(expected, -1)
        for region in found(shape, placements, mesh, coordinate, as_order=as_order):
            window = tuple(slice(at, at + n) for at, n in zip(region.global_offset, region.shape, strict=True))
            assert whole[window].shape == got[region.local].shape == region.shape
            assert min(region.shape) > 0
            got[region.local] = whole[window]
            covered[region.local] += 1
        np.testing.assert_array_equal(got, expected)
        assert (covered == 1).all()


both_readings = pytest.mark.parametrize("as_order", [False, True], ids=["by the letter", "as an order"])


def test_cases_are_as_many_as_said() -> None:
    assert (len(LINES), len(PLANES)) == (800, 10_240)


@both_readings
@pytest.mark.parametrize("cases", [LINES, PLANES], ids=["line", "plane"])
def test_regions_of_one_dimension_are_those_that_torch_splits(cases: list[Any], as_order: bool) -> None:
    for size, mesh, placements in cases:
        check_regions((size,), placements, mesh, regions_of, as_order)


@st.composite
def shardings(draw: Any) -> tuple[tuple[int, ...], list[Any], list[int]]:
    """A shape, a mesh and its placements; sizes of 0, too. Half of the factors are those of FSDP2."""
    axes = draw(st.integers(1, 3))
    shape = tuple(draw(st.lists(st.integers(0, (40, 12, 7)[axes - 1]), min_size=axes, max_size=axes)))
    dims = st.integers(0, axes - 1)
    mesh = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    placements = []
    for later in range(1, len(mesh) + 1):
        factors = st.one_of(st.integers(1, 9), st.just(math.prod(mesh[later:])))
        split = st.builds(lambda dim, factor: strided(dim, split_factor=factor), dims, factors)
        placements.append(draw(st.one_of(st.just(Replicate()), dims.map(Shard), split)))
    return shape, placements, mesh


@both_readings
@settings(max_examples=EXAMPLES, deadline=None)
@given(shardings())
def test_regions_of_any_sharding_are_those_that_torch_splits(as_order: bool, case: Any) -> None:
    shape, placements, mesh = case
    check_regions(shape, placements, mesh, regions_of, as_order)


def test_dimensions_are_counted_from_the_end_too() -> None:
    for last, split in (Shard(-1), Shard(1)), (strided(-2, split_factor=3), strided(0, split_factor=3)):
        assert regions_of((7, 9), [last], (2,), (1,)) == regions_of((7, 9), [split], (2,), (1,))


def shifted(shape: Any, placements: Any, mesh: Any, coordinate: Any, as_order: bool) -> list[LocalRegion]:
    """The last region begins one too far."""
    *rest, last = regions_of(shape, placements, mesh, coordinate, as_order=as_order)
    return [*rest, last._replace(global_offset=tuple(at + 1 for at in last.global_offset))]


def plain(shape: Any, placements: Any, mesh: Any, coordinate: Any, as_order: bool) -> list[LocalRegion]:
    """A split factor is overlooked."""
    return regions_of(shape, [Shard(p.dim) for p in placements], mesh, coordinate, as_order=as_order)


def doubled(shape: Any, placements: Any, mesh: Any, coordinate: Any, as_order: bool) -> list[LocalRegion]:
    return 2 * regions_of(shape, placements, mesh, coordinate, as_order=as_order)


def misread(shape: Any, placements: Any, mesh: Any, coordinate: Any, as_order: bool) -> list[LocalRegion]:
    return regions_of(shape, placements, mesh, coordinate, as_order=not as_order)


@both_readings
@pytest.mark.parametrize("wrong", [shifted, plain, doubled, misread])
def test_wrong_regions_are_seen(wrong: Regions, as_order: bool) -> None:
    case = (7,), (strided(0, split_factor=2), Shard(0)), (3, 2)
    check_regions(*case, regions_of, as_order)
    with pytest.raises(AssertionError):
        check_regions(*case, wrong, as_order)


def test_the_rows_that_fsdp_leaves_to_ranks_of_tensor_parallelism() -> None:
    """Seven rows, first on two ranks, then each part on three: no rank (2, 0) has any, though the letter says so."""
    placements = strided(0, split_factor=2), Shard(0)
    found = {at: regions_of((7,), placements, (3, 2), at) for at in product(range(3), range(2))}
    starts = {at: [(*region.global_offset, *region.shape) for region in regions] for at, regions in found.items()}
    assert starts == {
        (0, 0): [(0, 2)], (0, 1): [(4, 1)], (1, 0): [(2, 2)], (1, 1): [(5, 1)], (2, 0): [], (2, 1): [(6, 1)],
    }  # fmt: skip
    assert [r.global_offset for r in regions_of((7,), placements, (3, 2), (2, 0), as_order=False)] == [(6,)]


def test_chunks_of_even_sizes_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """numpy.array_split makes 3, 3, 2, 2 of 10, where torch.chunk makes 3, 3, 3, 1."""

    def balanced(runs: Any, count: int, index: int) -> Any:
        (run,) = runs
        start, stop = (len(run) * k // count for k in (index, index + 1))
        return [run[start:stop]]

    monkeypatch.setattr(sharding, "_chunk", balanced)
    with pytest.raises(AssertionError):
        check_regions((10,), [Shard(0)], [4], regions_of)


def test_a_large_dimension_costs_nothing() -> None:
    placements = strided(0, split_factor=8), Shard(0)
    found = regions_of((10**12, 4), placements, (64, 8), (63, 7))
    assert [(region.global_offset, region.shape) for region in found] == [((998_046_875_000, 0), (1_953_125_000, 4))]


@pytest.mark.parametrize("placement", [Partial(), Partial("avg")])
def test_partial_is_refused(placement: Any) -> None:
    with pytest.raises(ValueError, match=r"^dtensor must have placements Shard and Replicate only, got Partial\("):
        regions_of((4, 3), [Shard(0), placement], (2, 2), (0, 0))


@pytest.mark.parametrize("dim", [2, -3])
def test_a_dimension_that_is_not_there_is_refused(dim: int) -> None:
    with pytest.raises(
        ValueError, match=rf"^dtensor must be sharded by a dimension in \[-2, 2\), got Shard\(dim={dim}"
    ):
        regions_of((4, 3), [Shard(dim)], (2,), (0,))


# ----------------------------------------------------------------------------------------------- one rank, this process


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A mesh of this process alone."""
    meeting = tmp_path_factory.mktemp("ranks") / "meeting"
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=0, world_size=1)
    yield dist.device_mesh.init_device_mesh("cpu", (1, 1))
    dist.destroy_process_group()


def of_local(local: Any, mesh: Any, placements: Sequence[Any], shape: Sequence[int] | None = None) -> Any:
    size = None if shape is None else torch.Size(shape)
    stride = None if shape is None else torch.empty(*shape, device="meta").stride()
    return tensors.DTensor.from_local(local, mesh, placements, shape=size, stride=stride)


def expected(shape: Sequence[int], init: fi.Initializer, dtype: str = "float32") -> Any:
    return fi.array(tuple(shape), init, seed=1, name="w", dtype=dtype)


def test_a_partial_dtensor_is_refused_before_a_byte_is_written(mesh: Any) -> None:
    local = torch.zeros(4, 3)
    dtensor = of_local(local, mesh, [Replicate(), Partial()])
    with pytest.raises(ValueError, match="got Partial"):
        local_regions(dtensor)
    with pytest.raises(ValueError, match="got Partial"):
        fill_(dtensor, fi.ones(), seed=1, name="w")
    assert not local.any()


def test_a_local_tensor_of_another_shape_is_refused_before_a_byte_is_written(mesh: Any) -> None:
    local = torch.zeros(4, 3)
    dtensor = of_local(local, mesh, [Shard(0), Replicate()], shape=(5, 3))
    with pytest.raises(ValueError, match=r"^dtensor must have a local tensor of shape \(5, 3\), as .*, got \(4, 3\)$"):
        fill_(dtensor, fi.ones(), seed=1, name="w")
    assert not local.any()


def test_another_order_of_the_mesh_is_refused(mesh: Any) -> None:
    dtensor = of_local(torch.zeros(4, 3), mesh, [Shard(0), Shard(0)])
    assert len(local_regions(dtensor)) == 1
    dtensor._spec.shard_order = (specs.ShardOrderEntry(tensor_dim=0, mesh_dims=(1, 0)),)
    with pytest.raises(ValueError, match=r"^dtensor must be sharded by the mesh dimensions in ascending order, got"):
        local_regions(dtensor)


@pytest.mark.parametrize("other", [torch.zeros(3), np.zeros(3), None], ids=["tensor", "array", "None"])
def test_what_is_no_dtensor_is_refused(other: Any) -> None:
    with pytest.raises(TypeError, match=r"^dtensor must be a torch DTensor, got an object of "):
        local_regions(other)


def test_arguments_are_checked_where_a_rank_holds_nothing(mesh: Any) -> None:
    """Else one rank would go on to the next collective call, and wait for those that raised."""
    dtensor = of_local(torch.zeros(0, 3), mesh, [Shard(0), Replicate()])
    assert local_regions(dtensor) == []
    assert fill_(dtensor, fi.ones(), seed=1, name="w") is dtensor
    with pytest.raises(ValueError, match="seed"):
        fill_(dtensor, fi.ones(), seed=-1, name="w")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("init", [fi.normal(), fi.sparse(0.5)], ids=["normal", "sparse"])
def test_a_local_tensor_that_is_not_contiguous_is_filled(mesh: Any, dtype: str, init: fi.Initializer) -> None:
    local = torch.zeros(5, 8, dtype=getattr(torch, dtype)).t()[::2]
    dtensor = of_local(local, mesh, [Shard(1), Shard(0)])
    fill_(dtensor, init, seed=1, name="w", threads=1)
    assert not local.is_contiguous()
    got = local.contiguous().view(torch.uint8).numpy().view(fi.array(0, fi.zeros(), seed=0, name=0, dtype=dtype).dtype)
    assert_same(got, expected((4, 5), init, dtype))


def test_a_scalar_is_filled(mesh: Any) -> None:
    local = torch.zeros(())
    fill_(of_local(local, mesh, [Replicate(), Replicate()]), fi.normal(), seed=1, name="w")
    assert_same(local.numpy(), expected((), fi.normal()))


def test_autograd_is_told_of_the_write(mesh: Any) -> None:
    """What was saved for a backward pass is gone: torch says so, as after its own operations in place."""
    parameter = torch.nn.Parameter(of_local(torch.ones(3), mesh, [Shard(0), Replicate()]))
    loss = (parameter * parameter).sum()
    before = parameter._version
    with torch.no_grad():
        fill_(parameter, fi.normal(), seed=1, name="w")
    assert parameter._version > before
    assert parameter.requires_grad
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


# ----------------------------------------------------------------------------------------------------------- more ranks


def ranks(world: int, folder: Path) -> list[dict[str, Any]]:
    """Return what each rank prints; all are ended where one takes too long."""
    command = [sys.executable, "-W", "error", "-m", "tests.torch_ranks", str(world)]
    own = environment(OMP_NUM_THREADS="1", FASTINIT_NUM_THREADS="1")
    files = [(folder / f"{rank} out", folder / f"{rank} errors") for rank in range(world)]
    started = []
    for rank, (out, errors) in enumerate(files):
        with out.open("w") as said, errors.open("w") as complained:
            arguments = [*command, str(rank), str(folder / "meeting")]
            started.append(subprocess.Popen(arguments, cwd=ROOT, env=own, stdout=said, stderr=complained))
    end = time.monotonic() + SECONDS
    try:
        while any(one.poll() is None for one in started) and time.monotonic() < end:
            if any(one.poll() for one in started):
                end = min(end, time.monotonic() + 5.0)  # the others may say why
            time.sleep(0.05)
    finally:
        for one in started:
            one.kill()
            one.wait()
    report = "\n".join(errors.read_text()[-2000:] for _, errors in files)
    assert [one.returncode for one in started] == [0] * world, report
    return [json.loads(out.read_text().splitlines()[-1]) for out, _ in files]


def whole(dtype: str) -> dict[str, Any]:
    """Return the parameters of the ranks' model without any rank."""
    from tests.torch_ranks import INITS, SEED, made

    with torch.device("meta"):
        shapes = {name: tuple(parameter.shape) for name, parameter in made().named_parameters()}
    return {name: fi.array(shapes[name], INITS[name], seed=SEED, name=name, dtype=dtype) for name in shapes}


def digests(dtype: str) -> dict[str, str]:
    return {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in whole(dtype).items()}


@pytest.mark.parametrize("world", [1, 2, 4, pytest.param(6, marks=pytest.mark.slow)])
def test_ranks_hold_the_values_of_the_whole(world: int, tmp_path: Path) -> None:
    """FSDP2 with uneven and empty shards, tensor parallelism by columns and by rows, both on a plane, HSDP.
    On 6 ranks, FSDP2 and tensor parallelism hold other rows than `_StridedShard` says by the letter.

    All that is asked of the ranks is in one test, since to start them takes most of its seconds.
    """
    found = ranks(world, tmp_path)
    for rank in found:
        check_gathered(world, rank["digests"])
        check_outputs(rank["outputs"])
        assert len(rank["modules"]) == len(rank["digests"]) // 2
        for layout, got in rank["modules"].items():
            assert got == found[0]["unsharded"], layout
        check_placed(rank["placed"])
        assert rank["part is lost"] is (world > 1)
    if world == 4:
        assert {count for rank in found for count, _, _ in rank["placed"].values()} >= {0, 1, 3, 9}
    if world > 1:
        check_other_seeds(found[-1]["own seeds"])
    first, *rest = (rank["outside"] for rank in found)  # of a mesh that has the first rank only
    assert first == [1, True, 12.0]
    assert rest == [[0, True, 0.0]] * (world - 1)


def check_gathered(world: int, found: dict[str, dict[str, str]]) -> None:
    assert len(found) == {1: 4, 2: 12, 4: 8, 6: 8}[world]
    for layout, got in found.items():
        assert got == digests(layout.rpartition(", ")[2]), layout


def check_other_seeds(found: dict[str, dict[str, str]]) -> None:
    """The negative control: the last rank has another seed, and every digest that it gathers tells."""
    right = digests("float32")
    for layout, got in found.items():
        assert got.keys() == right.keys()
        assert not set(got.values()) & set(right.values()), layout


def check_outputs(found: dict[str, list[float]]) -> None:
    """FSDP gathers from a padded buffer of its own, which a fill of the parameter must have reached."""
    arrays = whole("float32")
    hidden = np.maximum(arrays["up.weight"] @ np.linspace(-1, 1, 6) + arrays["up.bias"], 0)
    right = arrays["down.weight"] @ hidden + arrays["down.bias"]
    assert found
    for layout, got in found.items():
        np.testing.assert_allclose(got, right, rtol=1e-5, atol=1e-6, err_msg=layout)


def check_placed(found: dict[str, tuple[int, bool, bool]]) -> None:
    """The local tensors are those that torch splits, with several regions and with none."""
    assert len(found) >= 4
    for layout, (_, local, gathered) in found.items():
        assert local, layout
        assert gathered, layout
