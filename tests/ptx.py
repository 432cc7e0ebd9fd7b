"""An interpreter of PTX, one instruction and one thread at a time, and of no instructions but those of the kernels.

It shares nothing with the package: registers are integers that hold bits, and every float is rounded from its exact
value. The semantics are those of NVIDIA's "Parallel Thread Execution ISA".
"""

from __future__ import annotations

import itertools
import operator
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

_FLOATS: dict[str, tuple[Any, Any]] = {"f32": (np.float32, np.uint32), "f64": (np.float64, np.uint64)}
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")
} | {"gtu": lambda a, b: not a <= b}  # true of what is no number too
_SPECIAL = {"tid": 0, "ntid": 1, "ctaid": 2, "nctaid": 3}


def width(kind: str) -> int:
    """Bits of a type."""
    return 1 if kind == "pred" else int(kind[1:])


def cut(value: int, kind: str) -> int:
    """The bits of an integer that a register of the type holds."""
    return value & ((1 << width(kind)) - 1)


def read(pattern: int, kind: str) -> Any:
    """The number that the bits of a register are."""
    if kind in _FLOATS:
        real, word = _FLOATS[kind]
        return word(cut(pattern, kind)).view(real)
    pattern = cut(pattern, kind)
    return pattern - (1 << width(kind)) if kind[0] == "s" and pattern >> (width(kind) - 1) else pattern


def write(value: Any, kind: str) -> int:
    """The bits of a number."""
    if kind in _FLOATS:
        real, word = _FLOATS[kind]
        return int(real(value).view(word))
    return cut(int(value), kind)


def nearest(exact: Fraction, real: Any) -> Any:
    """The float next to a fraction, of two equally near ones the even one: the best of three candidates."""
    guess = real(float(exact))
    around = (np.nextafter(guess, real(-np.inf)), guess, np.nextafter(guess, real(np.inf)))
    word = np.uint32 if real is np.float32 else np.uint64
    return min(around, key=lambda value: (abs(Fraction(float(value)) - exact), int(value.view(word)) % 2))


def arithmetic(a: Any, b: Any, c: Any, exact: Fraction, simple: Any) -> Any:
    """The exact value rounded once; of zero the sign that the operation gives."""
    assert all(np.isfinite(value) for value in (a, b, c))
    return nearest(exact, type(a)) if exact else simple


class Kernel:
    """The one entry of a PTX text."""

    def __init__(self, text: str) -> None:
        text = re.sub(r"//[^\n]*", "", text)
        found = re.search(r"\.visible \.entry (\w+)\(([^)]*)\)[^{]*\{(.*)\}", text, re.DOTALL)
        assert found
        self.parameters = [tuple(line.split()[1:]) for line in found[2].strip().split(",\n")]
        self.code: list[tuple[str, list[str], list[str]]] = []
        self.labels: dict[str, int] = {}
        for line in re.split(r"[;\n]", found[3]):
            line = re.sub(r"^\{?\s*\.reg.*|^[{}]$", "", line.strip())  # an inner scope names registers of its own
            if label := re.fullmatch(r"(\$\w+):", line):
                self.labels[label[1]] = len(self.code)
            elif line and not line.startswith("."):
                guard, operation, operands = re.fullmatch(r"(?:@(!?%p\d+)\s+)?(\S+)\s*(.*)", line).groups()  # type: ignore[union-attr]
                places = re.findall(r"\{[^}]*\}|\[[^]]*\]|[^,\s]+", operands)
                self.code.append((guard or "", operation.split("."), places))

    def run(
        self,
        arguments: Sequence[Any],
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        base: int,
        memory: bytearray,
    ) -> None:
        """Run every thread; ``memory`` is what lies at the address ``base``."""
        assert len(arguments) == len(self.parameters)
        given = {name: write(value, kind[1:]) for (kind, name), value in zip(self.parameters, arguments, strict=True)}
        for place in itertools.product(*(range(count) for count in (*grid, *block))):
            _Thread(self, given, (place[3:], block, place[:3], grid), base, memory).run()


class _Thread:
    """One thread's registers, all of them bits."""

    def __init__(self, kernel: Kernel, given: dict[str, int], where: Any, base: int, memory: bytearray) -> None:
        self.kernel, self.given, self.where, self.base, self.memory = kernel, given, where, base, memory
        self.registers: dict[str, int] = {}

    def run(self) -> None:
        at = 0
        while True:
            guard, operation, places = self.kernel.code[at]
            at += 1
            if guard and bool(self.registers[guard.lstrip("!")]) == guard.startswith("!"):
                continue
            if operation[0] == "ret":
                return
            if operation[0] == "bra":
                at = self.kernel.labels[places[0]]
            else:
                self.step(operation, places)

    def bits(self, place: str, kind: str) -> int:
        """The bits of an operand."""
        if place in self.registers:
            return self.registers[place]
        if place.startswith("%"):
            name, _, axis = place[1:].partition(".")
            return self.where[_SPECIAL[name]]["xyz".index(axis)] if axis else self.registers[place]
        if place.startswith("{"):  # registers side by side, the low one first
            halves = re.findall(r"%\w+", place)
            each = width(kind) // len(halves)
            return sum(cut(self.registers[half], f"b{each}") << (k * each) for k, half in enumerate(halves))
        if place[:2] in ("0f", "0d"):
            return int(place[2:], 16)
        return cut(int(place, 0), kind)

    def step(self, operation: list[str], places: list[str]) -> None:
        """Every instruction but branches."""
        name, kind = operation[0], operation[-1]
        if name == "st":
            self.store(operation, places)
            return
        if name == "ld":
            assert operation[1] == "param"
            self.registers[places[0]] = cut(self.given[places[1].strip("[]")], kind)
            return
        values = [self.bits(place, kind) for place in places[1:]]
        result = self.floats(operation, kind, values) if kind in _FLOATS else None
        if result is None:
            result = self.integers(operation, kind, values)
        if places[0].startswith("{"):
            halves = re.findall(r"[%\w]+", places[0])
            each = width(kind) // len(halves)
            for k, half in enumerate(halves):
                self.registers[half] = cut(result >> (k * each), f"b{each}")
        else:
            self.registers[places[0]] = result

    def floats(self, operation: list[str], kind: str, values: list[int]) -> int | None:
        """The arithmetic of floats; nothing for what treats them as bits."""
        name, modes = operation[0], operation[1:-1]
        if name not in ("add", "sub", "mul", "fma", "sqrt", "neg", "abs"):
            return None
        assert modes in ([], ["rn"]), operation  # rounded to nearest, no flush of subnormals
        assert modes == ["rn"] or name not in ("fma", "sqrt")
        numbers = [read(value, kind) for value in values]
        if name == "sqrt":
            root = np.sqrt(numbers[0])  # the nearest float, by IEEE 754
            return write(root, kind)
        if name in ("neg", "abs"):
            return write(-numbers[0] if name == "neg" else abs(numbers[0]), kind)
        a, b = numbers[:2]
        with np.errstate(all="ignore"):
            if name == "fma":
                c = numbers[2]
                exact, simple = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)), a * b + c
            else:
                c, combine = a, getattr(operator, name)
                exact, simple = combine(Fraction(float(a)), Fraction(float(b))), combine(a, b)
        return write(arithmetic(a, b, c, exact, simple), kind)

    def integers(self, operation: list[str], kind: str, values: list[int]) -> int:
        """Integers, bits, predicates, comparisons and conversions."""
        name = operation[0]
        match name, [read(value, kind) for value in values]:
            case ("mov", [_]):
                return cut(values[0], kind)
            case ("add", [a, b]):
                return cut(a + b, kind)
            case ("sub", [a, b]):
                return cut(a - b, kind)
            case ("neg", [a]):
                return cut(-a, kind)
            case ("not", [a]):
                return cut(~a, kind)
            case ("brev", [_]):
                return int(f"{cut(values[0], kind):0{width(kind)}b}"[::-1], 2)
            case ("clz", [_]):
                return width(kind) - cut(values[0], kind).bit_length()
            case ("popc", [_]):
                return cut(values[0], kind).bit_count()
            case ("min" | "max", [a, b]):
                return cut(min(a, b) if name == "min" else max(a, b), kind)
            case ("mul" | "mad", [a, b, *c]):
                product = a * b
                if operation[1] == "hi":
                    return cut(product >> width(kind), kind)
                result = f"b{2 * width(kind)}" if operation[1] == "wide" else kind
                assert operation[1] in ("lo", "wide")
                return cut(product + sum(c), result)
            case ("and" | "or" | "xor", [a, b]):
                return cut({"and": a & b, "or": a | b, "xor": a ^ b}[name], kind)
            case ("shl", [a, _]):
                return cut(a << cut(values[1], "b32"), kind)
            case ("shr", [a, _]):
                return cut(a >> cut(values[1], "b32"), kind)  # of a signed one the sign comes in
            case ("bfi", _):
                field, target, start, size = values
                mask = ((1 << size) - 1) << start
                return cut((target & ~mask) | ((field << start) & mask), kind)
            case ("selp", _):
                return cut(values[0] if values[2] else values[1], kind)
            case ("setp", [a, b]):
                return int(bool(_COMPARE[operation[1]](a, b)))
            case ("cvt", _):
                to = operation[-2]
                assert (operation[1] == "rn") == (to in _FLOATS)
                assert kind[0] in "su"
                number = read(values[0], kind)
                return write(nearest(Fraction(number), _FLOATS[to][0]) if to in _FLOATS else number, to)
        raise ValueError(f"this interpreter does not know {'.'.join(operation)}")

    def store(self, operation: list[str], places: list[str]) -> None:
        """Store one or several registers; the address must be a multiple of all their bytes."""
        assert operation[1] == "global"
        kind = operation[-1]
        registers = re.findall(r"%\w+", places[1])
        assert len(registers) == (int(operation[2][1:]) if len(operation) == 4 else 1)
        register, offset = re.fullmatch(r"\[(%\w+)(?:\+(-?\d+))?\]", places[0]).groups()  # type: ignore[union-attr]
        size = width(kind) // 8
        at = self.registers[register] + int(offset or 0) - self.base
        assert (at + self.base) % (size * len(registers)) == 0
        assert 0 <= at <= len(self.memory) - size * len(registers)
        for k, name in enumerate(registers):
            self.memory[at + k * size : at + (k + 1) * size] = cut(self.registers[name], kind).to_bytes(size, "little")
