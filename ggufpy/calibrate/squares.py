"""Mean squares of what each linear reads: the importance of its columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ggufpy.errors import GgufpyError, UnsupportedModelError
from ggufpy.gguf.cursor import quoted
from ggufpy.gguf.reader import GGUFFile
from ggufpy.quants.choice.imatrix_file import Squares
from ggufpy.runtime.engine import Engine, Span, trace
from ggufpy.runtime.passes import squares_tapped


class SquaresOfLinears:
    """Reads chunks of tokens, and sums the squares of what the model's linears read meanwhile."""

    def __init__(self, file: GGUFFile, chunk_size: int, *, n_threads: int | None, precision: str) -> None:
        """Raises as `Engine.load`, also for models that only embed. chunk_size: most tokens of a chunk."""
        if "logits" not in trace(file)[1]:
            problem = "embeds texts, and what linears read is measured of models that write them"
            raise UnsupportedModelError(f"{file.path}: {problem}; quantize it without")
        self._path = file.path
        self.engine = Engine.load(
            file,
            n_ctx=chunk_size,
            n_threads=n_threads,
            n_batch=min(chunk_size, 512),
            precision=precision,
            tap=squares_tapped,
        )

    def read(self, chunks: Sequence[list[int]], on_chunk: Callable[[int], None] | None = None) -> None:
        """Read chunks, each from an empty context; on_chunk is told how many are done."""
        for done, chunk in enumerate(chunks, 1):
            sequence = self.engine.new_sequence()
            try:
                self.engine.step([Span(sequence, chunk, logits="none")])
            finally:
                sequence.close()
            if on_chunk is not None:
                on_chunk(done)

    def entries(self, *, output: bool = False) -> dict[str, Squares]:
        """The sums so far, of the linears of layers; output: of the one that makes logits, too.

        A linear that no token has reached has none; experts that none has reached have a count of 0. Raises
        GgufpyError for NaN, Inf and what is close to that.
        """
        taps = {
            name: tap
            for name, tap in self.engine.taps.items()
            if (output or name.startswith("blk.")) and tap.rows.any()
        }
        with np.errstate(over="ignore"):  # as problem() will say
            found = {
                name: Squares(tap.sums.astype(np.float32), tap.rows.astype(np.float32))
                for name, tap in taps.items()
            }
        for name, each in found.items():
            if problem := each.problem():
                what = f"{self._path}: the square of what {quoted(name)} reads {problem}"
                raise GgufpyError(f"{what}; the model is damaged: get or convert it again")
        return found


def unreached(entries: Mapping[str, Squares]) -> dict[str, tuple[int, int]]:
    """Tensors of experts of which no token has reached some: how many these are, and of how many."""
    missing = {name: int((each.counts == 0).sum()) for name, each in entries.items()}
    return {name: (count, len(entries[name].counts)) for name, count in missing.items() if count}
