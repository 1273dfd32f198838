"""Methods that make a float model into another one that computes the same, and is easier to round."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Protocol

from ggufpy.calibrate.awq import awq
from ggufpy.calibrate.folded_file import folded
from ggufpy.calibrate.folding import Fold, Scales
from ggufpy.calibrate.smoothquant import smoothquant
from ggufpy.calibrate.squares import SquaresOfLinears
from ggufpy.errors import FormatError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.types import GGMLType
from ggufpy.graph.nodes import Route
from ggufpy.quants.choice.imatrix_file import Squares
from ggufpy.runtime.engine import trace

FOLDING = ("awq", "smoothquant")

# A bar on its way: told how many layers are done, and of how many.
Counted = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]


class _Method(Protocol):
    """Finds scales."""

    def __call__(
        self,
        file: GGUFFile,
        types: Mapping[str, GGMLType],
        chunks: Sequence[list[int]],
        squares: Mapping[str, Squares],
        *,
        n_threads: int,
        on_layer: Callable[[int, int], None],
    ) -> dict[Fold, Scales]: ...


def prepared(
    path: Path,
    methods: Sequence[str],
    types: Mapping[str, GGMLType],
    chunks: Sequence[list[int]],
    folder: Path,
    *,
    n_threads: int,
    counted: Counted,
) -> Path:
    """The model as `methods` of FOLDING leave it, one after the other: a file in `folder`, or `path` itself.

    types: the blocks that tensors will be rounded to. chunks: contexts of tokens, all of one length. counted:
    gives a bar for what is named. An importance matrix of `path` is none of the result: gather it anew.
    Raises FormatError for other names, UnsupportedModelError for networks whose layers do not run by
    themselves, GgufpyError for linears that read NaN.
    """
    made: Path | None = None
    for number, name in enumerate(methods):
        method = _named(name)
        with GGUFFile.open(made or path) as file, counted(name) as show:
            squares = _squares(file, chunks, n_threads)
            scales = method(file, types, chunks, squares, n_threads=n_threads, on_layer=show)
        if scales:
            before, made = made, folded(made or path, scales, folder / f"folded-{number}.gguf")
            if before is not None:
                before.unlink()
    return made or path


def _named(name: str) -> _Method:
    method, _, value = name.partition("=")
    if name == "awq":
        return awq
    if method != "smoothquant":
        raise FormatError(f"method {name!r:.40} does not fold; those that do are {', '.join(FOLDING)}")
    if value in ("", "auto"):
        return partial(smoothquant, alpha=None)
    try:
        alpha = float(value)
    except ValueError:
        alpha = -1
    if not 0 <= alpha <= 1:
        raise FormatError(f"method {name!r:.40}: give a number from 0 to 1, or auto")
    return partial(smoothquant, alpha=alpha)


def _squares(file: GGUFFile, chunks: Sequence[list[int]], n_threads: int) -> dict[str, Squares]:
    """Of what linears read, where experts make a difference."""
    if not any(isinstance(node, Route) for node in trace(file)[0].nodes):
        return {}
    sums = SquaresOfLinears(file, len(chunks[0]), n_threads=n_threads, precision="fast")
    sums.read(chunks)
    return sums.entries()
