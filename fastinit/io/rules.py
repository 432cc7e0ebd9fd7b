"""Recipes: ordered rules that say which initializer each tensor of a model gets, as TOML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from fastinit.core.checks import check_choice, suggestion
from fastinit.core.text import QUOTED, printable, quoted, say
from fastinit.initializers.base import Initializer
from fastinit.initializers.connections import fans
from fastinit.initializers.elementwise import zeros
from fastinit.initializers.parsing import names_in, parse
from fastinit.io.files import read_text
from fastinit.io.manifests import Tensor, parsed
from fastinit.io.toml_text import Lines, toml_of

_BYTES = 1 << 17  # of a recipe
_FANS = ("fan_in", "fan_out")  # names that an init may use: of its tensor's weight
_TABLES = ("rule", "count", "size")
_KEYS: dict[str, type] = {
    "init": str, "match": str, "module": str, "kind": str, "zero_row": int, "optional": bool
}  # fmt: skip
_LISTED = 600  # characters of the parameters that an error lists

Place = tuple[int, ...]


@dataclass(frozen=True)
class ByFan:
    """Initializer that needs the fans of its tensor's weight: a text, and the other numbers that it computes with."""

    text: str
    numbers: tuple[tuple[str, float], ...] = ()

    def of(self, fan_in: float, fan_out: float) -> Initializer:
        """Return the initializer for these fans."""
        return parse(self.text, {**dict(self.numbers), "fan_in": fan_in, "fan_out": fan_out})

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Rule:
    """Initializer of the tensors of one kind whose name and whose module's kind match these globs."""

    init: Initializer | ByFan
    match: str = "*"
    module: str = "*"
    kind: str = "parameter"
    zero_row: int | None = None  # that is zero after the initializer
    optional: bool = False  # may match nothing
    recipe: str = ""
    number: int = 0  # in its recipe, from 1 on
    line: int = 0  # of its header; 0 where it is not known

    def matches(self, tensor: Tensor) -> bool:
        """Test whether this rule is for the tensor; one of an unknown kind, "", may be either."""
        of_kind = tensor.kind in (self.kind, "")
        return of_kind and fnmatchcase(tensor.name, self.match) and fnmatchcase(tensor.module, self.module)

    @property
    def place(self) -> str:
        """Return where it stands, for messages."""
        line = f" (line {self.line})" if self.line else ""
        where = f"recipe {printable(self.recipe)}, " if self.recipe else ""
        return f"{where}rule {self.number}{line}" if self.number else f"{where}rule"

    @property
    def globs(self) -> str:
        """Return what it matches, as a recipe says it."""
        given = {"match": self.match, "module": self.module}
        texts = [f"{key} = {quoted(glob)}" for key, glob in given.items() if glob != "*"] or ["match = '*'"]
        return ", ".join(texts + ["kind = 'buffer'"] * (self.kind == "buffer"))


class Assignment(NamedTuple):
    """A tensor with all that is written to it."""

    tensor: Tensor
    init: Initializer
    regions: tuple[tuple[Place, Place, Initializer], ...]  # offset, shape and content, written after the whole
    rule: Rule | None  # that says so, or None if the manifest does


def recipe_names() -> list[str]:
    """Return the names of the recipes inside the package.

    Examples
    --------
    >>> "gpt2" in recipe_names()
    True
    """
    files = resources.files("fastinit.io.recipes").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def read_recipe(recipe: str | Path, tensors: Sequence[Tensor]) -> list[Rule]:
    """Return the rules of a recipe: a TOML file, or the name of one inside the package.

    An ordered list of ``[[rule]]`` tables, each with ``init``, the text of an initializer (see `fastinit.parse`), and
    ``match``, a glob on the tensor's name, or ``module``, one on its module's kind, or both. The tables ``[count]`` and
    ``[size]`` name numbers that the texts may compute with. docs/recipes.md specifies all of it.

    Raises
    ------
    ValueError
        If the recipe does not exist or has anything else in it; the message names the rule and its line.
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
    content = toml_of(place, text)
    tables = content.get("rule")
    if content.keys() - set(_TABLES) or not isinstance(tables, list):
        near = next(filter(None, (suggestion(key, _TABLES) for key in content.keys() - set(_TABLES))), "")
        raise ValueError(
            f"{place}: {near}It must hold [[rule]] tables and may hold [count] and [size], got {quoted(list(content))}"
        )
    numbers = _numbers(place, content, tensors)
    lines = Lines(text, len(tables))
    return [_rule(Path(recipe).name, n, table, numbers, lines) for n, table in enumerate(tables, 1)]


def _numbers(place: str, content: Mapping[str, Any], tensors: Sequence[Tensor]) -> dict[str, float]:
    """Return the numbers that the initializers of a recipe may compute with."""
    counts, sizes = content.get("count", {}), content.get("size", {})
    if not isinstance(counts, dict) or not all(isinstance(value, str) for value in counts.values()):
        raise ValueError(f"{place}, [count] must be a table of texts, got {quoted(counts)}")
    if not isinstance(sizes, dict):
        raise ValueError(f"{place}, [size] must be a table, got {quoted(sizes)}")
    if twice := [name for name in (*counts, *sizes) if name in _FANS or (name in counts and name in sizes)]:
        raise ValueError(f"{place}: the name {quoted(twice[0])} of [count] or [size] stands for another number already")
    found: dict[str, float] = {
        name: sum(fnmatchcase(tensor.name, glob) for tensor in tensors) for name, glob in counts.items()
    }
    return found | {name: _size(f"{place}, [size], {quoted(name)}", one, tensors) for name, one in sizes.items()}


def _size(place: str, entry: Any, tensors: Sequence[Tensor]) -> int:
    """Return the length of an axis that all tensors have whose names match."""
    if not isinstance(entry, dict) or entry.keys() != {"match", "axis"}:
        raise ValueError(f"{place} must be a table of match and axis, got {quoted(entry)}")
    glob, axis = entry["match"], entry["axis"]
    if not isinstance(glob, str) or type(axis) is not int or axis < 0:
        raise ValueError(f"{place} must have a text as match and a number of 0 or more as axis, got {quoted(entry)}")
    shapes = {tensor.shape for tensor in tensors if fnmatchcase(tensor.name, glob)}
    if lengths := {shape[axis] if axis < len(shape) else None for shape in shapes}:
        length = lengths.pop()
        if length is not None and not lengths:
            return length
    found = f"they have the shapes {quoted(sorted(map(list, shapes)))}" if shapes else "there is none"
    raise ValueError(f"{place}: the tensors that match {quoted(glob)} must have one length of axis {axis}, but {found}")


def _rule(recipe: str, number: int, table: Any, numbers: Mapping[str, float], lines: Lines) -> Rule:
    """Return one rule, its initializer parsed."""
    head = Rule(zeros(), recipe=recipe, number=number, line=lines.of_rule(number))

    def at(key: str) -> str:
        line = lines.of_key(number, key)
        return f"{head.place}, line {line}" if line else head.place

    if not isinstance(table, dict):
        raise ValueError(f"{head.place} must be a table, got {quoted(table)}")
    for key, value in table.items():
        if key not in _KEYS:
            near = suggestion(key, _KEYS)
            raise ValueError(f"{at(key)}: {near}A rule must have init, and may have {_others()}, got {quoted(key)}")
        if type(value) is not _KEYS[key]:
            kinds = {str: "a text", int: "a number without a point", bool: "true or false"}
            raise ValueError(f"{at(key)}: {key} must be {kinds[_KEYS[key]]}, got {quoted(value)}")
    if "init" not in table or not table.keys() & {"match", "module"}:
        raise ValueError(f"{head.place} must have init, and match or module or both, got {quoted(list(table))}")
    check_choice(f"{at('kind')}: kind", table.get("kind", "parameter"), ("parameter", "buffer"))
    if table.get("zero_row", 0) < 0:
        raise ValueError(f"{at('zero_row')}: zero_row must be 0 or more, got {quoted(table['zero_row'])}")
    try:
        init = _init(table["init"], numbers)
    except (TypeError, ValueError) as error:
        known = printable("".join(f"; {name} = {value}" for name, value in numbers.items()))
        raise ValueError(f"{at('init')}: {error}{known[:QUOTED]}") from None
    more = {key: value for key, value in table.items() if key != "init"}
    return Rule(init, **more, recipe=recipe, number=number, line=head.line)


def _others() -> str:
    return ", ".join(key for key in _KEYS if key != "init")


def _init(text: str, numbers: Mapping[str, float]) -> Initializer | ByFan:
    """Return the initializer of a text, or what makes it where the text has the fans of a weight in it."""
    if not names_in(text) & set(_FANS):
        return parse(text, numbers)
    made = ByFan(text, tuple(numbers.items()))
    made.of(64, 64)  # whatever is wrong with any fan
    return made


def rule_for(tensor: Tensor, rules: Sequence[Rule]) -> Rule | None:
    """Return the first rule that matches the tensor, if one does."""
    return next((rule for rule in rules if rule.matches(tensor)), None)


def find(tensors: Sequence[Tensor], rules: Sequence[Rule]) -> tuple[list[Assignment], list[Tensor]]:
    """Return what is written to tensors, by their first rules that match or else their manifest, and those without.

    Raises
    ------
    ValueError
        If a rule cannot be applied to its tensor: a row that it does not have, or fans of a weight that is not there.
    """
    weights = {name: tensor for tensor in tensors for name in (*tensor.aliases, tensor.name)}
    found: list[Assignment] = []
    rest: list[Tensor] = []
    for tensor in tensors:
        rule = rule_for(tensor, rules)
        if rule is not None:
            try:
                found.append(Assignment(tensor, _init_of(tensor, rule, weights), _zero_row(tensor, rule), rule))
            except (TypeError, ValueError) as error:
                raise ValueError(f"tensor {quoted(tensor.name)}, {rule.place}: {error}") from None
        elif tensor.init:
            regions = tuple((region.offset, region.shape, parsed(region.init)) for region in tensor.regions)
            found.append(Assignment(tensor, parsed(tensor.init), regions, None))
        else:
            rest.append(tensor)
    return found, rest


def _init_of(tensor: Tensor, rule: Rule, weights: Mapping[str, Tensor]) -> Initializer:
    """Return a rule's initializer for a tensor."""
    if isinstance(rule.init, Initializer):
        return rule.init
    name = ".".join((*tensor.name.split(".")[:-1], "weight"))
    if name not in weights:
        raise ValueError(f"fan_in and fan_out are those of {quoted(name)}, and there is no tensor of that name")
    try:
        found = fans(weights[name].shape)
    except ValueError as error:
        raise ValueError(f"fan_in and fan_out are those of {quoted(name)}: {error}") from None
    return rule.init.of(max(found.fan_in, 1), max(found.fan_out, 1))  # an empty tensor may have a fan of 0


def _zero_row(tensor: Tensor, rule: Rule) -> tuple[tuple[Place, Place, Initializer], ...]:
    """Return the region that a rule sets to zero."""
    if rule.zero_row is None:
        return ()
    if not tensor.shape or rule.zero_row >= tensor.shape[0]:
        raise ValueError(
            f"zero_row must be a row of the tensor, whose shape is {quoted(list(tensor.shape))}, got {rule.zero_row}"
        )
    return (((rule.zero_row, *[0] * (len(tensor.shape) - 1)), (1, *tensor.shape[1:]), zeros()),)


def assign(tensors: Sequence[Tensor], rules: Sequence[Rule], warn: Callable[[str], object] = say) -> list[Assignment]:
    """Return what is written to each tensor: what its first rule that matches says, or else its manifest.

    A rule replaces the manifest's initializer and regions. Buffers without either are skipped.

    Parameters
    ----------
    tensors, rules
        The model, and a recipe's rules; there may be none.
    warn
        Called with a line for each rule that no tensor follows, unless it is optional.

    Raises
    ------
    ValueError
        If parameters have neither, or a rule cannot be applied to its tensor. Nothing has been written then.
    """
    found, rest = find(tensors, rules)
    if missing := [tensor for tensor in rest if tensor.kind != "buffer"]:
        raise ValueError(without_init(missing))
    for rule, count in summary(found, rules):
        if count == 0 and not rule.optional:
            warn(f"{rule.place}: no tensor follows it ({rule.globs})")
    return found


def without_init(tensors: Sequence[Tensor]) -> str:
    """Return the error that parameters have no initializer: how many, and the first of them."""
    listed = ""
    for number, tensor in enumerate(tensors):
        one = f"{quoted(tensor.name)} (module {quoted(tensor.module)}, shape {quoted(list(tensor.shape))})"
        if listed and len(listed) + len(one) > _LISTED:
            listed += f", and {len(tensors) - number} more"
            break
        listed += f", {one}" if listed else one
    which = f"{len(tensors)} parameters" if len(tensors) > 1 else "a parameter"
    return f"no rule of the recipe matches {which}, and the manifest gives no init: {listed}"


def summary(assignments: Sequence[Assignment], rules: Sequence[Rule]) -> list[tuple[Rule, int]]:
    """Return each rule with the number of tensors that follow it."""
    counts = Counter(id(one.rule) for one in assignments)
    return [(rule, counts[id(rule)]) for rule in rules]
