"""Initializers from text, and back: the grammar of recipes and of the command line."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from fastinit.core.checks import check_choice
from fastinit.core.text import quoted
from fastinit.initializers import elementwise, scaling, structured, tables  # noqa: F401 - which register their factories
from fastinit.initializers.base import FACTORIES, Initializer

MOST_TEXT = 1000  # characters that `parse` reads
_TABLE = re.compile(r"\s*table\((?:values=)?'([-+.0-9e ]*)'\)\s*")

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def brief(init: Initializer) -> str:
    """Return an initializer as one types it, without empty parentheses; `parse` reads it back."""
    return str(init).removesuffix("()")


def parse(text: str, names: Mapping[str, float] | None = None) -> Initializer:
    """Return the initializer that a text names: a factory, with literal arguments in brackets if it takes any.

    Nothing is evaluated: the text is taken apart by Python's grammar, and everything but a call of a factory with
    numbers, strings, True and False is refused. ``inf`` is a number. `repr` is the inverse.

    Parameters
    ----------
    text
        Such as ``"he_normal"`` or ``"truncated_normal(std=0.02, lower=-3.0, upper=3.0)"``.
    names
        Numbers that the text may use by name. Only with them it may compute, by + - * / and sqrt: a recipe says
        ``"normal(std=0.02 / sqrt(2 * layers))"``.

    Raises
    ------
    TypeError
        If the text is not a string, or the factory does not take the arguments.
    ValueError
        If it is anything else, or the factory refuses a value.

    Examples
    --------
    >>> parse("he_normal(mode='fan_out')")
    he_normal(mode='fan_out')
    >>> parse("normal(std=0.02 / sqrt(2 * layers))", {"layers": 2}).distribution((3,)).std
    0.01
    """
    if not isinstance(text, str):
        raise TypeError(f"an initializer's text must be a string, got {quoted(text)}")
    if table := _TABLE.fullmatch(text):  # which may be long
        return tables.table(table[1])
    if len(text) > MOST_TEXT:
        raise ValueError(f"an initializer's text must have at most {MOST_TEXT} characters, got {quoted(text)}")
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"not the text of an initializer: {quoted(text)}") from None
    call = ast.Call(node, [], []) if isinstance(node, ast.Name) else node
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
        raise ValueError(f"an initializer is written as name(argument=value, ...), got {quoted(text)}")
    factory = FACTORIES[check_choice("the initializer", call.func.id, FACTORIES)]
    try:
        arguments = [_value(item, names) for item in call.args]
        keywords = {str(item.arg): _value(item.value, names) for item in call.keywords}
        if len(keywords) < len(call.keywords) or any(item.arg is None for item in call.keywords):
            raise ValueError("each argument must be given once, by its name")
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"in {quoted(text)}: {error}") from None
    try:
        return factory(*arguments, **keywords)
    except TypeError as error:
        raise TypeError(f"in {quoted(text)}: {error}") from None


def names_in(text: str) -> set[str]:
    """Return the names in a text that `parse` reads, the factory's among them; those inside of strings are none.

    Examples
    --------
    >>> sorted(names_in("he_normal(mode='fan_out', a=1 / fan_in)"))
    ['fan_in', 'he_normal']
    """
    if len(text) > MOST_TEXT:
        return set()
    try:
        tree = ast.parse(text.strip(), mode="eval")
        return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()


def _value(node: ast.expr, names: Mapping[str, float] | None) -> Any:
    """Return the value of one argument of `parse`."""
    if isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float, str)):
        return node.value
    if isinstance(node, ast.Name) and node.id == "inf":
        return math.inf
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_number(node.operand, names)
    if names is not None:
        if isinstance(node, ast.Name):
            return names[check_choice("a name", node.id, names)]
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            return _ARITHMETIC[type(node.op)](_number(node.left, names), _number(node.right, names))
        if (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) == "sqrt"
            and len(node.args) == 1
            and not node.keywords
        ):
            return math.sqrt(_number(node.args[0], names))
    raise ValueError(f"{quoted(ast.unparse(node))} is not a literal value")


def _number(node: ast.expr, names: Mapping[str, float] | None) -> float:
    """Return a value that can be computed with."""
    value = _value(node, names)
    if isinstance(value, (bool, str)):
        raise ValueError(f"{quoted(value)} is not a number")
    return float(value) if isinstance(value, float) or abs(value) > 1 << 53 else value
