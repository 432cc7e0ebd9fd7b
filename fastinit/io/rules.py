"""Recipes: ordered rules that say which initializer each tensor of a model gets, as TOML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Any

from fastinit.core.checks import suggestion
from fastinit.core.text import printable, quoted
from fastinit.initializers.base import Initializer
from fastinit.initializers.parsing import parse
from fastinit.io.files import read_text
from fastinit.io.manifests import Tensor

_BYTES, _LINE = 1 << 17, 500  # bytes of a recipe, characters of its lines


@dataclass(frozen=True)
class Rule:
    """Initializer of the tensors whose name and whose module's kind match these globs."""

    init: Initializer
    match: str = "*"
    module: str = "*"

    def matches(self, tensor: Tensor) -> bool:
        """Test whether this rule is for the tensor."""
        return fnmatchcase(tensor.name, self.match) and fnmatchcase(tensor.module, self.module)


def recipe_names() -> list[str]:
    """Return the names of the recipes inside the package.

    Examples
    --------
    >>> recipe_names()
    ['bert', 'gpt2', 'llama', 'resnet', 'vit']
    """
    files = resources.files("fastinit.io.recipes").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def read_recipe(recipe: str | Path, tensors: Sequence[Tensor]) -> list[Rule]:
    """Return the rules of a recipe: a TOML file, or the name of one inside the package.

    An ordered list of ``[[rule]]`` tables, each with ``init``, the text of an initializer (see `fastinit.parse`), and
    ``match``, a glob on the tensor's name, or ``module``, one on its module's kind, or both. A table ``[count]`` names
    numbers that the texts may compute with: the count of the model's tensors that match a glob.

    Raises
    ------
    ValueError
        If the recipe does not exist or has anything else in it.
    """
    place = f"recipe {printable(str(recipe))}"
    if str(recipe) in recipe_names():
        text = resources.files("fastinit.io.recipes").joinpath(f"{recipe}.toml").read_text(encoding="utf-8")
    elif Path(recipe).exists():
        try:
            text = read_text(recipe, _BYTES)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
    else:
        near = suggestion(recipe, recipe_names())
        listed = f"must be a TOML file or one of {', '.join(recipe_names())}, got {quoted(str(recipe))}"
        raise ValueError(f"recipe: {near}It {listed}" if near else f"recipe {listed}")
    content = _toml(place, text)
    if content.keys() - {"rule", "count"} or not isinstance(content.get("rule"), list):
        raise ValueError(f"{place} must hold [[rule]] tables and may hold [count], got {quoted(list(content))}")
    counts = {
        name: sum(fnmatchcase(tensor.name, glob) for tensor in tensors)
        for name, glob in _strings(f"{place}, [count]", content.get("count", {})).items()
    }
    return [_rule(f"{place}, rule {n}", table, counts) for n, table in enumerate(content["rule"], 1)]


def _toml(place: str, text: str) -> dict[str, Any]:
    """Return the recipe's tables."""
    try:
        import tomllib
    except ImportError:  # Python 3.10
        import tomli as tomllib  # type: ignore[import-not-found, no-redef, unused-ignore]
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > _LINE:  # the parser takes the square of the dots in a key
            raise ValueError(f"{place}: line {number} must have {_LINE} characters at most, got {len(line)}")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError(f"{place}: it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{place}: {printable(str(error))}") from None


def _strings(place: str, table: Any) -> dict[str, str]:
    """Return the table, if its values are all text."""
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        raise ValueError(f"{place} must be a table of texts, got {quoted(table)}")
    return table


def _rule(place: str, table: Any, counts: Mapping[str, int]) -> Rule:
    """Return one rule, its initializer parsed."""
    texts = _strings(place, table)
    if "init" not in texts or not texts.keys() & {"match", "module"} or texts.keys() - {"init", "match", "module"}:
        raise ValueError(f"{place} must have init, and match or module or both, got {quoted(list(texts))}")
    try:
        init = parse(texts["init"], counts)
    except (TypeError, ValueError) as error:
        known = "".join(f"; {name} = {count}" for name, count in counts.items())
        raise ValueError(f"{place}: {error}{known}") from None
    return Rule(init, texts.get("match", "*"), texts.get("module", "*"))


def rule_for(tensor: Tensor, rules: Sequence[Rule]) -> Rule | None:
    """Return the first rule that matches the tensor, if one does."""
    return next((rule for rule in rules if rule.matches(tensor)), None)


def assign(tensors: Sequence[Tensor], rules: Sequence[Rule]) -> list[tuple[Tensor, Initializer]]:
    """Return each tensor with the initializer of its first rule that matches; buffers without one are skipped.

    Raises
    ------
    ValueError
        If a parameter has no rule, or a rule's initializer cannot fill its tensor. Nothing has been written then.
    """
    pairs: list[tuple[Tensor, Initializer]] = []
    for tensor in tensors:
        rule = rule_for(tensor, rules)
        if rule is None:
            if tensor.kind == "buffer":
                continue
            raise ValueError(
                f"no rule of the recipe matches the parameter {quoted(tensor.name)} (module {quoted(tensor.module)}, "
                f"shape {quoted(list(tensor.shape))})"
            )
        pairs.append((tensor, rule.init))
    return pairs
