"""What each parameter and buffer of a module got."""

from __future__ import annotations

from dataclasses import dataclass

from fastinit.core.text import printable, size_text
from fastinit.initializers.base import Initializer
from fastinit.torch.places import Box


@dataclass(frozen=True)
class Initialized:
    """One parameter or buffer, and what was written into it.

    Attributes
    ----------
    name, aliases
        The name that selects its stream, and further ones if it is tied.
    shape, dtype, nbytes
        Of the whole tensor, also where this process holds a shard of it.
    kind, module
        ``"parameter"`` or ``"buffer"``, and the kind of module that owns it.
    init
        The initializer of the whole; None if there is none.
    regions
        Parts that were initialized apart, in order: boxes and their initializers.
    computed
        Operations of torch that wrote values or changed them, such as ``copy_`` of a table.
    problem
        What is wrong, in words; empty if nothing is.
    """

    name: str
    aliases: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    kind: str
    module: str
    init: Initializer | None
    regions: tuple[tuple[Box, Initializer], ...]
    computed: tuple[str, ...]
    problem: str = ""

    def __str__(self) -> str:
        got = [str(self.init)] if self.init is not None else []
        got += [f"{init} in {box.shape} at {box.offset}" for box, init in self.regions]
        got += [f"by {', '.join(self.computed)}"] if self.computed else []
        names = " = ".join(map(printable, (self.name, *self.aliases)))
        return f"{names}  {self.dtype}{list(self.shape)}  {self.problem or ', '.join(got) or 'left as it was'}"


@dataclass(frozen=True)
class InitializationReport:
    """What the parameters and buffers of a module got.

    Attributes
    ----------
    seed
        The seed of all values.
    tensors
        Each parameter and buffer, by name.
    """

    seed: int
    tensors: dict[str, Initialized]

    @property
    def computed(self) -> tuple[str, ...]:
        """Names of those whose values are torch's, computed from others or from nothing random."""
        return tuple(name for name, one in self.tensors.items() if one.computed)

    @property
    def problems(self) -> dict[str, str]:
        """What is wrong with which, in words: nothing wrote it, or a generator of torch's did."""
        return {name: one.problem for name, one in self.tensors.items() if one.problem}

    def check(self) -> None:
        """Raise an error that names what is wrong.

        Raises
        ------
        RuntimeError
            If there are `problems`.
        """
        if self.problems:
            most = 20
            listed = [f"{printable(name)} ({problem})" for name, problem in self.problems.items()]
            more = f" and {len(listed) - most} more" if len(listed) > most else ""
            raise RuntimeError(
                f"not initialized by the module's own code: {', '.join(listed[:most])}{more}; give rules for them, or "
                "strict=False"
            )

    def __str__(self) -> str:
        size = sum(one.nbytes for one in self.tensors.values())
        head = f"{len(self.tensors)} tensors, {size_text(size)}, seed {self.seed}; {len(self.problems)} problems"
        return "\n".join([head, *map(str, self.tensors.values())])
