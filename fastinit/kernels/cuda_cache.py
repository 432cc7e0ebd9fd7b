"""GPU kernels on disk, in the form in which numba-cuda pickles them, kept as `fastinit.kernels.cache` keeps files."""

from __future__ import annotations

import importlib
import pickle
from contextlib import ExitStack, suppress
from typing import Any

from numba.core.caching import NullCache
from numba.core.serialize import dumps
from numba.core.target_extension import target_override

from fastinit.kernels.cache import announced, found, identity, keep


def kept(kernel: Any, label: str) -> Any:
    """Return a kernel of numba-cuda's that is looked for on disk before it is compiled, and put there afterwards.

    ``label`` describes it, and no other kernel has the same.
    """
    kernel._cache = _Kept(label, kernel.targetctx)
    return kernel


class _Kept(NullCache):
    """The versions of one kernel on disk, in the place of Numba's own cache."""

    def __init__(self, label: str, context: Any) -> None:
        self._label, self._context = label, context
        form: Any = importlib.import_module("numba.cuda.dispatcher").CUDACacheImpl
        self._form = form.__new__(form)  # whose constructor would look for a folder of Numba's
        self._notice = ExitStack()

    def load_overload(self, signature: Any, context: Any) -> Any:
        """Return the compiled version from disk; None where there is none that is whole."""
        with target_override("cuda"):  # type: ignore[no-untyped-call]
            context.refresh()
            for payload in found(*self._identity(signature)):
                with suppress(Exception):  # of another version of numba-cuda
                    return self._form.rebuild(context, pickle.loads(payload))
        self._notice.enter_context(announced(self._label))
        return None

    def save_overload(self, signature: Any, version: Any) -> None:
        """Put a compiled version on disk, unless there is something against it: then it is compiled again next time."""
        self._notice.close()
        with suppress(Exception):  # Numba refuses to pickle
            if self._form.check_cachable(version):
                keep(*self._identity(signature), dumps(self._form.reduce(version)))  # type: ignore[no-untyped-call]

    def _identity(self, signature: Any) -> tuple[str, bytes]:
        """Return the file's name, and a digest of everything that decides the compiled code."""
        return identity(self._label, signature, self._context.codegen().magic_tuple())
