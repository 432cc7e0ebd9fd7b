"""``fastinit recipe``: which rule gives what."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from fastinit.io.manifests import Region, Tensor, write_manifest
from tests.helpers import Done
from tests.test_command import EVIL

MANIFESTS = Path(__file__).parent / "manifests"
MODEL = [
    Tensor("embed.weight", (10, 4), "float32", module="Embedding"),
    Tensor("up.weight", (16, 4), "bfloat16", module="Linear"),
    Tensor("up.bias", (16,), "float32", module="Linear"),
    Tensor("inv_freq", (8,), "float32", "buffer"),
]
RECIPE = """
[[rule]]
module = "Embedding"
init = "sinusoidal"
zero_row = 3

[[rule]]
match = "*.absent"
init = "zeros"

[[rule]]
match = "*.gone"
init = "zeros"
optional = true

[[rule]]
match = "*"
init = "uniform(-1 / sqrt(fan_in), 1 / sqrt(fan_in))"
"""


def files(folder: Path, tensors: list[Tensor] = MODEL, recipe: str = RECIPE) -> list[str]:
    write_manifest(tensors, folder / "m.json")
    (folder / "r.toml").write_text(recipe)
    return ["recipe", "m.json", "--recipe", "r.toml"]


def test_lines(tmp_path: Path, command: Callable[..., Done]) -> None:
    code, out, errors = command(*files(tmp_path), folder=tmp_path)
    assert (code, errors) == (0, "")
    assert [" ".join(line.split()) for line in out.splitlines()] == [
        "tensor shape dtype rule initializer distribution",
        "embed.weight 10x4 float32 1 (line 2) sinusoidal a matrix, sinusoidal; then zeros in [1, 4] at [3, 0]",
        "up.weight 16x4 bfloat16 4 (line 16) uniform(low=-0.5, high=0.5) Uniform(low=-0.5, high=0.5)",
        "up.bias 16 float32 4 (line 16) uniform(low=-0.5, high=0.5) Uniform(low=-0.5, high=0.5)",
        "no tensor follows rule 2 (line 7) (match = '*.absent')",
        "no tensor follows rule 3 (line 11) (match = '*.gone'), which is optional",
        "not written: the buffer inv_freq",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.json", "r.toml"]


def test_json(tmp_path: Path, command: Callable[..., Done]) -> None:
    code, out, _ = command(*files(tmp_path), "--json", folder=tmp_path)
    found = json.loads(out)
    assert code == 0
    assert found["tensors"][0] == {
        "name": "embed.weight", "shape": [10, 4], "dtype": "float32", "rule": 1, "line": 2, "init": "sinusoidal",
        "distribution": "a matrix, sinusoidal", "regions": [{"offset": [3, 0], "shape": [1, 4], "init": "zeros"}],
    }  # fmt: skip
    assert [(rule["rule"], rule["tensors"]) for rule in found["rules"]] == [(1, 1), (2, 0), (3, 0), (4, 2)]
    assert found["parameters without an initializer"] == []
    assert found["buffers that are not written"] == ["inv_freq"]


def test_a_manifest_s_own_inits(tmp_path: Path, command: Callable[..., Done]) -> None:
    own = [Tensor("w", (3, 2), "float32", init="ones", regions=(Region((1, 0), (1, 2), "zeros"),))]
    files(tmp_path, own)
    code, out, _ = command("recipe", "m.json", folder=tmp_path)
    assert code == 0
    line = "w 3x2 float32 manifest ones Constant(value=1.0); then zeros in [1, 2] at [1, 0]"
    assert " ".join(out.splitlines()[1].split()) == line


def test_what_init_would_refuse_is_an_error(tmp_path: Path, command: Callable[..., Done]) -> None:
    code, out, errors = command(
        *files(tmp_path, recipe=RECIPE.replace('match = "*"', 'match = "up.*"')), folder=tmp_path
    )
    assert (code, errors) == (0, "")
    code, out, errors = command(
        *files(tmp_path, recipe="[[rule]]\nmatch = 'up.*'\ninit = 'he_normal'"), folder=tmp_path
    )
    assert code == 1
    assert "up.weight" in out  # what can be told is
    assert errors.startswith(
        "fastinit: no rule of the recipe matches a parameter, and the manifest gives no init: 'embed"
    )
    code, out, errors = command(*files(tmp_path, recipe="[[rule]]\nmatch = '*'\ninit = 'he_normal'"), folder=tmp_path)
    assert code == 1
    assert "impossible" in out
    assert errors.startswith("fastinit: tensor 'up.bias', he_normal: ")


def test_nothing_that_a_terminal_obeys(tmp_path: Path, command: Callable[..., Done]) -> None:
    tensors = [
        Tensor(EVIL, (3,), "float32"),
        Tensor(EVIL + "b", (3,), "float32", "buffer"),
        Tensor("x" * 10_000, (3,), "float32", module=EVIL),
    ]
    code, out, errors = command(*files(tmp_path, tensors, "[[rule]]\nmatch = '*'\ninit = 'zeros'"), folder=tmp_path)
    assert (code, errors) == (0, "")
    assert out.replace("\n", "").isprintable()
    assert len(out) < 3000
    assert not any(line.startswith("w: passed") for line in out.splitlines())


def test_a_recipe_for_another_model_is_told(command: Callable[..., Done]) -> None:
    code, out, _ = command("recipe", MANIFESTS / "gpt2.json", "--recipe", "bert")
    assert code == 0
    assert out.splitlines()[-1].startswith("no tensor follows rule 3 (line 13)")
    assert "no tensor follows" not in command("recipe", MANIFESTS / "bert-base.json", "--recipe", "bert").out


def test_init_warns_of_a_recipe_for_another_model(tmp_path: Path, command: Callable[..., Done]) -> None:
    arguments = files(tmp_path)[1:]
    code, _, errors = command("init", arguments[0], "out.safetensors", *arguments[1:], "--seed", "0", folder=tmp_path)
    assert code == 0
    assert errors == "fastinit: recipe r.toml, rule 2 (line 7): no tensor follows it (match = '*.absent')\n"


def test_verify_knows_buffers_with_and_without_a_manifest(tmp_path: Path, command: Callable[..., Done]) -> None:
    recipe = "[[rule]]\nmatch = '*freq'\nkind = 'buffer'\ninit = 'ones'\n[[rule]]\nmatch = '*'\ninit = 'zeros'\n"
    manifest, *options = files(tmp_path, recipe=recipe)[1:]
    assert command("init", manifest, "w.safetensors", *options, "--seed", "0", folder=tmp_path).code == 0
    for more in ([], ["--manifest", manifest]):
        code, out, errors = command("verify", "w.safetensors", *options, *more, folder=tmp_path)
        assert (code, errors) == (0, ""), out
    swapped = recipe.replace("'buffer'", "'parameter'").replace("*freq", "*.bias")
    (tmp_path / "r.toml").write_text(swapped)
    code, out, _ = command("verify", "w.safetensors", *options, "--manifest", manifest, folder=tmp_path)
    assert code == 1  # the negative control: the bias is zero, and nothing is said of the buffer
    assert "up.bias" in out
