"""Checkpoints in parts: ranks, resumption, digests, and the command's options."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import fastinit as fi
from bench import parts
from fastinit.io import records
from fastinit.io.checkpoint import initialize, plan_shards, planned
from fastinit.io.layout import contents_of, shards, shared_out
from fastinit.io.manifests import Tensor
from fastinit.io.rules import Rule
from fastinit.io.tensor_files import open_tensors
from tests.checkpoints import RULES, SEED, SMALL, contents, expected, stamps, write
from tests.helpers import MAIN, Done, assert_same, invoke, python

Command = Callable[..., Done]


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_the_parts_of_all_ranks_are_the_whole(tmp_path: Path, ranks: int) -> None:
    write(tmp_path / "whole")
    for rank in reversed(range(ranks)):
        before = contents(tmp_path / "parts").keys() if rank < ranks - 1 else set()
        write(tmp_path / "parts", rank=rank, ranks=ranks)
        new = contents(tmp_path / "parts").keys() - before
        assert ("model.safetensors.index.json" in new) == (rank == 0)
    assert contents(tmp_path / "whole") == contents(tmp_path / "parts")


def test_shards_are_shared_out_evenly_by_bytes() -> None:
    tensors = [Tensor(f"w{n}", (size,), "int8") for n, size in enumerate([9, 8, 2, 3, 7, 4, 9, 6])]
    files = shards(contents_of(tensors, [Rule(fi.zeros())]), 1)
    loads = [sum(file.size for file in shared_out(files, rank, 4)) for rank in range(4)]
    assert sum(loads) == 48
    assert max(loads) <= 13
    assert sorted(file.name for rank in range(4) for file in shared_out(files, rank, 4)) == [f.name for f in files]


def test_only_some_tensors_have_the_same_values(tmp_path: Path) -> None:
    initialize(SMALL, tmp_path / "x.safetensors", RULES, seed=SEED, only=["blocks.*.weight", "mask"])
    found = open_tensors(tmp_path / "x.safetensors").arrays
    assert found.keys() == {"blocks.0.up.weight", "blocks.1.up.weight", "mask"}
    for tensor in SMALL:
        if tensor.name in found:
            assert_same(found[tensor.name], expected(tensor))
    tied = [Tensor("a.weight", (4, 4), "float32", aliases=("head",))]
    assert [content.tensor.name for content in planned(tied, RULES, only=["head"])] == ["a.weight"]
    with pytest.raises(ValueError, match="--only must match a tensor, got 'absent', which match none"):
        planned(SMALL, RULES, only=["absent"])


# Resumption


def test_what_is_finished_is_kept(tmp_path: Path) -> None:
    write(tmp_path)
    before, whole = stamps(tmp_path), contents(tmp_path)
    written = write(tmp_path, resume=True)
    after = stamps(tmp_path)
    index = "model.safetensors.index.json"
    assert {**before, index: 0} == {**after, index: 0}
    assert (written.tensors, written.bytes) == (0, 0)
    assert written.kept == sum(tensor.nbytes for tensor in SMALL)
    assert contents(tmp_path) == whole
    write(tmp_path)  # the negative control: without --resume all is made again
    assert all(stamps(tmp_path)[name] != before[name] for name in before)


def flip(folder: Path, name: str, at: int) -> None:
    content = bytearray((folder / name).read_bytes())
    content[at] ^= 1
    (folder / name).write_bytes(content)


DAMAGES: dict[str, Callable[[Path, str], object]] = {
    "a bit of the data": lambda folder, name: flip(folder, name, -1),
    "a bit of the header": lambda folder, name: flip(folder, name, 40),
    "truncated": lambda folder, name: os.truncate(folder / name, (folder / name).stat().st_size - 1),
    "longer": lambda folder, name: os.truncate(folder / name, (folder / name).stat().st_size + 1),
    "absent": lambda folder, name: (folder / name).unlink(),
    "no record": lambda folder, name: (folder / records.RECORDS / f"{name}.json").unlink(),
    "an empty record": lambda folder, name: (folder / records.RECORDS / f"{name}.json").write_text(""),
    "a list as record": lambda folder, name: (folder / records.RECORDS / f"{name}.json").write_text("[]"),
    "a bit of the record": lambda folder, name: flip(folder / records.RECORDS, f"{name}.json", 30),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_made_again(tmp_path: Path, damage: str) -> None:
    write(tmp_path)
    whole = contents(tmp_path)
    name = sorted(whole)[1]
    DAMAGES[damage](tmp_path, name)
    before = stamps(tmp_path)
    write(tmp_path, resume=True)
    assert contents(tmp_path) == whole
    after = stamps(tmp_path)
    made = {one for one in after if after[one] != before.get(one) and one.endswith(".safetensors")}
    assert made == {name}


@pytest.mark.parametrize("change", ["seed", "initializer", "region"])
def test_another_plan_is_not_taken_for_finished(tmp_path: Path, change: str) -> None:
    write(tmp_path / "x")
    seed, rules = SEED, RULES
    if change == "seed":
        seed += 1
    elif change == "initializer":
        rules = [Rule(fi.he_uniform(), "head.*"), *RULES]
    else:
        rules = [Rule(fi.he_normal(), "head.*", zero_row=0), *RULES]
    assert write(tmp_path / "x", rules=rules, seed=seed, resume=True).tensors > 0
    write(tmp_path / "y", rules=rules, seed=seed)
    assert contents(tmp_path / "x") == contents(tmp_path / "y")


def test_an_interrupted_run_is_resumed(tmp_path: Path) -> None:
    """Before it is, there is no index, though an older checkpoint was there: nobody loads half of each."""
    write(tmp_path / "whole")
    write(tmp_path / "x", seed=SEED + 1)
    sizes = [file.size for file in plan_shards(planned(SMALL, RULES), tmp_path / "x", most=10_000).files]

    def stop(done: int, total: int) -> None:
        assert not (tmp_path / "x/model.safetensors.index.json").exists()
        if done > sum(sizes[:2]):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "x", progress=stop)
    assert "model.safetensors.index.json" not in contents(tmp_path / "x")
    assert write(tmp_path / "x", resume=True).kept == sum(sizes[:2])
    assert contents(tmp_path / "x") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("other", "most"), [("model.safetensors", 10_000), ("model-00001-of-00002.safetensors", 1 << 30)]
)
def test_weights_of_another_layout_are_not_joined(tmp_path: Path, other: str, most: int) -> None:
    (tmp_path / other).write_bytes(b"precious")
    (tmp_path / "notes.safetensors").write_bytes(b"mine")
    with pytest.raises(ValueError, match=rf"must hold no weights of another layout, and has {other}"):
        write(tmp_path, most=most)
    assert contents(tmp_path) == {other: b"precious", "notes.safetensors": b"mine"}


def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "model-00002-of-00004.safetensors").mkdir()
    with pytest.raises(ValueError, match="must be a regular file, but is a folder"):
        write(tmp_path)
    assert os.listdir(tmp_path) == ["model-00002-of-00004.safetensors"]


def test_no_rank_begins_where_another_one_would_fail(tmp_path: Path) -> None:
    tensors = [*SMALL, Tensor("thin.weight", (3,), "float32")]  # which is rank 0's
    mine = plan_shards(planned(tensors, RULES), tmp_path / "x", most=10_000, rank=1, ranks=2).mine
    assert not any(entry.content.tensor.name == "thin.weight" for file in mine for entry in file.entries)
    with pytest.raises(ValueError, match=r"thin\.weight"):
        write(tmp_path / "x", tensors=tensors, rank=1, ranks=2)
    assert os.listdir(tmp_path) == []


def test_a_failure_leaves_no_folder(tmp_path: Path) -> None:
    for tensors, error in (([Tensor("x.weight", (3,), "float32")], ValueError), (SMALL, RuntimeError)):

        def stop(done: int, total: int) -> None:
            raise RuntimeError("stop")

        with pytest.raises(error):
            write(tmp_path / "made", tensors=tensors, progress=stop)
        assert os.listdir(tmp_path) == []


# Digests and the command


@pytest.fixture
def model(tmp_path: Path) -> list[str]:
    """The first arguments of an `init` in this folder."""
    entries = [{"name": t.name, "shape": t.shape, "dtype": t.dtype, "kind": t.kind, "module": t.module} for t in SMALL]
    (tmp_path / "m.json").write_text(json.dumps(entries))
    rules = [f"[[rule]]\nmatch = '{rule.match}'\ninit = '{rule.init!r}'\nkind = '{rule.kind}'\n" for rule in RULES]
    (tmp_path / "r.toml").write_text("".join(rules))
    return ["init", str(tmp_path / "m.json"), "--recipe", str(tmp_path / "r.toml"), "--seed", str(SEED)]


def sums() -> dict[str, str]:
    return {tensor.name: hashlib.sha256(expected(tensor).tobytes()).hexdigest() for tensor in SMALL}


def test_digests_are_those_of_the_bytes(tmp_path: Path, model: list[str]) -> None:
    out = tmp_path / "x.safetensors"
    assert invoke(*model, out, "--digest")[0] == 0
    assert json.loads((tmp_path / "x.safetensors.sha256.json").read_text()) == sums()
    folder = tmp_path / "folder"
    for resume in ([], ["--resume"]):
        assert invoke(*model, f"{folder}/", "--max-shard-size", "10KB", "--digest", *resume)[0] == 0
        assert json.loads((folder / "model.sha256.json").read_text()) == sums()
        (folder / "model.sha256.json").unlink()
    found = []
    for rank in range(3):
        options = ["--max-shard-size", "10KB", "--digest", "--rank", rank, "--world-size", 3]
        assert invoke(*model, f"{folder}/", *options)[0] == 0
        found.append(folder / f"model.rank-{rank}-of-3.sha256.json")
    assert {name: text for path in found for name, text in json.loads(path.read_text()).items()} == sums()
    options = [text for path in found for text in ("--digest", path)]
    assert invoke("verify", folder, *options) == (0, f"{folder}: {len(SMALL)} tensors have their digests\n")


def test_digests_are_verified(tmp_path: Path, model: list[str]) -> None:
    folder, digests = tmp_path / "folder", tmp_path / "folder/model.sha256.json"
    assert invoke(*model, f"{folder}/", "--max-shard-size", "10KB", "--digest")[0] == 0
    for checkpoint in (folder, folder / "model.safetensors.index.json"):
        assert invoke("verify", checkpoint, "--digest", digests)[0] == 0
    one = folder / "model-00001-of-00004.safetensors"
    code, text = invoke("verify", one, "--digest", digests)
    assert code == 1
    assert text.startswith(f"absent: {len(SMALL) - 1}: ")
    flip(folder, one.name, -1)
    code, text = invoke("verify", folder, "--digest", digests)
    assert code == 1
    assert text.startswith("different: 1: ")
    content = json.loads(digests.read_text())
    del content["mask"]
    digests.write_text(json.dumps(content))
    code, text = invoke("verify", folder, "--digest", digests)
    assert "without a digest: 1: 'mask'" in text
    for wrong in ("[]", '{"w": "0"}', "{", '{"w": 1}'):
        digests.write_text(wrong)
        with pytest.raises(ValueError, match="digests "):
            invoke("verify", folder, "--digest", digests)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../x.safetensors"}}')
    digests.write_text("{}")
    with pytest.raises(ValueError, match="is no index of shards"):
        invoke("verify", folder, "--digest", digests)


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path: Path, model: list[str]) -> None:
    before = sorted(os.listdir(tmp_path))
    for out, file in ((tmp_path / "x.safetensors", "x.safetensors"), (f"{tmp_path}/new/", "model.safetensors")):
        code, text = invoke(*model, out, "--dry-run")
        assert code == 0
        lines = text.splitlines()
        assert len(lines) == len(SMALL) + 2
        row = next(re.split(" {2,}", line) for line in lines if line.startswith("embed.weight"))
        tail = ["1: match = '*.weight'", "he_normal()", "Normal(mean=0.0, std=0.1767766952966369)"]
        assert row == ["embed.weight", "50x64", "float32", "12800", file, *tail]
        assert lines[-1].startswith(f"{len(SMALL)} tensors, ")
        assert sorted(os.listdir(tmp_path)) == before
    (tmp_path / "r.toml").write_text("[[rule]]\nmatch = '*'\ninit = 'he_normal'\n")
    with pytest.raises(ValueError, match="a fan needs"):
        invoke(*model, tmp_path / "x.safetensors", "--dry-run")


@pytest.mark.parametrize(
    ("out", "options", "message"),
    [
        ("x.safetensors", ["--max-shard-size", "5GB"], "--max-shard-size needs a folder as OUT"),
        ("x.safetensors", ["--resume"], "--resume needs a folder as OUT"),
        ("x.safetensors", ["--rank", "0", "--world-size", "2"], "--rank needs a folder as OUT"),
        ("x/", ["--rank", "0"], "--rank and --world-size need each other, got --rank 0, --world-size None"),
        (
            "x/",
            ["--rank", "2", "--world-size", "2"],
            "--rank must be at least 0 and less than --world-size, got 2 of 2",
        ),
        ("x/", ["--max-shard-size", "5GiB"], "--max-shard-size must be a size such as 5GB, 500MB or 4096, got '5GiB'"),
        ("x/", ["--only", "absent*"], "--only must match a tensor, got 'absent*'"),
        ("m.json/", [], "must be a folder, or not be there"),
    ],
)
def test_options_that_cannot_be_are_one_line(
    tmp_path: Path, model: list[str], out: str, options: list[str], message: str, command: Command
) -> None:
    before = sorted(os.listdir(tmp_path))
    done = command(*model, out, *options, folder=tmp_path)
    assert done.code == 1, done
    assert done.errors.count("\n") == 1
    assert message in done.errors
    assert sorted(os.listdir(tmp_path)) == before


def test_a_folder_that_is_there_needs_no_slash(tmp_path: Path, model: list[str]) -> None:
    (tmp_path / "out").mkdir()
    assert invoke(*model, tmp_path / "out")[0] == 0
    assert contents(tmp_path / "out").keys() == {"model.safetensors"}


def test_compiling_is_not_counted_as_writing(tmp_path: Path, model: list[str]) -> None:
    """In a process without compiled kernels, which takes seconds to make them."""
    done = python(MAIN, *model, tmp_path / "x.safetensors", NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert done.code == 0, done.errors
    assert list((tmp_path / "cache").rglob("*.kernel"))
    found = re.search(r" in (\d+\.\d+) s,", done.out)
    assert found is not None
    assert float(found[1]) < 0.3


@pytest.mark.slow
def test_threads_ranks_and_kills_make_the_same_files(tmp_path: Path) -> None:
    options = ["--recipe", "gpt2", "--dtype", "bfloat16", "--max-shard-size", "60MB", "--seed", 0]
    found = parts.check(tmp_path, [parts.ROOT / "tests/manifests/gpt2.json", *options])
    assert len(found) == 5
