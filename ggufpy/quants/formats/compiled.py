"""How the encoders are compiled: once per machine, for the host's own vector unit, without the GIL."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache

from ggufpy.errors import GgufpyError

Function = TypeVar("Function", bound=Callable[..., Any])

# Called when something has to be compiled, which takes seconds: for who wants to say so.
on_compile: list[Callable[[], None]] = []

# Bytes: a function takes up to 80 MB, and LLVM ends the process that gives it none.
_ROOM = 96 << 20


def compiled(function: Function) -> Function:
    """Compile `function` on its first call, strictly as IEEE 754 has it, and keep the machine code on disk.

    numba keeps it beside the source, or in NUMBA_CACHE_DIR or the user's cache folder where that is
    read-only. Where nothing is writable, each process compiles for itself. numba does not notice a change to
    a function that this one calls from another file: after one, delete the `__pycache__` of `ggufpy/quants`.
    """
    result: Any = numba.njit(function, nogil=True, error_model="numpy")
    with suppress(RuntimeError):  # nothing is writable
        result._cache = _Cache(function)  # type: ignore[no-untyped-call]
    return cast(Function, result)


class _Cache(FunctionCache):
    """numba's, but for files that are cut, or a disk that is full: what is compiled anew is good."""

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        _check_memory()
        try:
            found = super().load_overload(signature, target_context)  # type: ignore[no-untyped-call]
        except MemoryError:
            raise
        except Exception:  # pickle raises whatever it meets
            found = None
            with suppress(OSError):
                self.flush()  # type: ignore[no-untyped-call]
        if found is None:
            for tell in on_compile:
                tell()
        return found

    def save_overload(self, signature: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(signature, data)  # type: ignore[no-untyped-call]


def _check_memory() -> None:
    try:
        mmap.mmap(-1, _ROOM).close()
    except OSError as exc:
        raise GgufpyError(
            f"the encoders need {_ROOM >> 20} MiB of free memory to be compiled; "
            "raise `ulimit -v`, or end other programs"
        ) from exc
