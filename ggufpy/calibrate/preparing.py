"""Methods that make a float model into another one that computes the same, and is easier to round."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ggufpy.calibrate.awq import awq
from ggufpy.calibrate.fold_inputs import mean_error
from ggufpy.calibrate.folded_file import folded
from ggufpy.calibrate.methods import FOLDING, alpha_of
from ggufpy.calibrate.smoothquant import smoothquant
from ggufpy.calibrate.squares import SquaresOfLinears
from ggufpy.calibrate.turning import turned
from ggufpy.errors import FormatError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.types import GGMLType
from ggufpy.graph.nodes import Route
from ggufpy.quants.choice.imatrix_file import Squares
from ggufpy.runtime.engine import trace

# A bar for what is named: told how much is done, and of how much.
Counted = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]


def prepared(
    path: Path,
    methods: Sequence[str],
    types: Mapping[str, GGMLType],
    chunks: Sequence[list[int]],
    folder: Path,
    *,
    n_threads: int,
    counted: Counted,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """The model as `methods` of FOLDING leave it, one after the other: a file in `folder`, or `path` itself.

    types: what tensors will be rounded to, if to blocks. chunks: contexts of tokens, all of one length.
    counted: gives bars. say: is told what was left out, as it would not help. An importance matrix of `path`
    is none of the result: gather it anew. Raises FormatError for other names, UnsupportedModelError for
    networks whose layers do not run by themselves, or that a method is not for, GgufpyError for linears that
    read NaN.
    """
    blocks = {name: type for name, type in types.items() if type.block_size > 1}
    work = _Work(blocks, chunks, n_threads, counted, say)
    made: Path | None = None
    for number, step in enumerate([_named(name) for name in methods]):
        before, found = made, step(work, made or path, folder / f"prepared-{number}.gguf")
        made = found or made
        if found and before:
            before.unlink()
    return made or path


@dataclass(frozen=True, slots=True)
class _Work:
    """What steps have in common: the arguments of `prepared`."""

    blocks: Mapping[str, GGMLType]
    chunks: Sequence[list[int]]
    n_threads: int
    counted: Counted
    say: Callable[[str], None]

    def rotate(self, path: Path, out: Path) -> Path | None:
        """Kept if linears err less for it: with channels that differ much, what is turned may be worse."""
        with self.counted("rotate") as show:
            turned(path, self.blocks, out, show)
        before, after = (self._error(each) for each in (path, out))
        if after < before:
            return out
        out.unlink()
        self.say(f"rotate is left out: linears would err by {after:.3g} instead of {before:.3g}")
        return None

    def scaled(self, path: Path, out: Path, *, name: str, alpha: float | None) -> Path | None:
        """By scales of channels, if there are any that help."""
        method = awq if name == "awq" else partial(smoothquant, alpha=alpha)
        with GGUFFile.open(path) as file, self.counted(name) as show:
            squares = self._squares(file)
            scales = method(file, self.blocks, self.chunks, squares, n_threads=self.n_threads, on_layer=show)
        return folded(path, scales, out) if scales else None

    def _error(self, path: Path) -> float:
        with GGUFFile.open(path) as file, self.counted("error") as show:
            arguments = (file, self.blocks, self.chunks, self._squares(file))
            return mean_error(*arguments, n_threads=self.n_threads, on_layer=show)

    def _squares(self, file: GGUFFile) -> dict[str, Squares]:
        """Of what linears read, where experts make a difference."""
        if not any(isinstance(node, Route) for node in trace(file)[0].nodes):
            return {}
        sums = SquaresOfLinears(file, len(self.chunks[0]), n_threads=self.n_threads, precision="fast")
        sums.read(self.chunks)
        return sums.entries()


_Step = Callable[[_Work, Path, Path], Path | None]


def _named(text: str) -> _Step:
    """What a method does; its file, or None where there is nothing to do."""
    name, _, value = text.partition("=")
    if name not in FOLDING or (value and name != "smoothquant"):
        raise FormatError(f"method {text!r:.40} does not fold; those that do are {', '.join(FOLDING)}")
    if name == "rotate":
        return _Work.rotate
    return partial(_Work.scaled, name=name, alpha=alpha_of(text))
