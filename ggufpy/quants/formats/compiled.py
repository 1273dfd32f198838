"""How the encoders are compiled: once per machine, for the host's own vector unit, without the GIL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile `function` on its first call, strictly as IEEE 754 has it, and keep the machine code on disk.

    numba keeps it beside the source, or in NUMBA_CACHE_DIR or the user's cache folder where that is
    read-only. Where nothing is writable, each process compiles for itself. numba does not notice a change to
    a function that this one calls from another file: after one, delete the `__pycache__` of `ggufpy/quants`.
    """
    try:
        result: Any = numba.njit(function, cache=True, nogil=True, error_model="numpy")
    except RuntimeError:
        result = numba.njit(function, nogil=True, error_model="numpy")
    return cast(Function, result)
