"""Recipes: which rule gives what, the numbers that rules compute with, and errors that name the line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastinit as fi
from fastinit.io.checkpoint import initialize
from fastinit.io.manifests import Region, Tensor, read_manifest
from fastinit.io.rules import Assignment, ByFan, Rule, assign, find, read_recipe, recipe_names, rule_for, summary

MANIFESTS = Path(__file__).parent / "manifests"
MODEL = [
    Tensor("embed.weight", (10, 4), "float32", module="Embedding"),
    Tensor("blocks.0.up.weight", (16, 4), "float32", module="Linear"),
    Tensor("blocks.0.up.bias", (16,), "float32", module="Linear"),
    Tensor("blocks.0.norm.weight", (4,), "float32", module="LayerNorm"),
    Tensor("blocks.0.norm.bias", (4,), "float32", module="LayerNorm"),
    Tensor("blocks.0.conv.weight", (6, 2, 3, 3), "float32", module="Conv2d"),
    Tensor("blocks.0.conv.bias", (6,), "float32", module="Conv2d"),
    Tensor("rotary.inv_freq", (8,), "float32", "buffer", "Rotary"),
]
ALL = "[[rule]]\nmatch = '*'\ninit = 'zeros'\n"


def recipe(folder: Path, text: str, tensors: list[Tensor] = MODEL) -> list[Rule]:
    path = folder / "r.toml"
    path.write_text(text)
    return read_recipe(path, tensors)


def inits(found: list[Assignment]) -> dict[str, fi.Initializer]:
    return {one.tensor.name: one.init for one in found}


def quiet(tensors: list[Tensor], rules: list[Rule]) -> list[Assignment]:
    """Assign, where no rule may be without a tensor."""
    warnings: list[str] = []
    found = assign(tensors, rules, warnings.append)
    assert not warnings
    return found


# Which rule a tensor follows


def test_an_assignment_has_its_rule(tmp_path: Path) -> None:
    rules = recipe(tmp_path, "# a comment\n\n[[rule]]\nmatch = '*.bias'\ninit = 'ones'\n\n" + ALL)
    found = quiet(MODEL, rules)
    assert [(one.tensor.name, one.rule.number, one.rule.line) for one in found if one.rule] == [
        (tensor.name, 1, 3) if tensor.name.endswith("bias") else (tensor.name, 2, 7) for tensor in MODEL[:-1]
    ]
    assert [(rule.number, count) for rule, count in summary(found, rules)] == [(1, 3), (2, 4)]


def test_a_buffer_is_written_by_rules_for_buffers_alone(tmp_path: Path) -> None:
    everything = recipe(tmp_path, ALL)
    assert "rotary.inv_freq" not in inits(quiet(MODEL, everything))
    assert rule_for(MODEL[-1], everything) is None
    rules = recipe(tmp_path, ALL + "[[rule]]\nmatch = '*'\nkind = 'buffer'\ninit = 'ones'\n")
    found = inits(quiet(MODEL, rules))
    assert found.pop("rotary.inv_freq") == fi.ones()
    assert set(found.values()) == {fi.zeros()}
    with pytest.raises(ValueError, match="no rule of the recipe matches 7 parameters"):  # a parameter is no buffer
        assign(MODEL, rules[1:])


def test_a_tensor_of_unknown_kind_may_be_either(tmp_path: Path) -> None:
    rules = recipe(tmp_path, "[[rule]]\nmatch = '*freq'\nkind = 'buffer'\ninit = 'ones'\n" + ALL)
    unknown = [Tensor(tensor.name, tensor.shape, tensor.dtype, kind="") for tensor in MODEL]
    assert inits(quiet(unknown, rules))["rotary.inv_freq"] == fi.ones()


def test_the_manifest_gives_what_no_rule_does(tmp_path: Path) -> None:
    region = Region((3, 0), (1, 4), "ones")
    tensors = [
        Tensor("a", (10, 4), "float32", init="normal(std=0.5)", regions=(region,)),
        Tensor("b", (10, 4), "float32", init="normal(std=0.5)", regions=(region,)),
        Tensor("c", (3,), "float32", "buffer", init="zeros"),
        Tensor("d", (3,), "float32", "buffer"),
    ]
    a, b, c = assign(tensors, [])
    assert a == (tensors[0], fi.normal(std=0.5), (((3, 0), (1, 4), fi.ones()),), None)
    assert b == (tensors[1], *a[1:])
    assert c == (tensors[2], fi.zeros(), (), None)
    rules = [Rule(fi.zeros(), "b")]
    assert assign(tensors, rules) == [a, Assignment(tensors[1], fi.zeros(), (), rules[0]), c]  # regions go, too


def test_what_has_neither_is_listed_up_to_a_length() -> None:
    few = [Tensor(f"w{k}", (3,), "float32", module="Linear") for k in range(3)]
    with pytest.raises(ValueError, match=r"3 parameters.*no init: 'w0' \(module 'Linear', shape \[3\]\), 'w1'.*'w2'"):
        assign(few, [])
    many = [Tensor(f"{'w' * 50}.{k}", (3,), "float32") for k in range(1000)]
    with pytest.raises(ValueError, match="matches 1000 parameters") as caught:
        assign(many, [])
    shown = str(caught.value).count("shape [3]")
    assert str(caught.value).endswith(f"and {1000 - shown} more")
    assert 3 < shown < 20
    assert len(str(caught.value)) < 900
    with pytest.raises(ValueError, match=r"matches a parameter, .*'x{50}") as caught:
        assign([Tensor("x" * 10**6, (3,), "float32")], [])
    assert len(str(caught.value)) < 900


# Rules that no tensor follows


def test_a_rule_without_a_tensor_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unused = "[[rule]]\nmatch = '*.absent'\nmodule = 'X\\u001b'\nkind = 'buffer'\ninit = 'zeros'\n"
    rules = recipe(tmp_path, ALL + unused.replace("'X\\u001b'", '"X\\u001b"'))
    assert len(assign(MODEL, rules)) == 7
    error = capsys.readouterr().err
    globs = r"match = '*.absent', module = 'X\x1b', kind = 'buffer'"
    assert error == f"fastinit: recipe r.toml, rule 2 (line 4): no tensor follows it ({globs})\n"
    optional = recipe(tmp_path, ALL + unused.replace("'X\\u001b'", "'X'") + "optional = true\n")
    assert len(quiet(MODEL, optional)) == 7


def test_a_rule_behind_one_that_takes_all_is_a_warning(tmp_path: Path) -> None:
    warnings: list[str] = []
    assign(MODEL, recipe(tmp_path, ALL + "[[rule]]\nmatch = '*.bias'\ninit = 'ones'\n"), warnings.append)
    assert [warning.split(":")[0] for warning in warnings] == ["recipe r.toml, rule 2 (line 4)"]


@pytest.mark.parametrize("recipe", [name for name in recipe_names() if name != "gpt2"])
def test_another_model_s_recipe_is_noticed(recipe: str) -> None:
    """By a warning, by parameters without a rule, or by a tensor that is missed."""
    tensors = read_manifest(MANIFESTS / "gpt2.json")
    warnings: list[str] = []
    try:
        assign(tensors, read_recipe(recipe, tensors), warnings.append)
    except ValueError as error:
        assert re.search("no rule|there is none", str(error))  # noqa: PT017 - either will do
    else:
        assert any(f"recipe {recipe}, rule " in warning for warning in warnings)


# Rows, fans and sizes


def test_a_zero_row_is_a_region(tmp_path: Path) -> None:
    text = "[[rule]]\nmodule = 'Embedding'\ninit = 'normal'\nzero_row = 3\n" + ALL
    found = quiet(MODEL, recipe(tmp_path, text))
    assert found[0].regions == (((3, 0), (1, 4), fi.zeros()),)
    assert all(one.regions == () for one in found[1:])


@pytest.mark.parametrize(("row", "shape"), [(10, (10, 4)), (0, ()), (0, (0, 4))])
def test_a_row_that_is_not_there(row: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"tensor 'w', rule: zero_row must be a row of the tensor.*got {row}"):
        assign([Tensor("w", shape, "float32")], [Rule(fi.zeros(), zero_row=row)])


def test_fans_are_those_of_the_weight(tmp_path: Path) -> None:
    """torch's own: Linear and Conv draw biases within 1 / sqrt(fan_in) of their weight."""
    text = """
[[rule]]
module = "LayerNorm"
init = "ones"
[[rule]]
match = "*.bias"
init = "uniform(-1 / sqrt(fan_in), 1 / sqrt(fan_in))"
[[rule]]
match = "*.weight"
init = "normal(std=layers / fan_out)"
[count]
layers = "blocks.*.up.weight"
"""
    found = inits(quiet(MODEL, recipe(tmp_path, text)))
    assert found["blocks.0.up.bias"] == fi.uniform(-0.5, 0.5)
    assert found["blocks.0.conv.bias"] == fi.uniform(-1 / 18**0.5, 1 / 18**0.5)
    assert found["blocks.0.up.weight"] == fi.normal(std=1 / 16)
    assert found["blocks.0.conv.weight"] == fi.normal(std=1 / 54)
    assert found["blocks.0.norm.bias"] == fi.ones()


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ([Tensor("a.bias", (4,), "float32")], "tensor 'a.bias', rule.*those of 'a.weight', and there is no tensor"),
        ([Tensor("bias", (4,), "float32")], "those of 'weight'"),
        ([Tensor("a.bias", (4,), "float32"), Tensor("a.weight", (4,), "float32", init="ones")], "those of 'a.weight':"),
    ],
)
def test_fans_that_are_not_there(tensors: list[Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        assign(tensors, [Rule(ByFan("normal(std=1 / fan_in)"), "*bias")])


def test_an_empty_weight_has_fans() -> None:
    tensors = [Tensor("a.bias", (0,), "float32"), Tensor("a.weight", (0, 0), "float32", init="zeros")]
    assert assign(tensors, [Rule(ByFan("normal(std=1 / fan_in)"), "*bias")])[0].init == fi.normal()


def test_a_tied_weight_lends_its_fans_under_any_name() -> None:
    tensors = [
        Tensor("embed.weight", (100, 25), "float32", init="normal", aliases=("head.weight",)),
        Tensor("head.bias", (100,), "float32"),
    ]
    found = assign(tensors, [Rule(ByFan("uniform(-1 / sqrt(fan_in), 1 / sqrt(fan_in))"), "*.bias")])
    assert found[1].init == fi.uniform(-0.2, 0.2)


def test_sizes_are_lengths_of_axes(tmp_path: Path) -> None:
    text = "[size]\nwidth = {match = 'embed.weight', axis = 1}\n[[rule]]\nmatch = '*'\ninit = 'normal(std=1 / width)'\n"
    assert set(inits(quiet(MODEL, recipe(tmp_path, text))).values()) == {fi.normal(std=0.25)}


def test_what_a_rule_says_is_in_the_file(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    text = "[[rule]]\nmodule = 'Embedding'\ninit = 'normal'\nzero_row = 3\n" + ALL
    initialize(MODEL, tmp_path / "w.safetensors", recipe(tmp_path, text), seed=5)
    found = load_file(tmp_path / "w.safetensors")["embed.weight"]
    expected = fi.array((10, 4), fi.normal(), seed=5, name="embed.weight")
    assert expected[3].all()
    expected[3] = 0
    assert np.array_equal(found, expected)


# Errors

BAD: list[tuple[str, str]] = [
    ("[[rule]]\nmatch = '*'\ninit = 'zeros'\n\n[[rule]]\nmach = 'x'\ninit = 'zeros'\n",
     "recipe r.toml, rule 2 (line 5), line 6: did you mean 'match'? A rule must have init"),
    (ALL + "[[ rule ]] # here\ninit = 'he_norml'\nmatch = '*'\n", "(line 4), line 5: the initializer: did you mean"),
    (ALL + "[[rule]]\nmatch = '*'\n\ninit = 'normal(std=1 / layer)'\n[count]\nlayers = '*'\n",
     "rule 2 (line 4), line 7: in 'normal(std=1 / layer)': a name: did you mean 'layers'"),
    (ALL + "[[rule]]\nmatch = '*'\ninit = 'normal(std=1 / fan_inn)'\n", "line 6"),
    (ALL + "[[rule]]\nmatch = '*'\ninit = 'normal(stdd=1 / fan_in)'\n", "line 6: in 'normal(stdd=1 / fan_in)'"),
    (ALL + "[[rule]]\nmatch = '*'\ninit = 'zeros'\nkind = 'buffers'\n", "line 7: kind: did you mean 'buffer'"),
    (ALL + "[[rule]]\nmatch = '*'\ninit = 'zeros'\nzero_row = -1\n", "line 7: zero_row must be 0 or more, got -1"),
    (ALL + "[[rule]]\nmatch = '*'\ninit = 'zeros'\nzero_row = 1.0\n", "line 7: zero_row must be a number without"),
    (ALL + "[[rule]]\nmatch = '*'\ninit = 'zeros'\nzero_row = true\n", "zero_row must be a number without a point"),
    (ALL + "[[rule]]\nmatch = '*'\ninit = 'zeros'\noptional = 1\n", "line 7: optional must be true or false, got 1"),
    (ALL + "[[rule]]\nmatch = '*'\n[rule.init]\nx = 1\n", "init must be a text"),
    ('[count]\n"\\u001b" = "*"\n[[rule]]\nmatch = "*"\ninit = "zeroes"', r"; \x1b = 8"),
    ("rule = [1]\n", "rule 1 must be a table, got 1"),
    ("rule = [{match = '*', init = 'zeroes'}]\n", "recipe r.toml, rule 1: the initializer: did you mean 'zeros'"),
    ('x = """\n[[rule]]\n"""\n' + ALL, "must hold"),
    ("[counts]\n" + ALL, "did you mean 'count'? It must hold"),
    ("[count]\nfan_in = '*'\n" + ALL, "the name 'fan_in' of [count] or [size]"),
    ("[count]\nn = '*'\n[size]\nn = {match = '*', axis = 0}\n" + ALL, "the name 'n' of [count] or [size]"),
    ("[count]\nn = 3\n" + ALL, "[count] must be a table of texts"),
    ("size = 3\n" + ALL, "[size] must be a table"),
    ("[size]\nn = '*'\n" + ALL, "[size], 'n' must be a table of match and axis"),
    ("[size]\nn = {match = '*', axis = -1}\n" + ALL, "axis"),
    ("[size]\nn = {match = 1, axis = 0}\n" + ALL, "must have a text as match"),
    ("[size]\nn = {match = 'absent', axis = 0}\n" + ALL, "but there is none"),
    ("[size]\nn = {match = '*.weight', axis = 0}\n" + ALL, "must have one length of axis 0, but they have the shapes"),
    ("[size]\nn = {match = '*.bias', axis = 1}\n" + ALL, "must have one length of axis 1"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BAD)
def test_an_error_names_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        recipe(tmp_path, text)
    assert str(caught.value).isprintable()


def test_no_line_is_better_than_a_wrong_one(tmp_path: Path) -> None:
    """Where something in a text looks like a header."""
    text = "[[rule]]\nmatch = '''\n[[rule]]\n'''\ninit = 'zeroes'\n"
    with pytest.raises(ValueError, match=r"recipe r.toml, rule 1: the initializer"):
        recipe(tmp_path, text)


VALUES = [
    "'zeros'", "'*'", "'normal(std=n / fan_in)'", "'buffer'", "'parameter'", "'" + "[" * 50 + "'", "0", "-1", "3.5",
    "true", "[]", "{}", "{match = '*', axis = 0}", "{match = '*.bias', axis = 0}", "inf", "1979-05-27",
    "'''\n[[rule]]'''", "'normal(std=1 / (n - n))'", "'sinusoidal'", '"\\u001b"', str(10**300), '"\\u202e"',
]  # fmt: skip
KEYS = ["init", "match", "module", "kind", "zero_row", "optional", "n", "fan_in", "rule", '"a.b"', '"\\u001b"']
HEADERS = ["[[rule]]", "[[rule]]", "[[ rule ]]", "[count]", "[size]", "[rule]", "[other]", "[[count]]", "[[rule.x]]"]
LINES = st.sampled_from(HEADERS) | st.builds("{} = {}".format, st.sampled_from(KEYS), st.sampled_from(VALUES))


@settings(derandomize=True, deadline=None, max_examples=500)
@given(st.lists(LINES, max_size=12))
def test_any_recipe_is_read_or_refused_in_a_line(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    warnings: list[str] = []
    try:
        assign(MODEL, recipe(tmp_path_factory.getbasetemp(), "\n".join(lines)), warnings.append)
    except ValueError as error:
        assert str(error).isprintable()  # noqa: PT017 - there may be none
        assert len(str(error)) < 1500  # noqa: PT017
    assert all(warning.isprintable() for warning in warnings)


def test_find_returns_what_is_without() -> None:
    found, rest = find(MODEL, [Rule(fi.zeros(), "*.bias")])
    assert {one.tensor.name for one in found} | {tensor.name for tensor in rest} == {tensor.name for tensor in MODEL}
    assert {type(one.init) for one in found} == {fi.Initializer}


def test_equal_rules_are_counted_apart() -> None:
    rules: Any = [Rule(fi.zeros()), Rule(fi.zeros())]
    assert [count for _, count in summary(find(MODEL, rules)[0], rules)] == [7, 0]
