"""The engine: token ids in, logits or sampled ids out. It knows nothing of text."""

from __future__ import annotations

from collections.abc import Sequence as Items
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ggufpy._kernels import ffi, lib
from ggufpy.architectures import Architecture, architecture
from ggufpy.errors import GgufpyError, UnsupportedModelError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.graph import Graph
from ggufpy.graph.hyperparameters import Hyperparameters
from ggufpy.graph.trace import Attention
from ggufpy.runtime.cache import F16, F32, PAGE, KVCache, LayerShape, Sequence
from ggufpy.runtime.cpu import apply_isa_setting, default_threads
from ggufpy.runtime.plan import make_plan
from ggufpy.runtime.program import PRECISIONS, Program
from ggufpy.runtime.sampler import Sampler

Wanted = Literal["none", "last", "all"]


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens to append to a sequence; generating: they were generated (int8 numerics under "fast")."""

    sequence: Sequence
    tokens: Items[int]
    generating: bool = False
    logits: Wanted = "last"


class Engine:
    """Runs one model for any number of sequences."""

    def __init__(
        self, file: GGUFFile, n_ctx: int, n_seq: int, n_threads: int, n_batch: int, precision: str
    ) -> None:
        apply_isa_setting()
        source = str(file.path)
        network = _find_architecture(file)
        h = Hyperparameters.read(file.metadata, source)
        graph = Graph(h, file.tensors, source)
        output = network.forward(graph)
        _check_all_used(graph, file)
        self.n_vocab, self.n_embd = output.width, h.embedding_length
        self.n_ctx = n_ctx or h.context_length
        self.n_threads, self.n_batch = n_threads, min(n_batch, self.n_ctx)
        layers = [
            LayerShape(node.kv_heads, node.key_length, node.value_length)
            for node in graph.nodes
            if isinstance(node, Attention)
        ]
        self._cache = KVCache(layers, n_seq * -(-self.n_ctx // PAGE), F32 if precision == "exact" else F16)
        self._program = Program(
            make_plan(graph, output),
            file.tensors,
            self._cache,
            max_rows=self.n_batch,
            n_threads=n_threads,
            precision=precision,
        )
        self._n_tokens = file.tensors["token_embd.weight"].shape[0]
        self._abort = ffi.new("int32_t *")
        self._thread = ThreadPoolExecutor(1, "ggufpy-eval")
        self._n_out = 0  # rows of logits that the last batch left in the program
        self._earlier: list[NDArray[np.float32]] = []  # logits of earlier batches of the same call

    @classmethod
    def load(
        cls,
        file: GGUFFile,
        *,
        n_ctx: int | None = None,
        n_seq: int = 1,
        n_threads: int | None = None,
        n_batch: int = 512,
        precision: str = "fast",
    ) -> Engine:
        """Make the model in `file` ready to run; its weights are used where they lie.

        n_ctx: positions per sequence, None for the model's own; n_seq: sequences that the cache has room for;
        n_batch: rows computed together; precision: "fast", "exact" or "int8".
        Raises FormatError or UnsupportedModelError for a file that is incomplete or that ggufpy cannot run.
        """
        if precision not in PRECISIONS:
            raise GgufpyError(f"precision is '{precision}', must be one of {', '.join(PRECISIONS)}")
        for name, value in {
            "n_ctx": n_ctx,
            "n_seq": n_seq,
            "n_threads": n_threads,
            "n_batch": n_batch,
        }.items():
            if value is not None and value < 1:
                raise GgufpyError(f"{name} is {value}, must be at least 1")
        return cls(file, n_ctx or 0, n_seq, n_threads or default_threads(), n_batch, precision)

    def new_sequence(self) -> Sequence:
        """An empty sequence; close it to give its pages back."""
        return Sequence(self._cache, self.n_ctx)

    def eval(
        self, sequence: Sequence, tokens: Items[int], *, generating: bool = False, logits: Wanted = "last"
    ) -> None:
        """Append `tokens` to `sequence` and compute the logits wanted: of none, the last or all of them.

        Raises ContextError if they do not fit (nothing is changed then), ValueError for unknown ids.
        After KeyboardInterrupt the sequence ends with the last whole batch.
        """
        self.eval_batch([Span(sequence, tokens, generating, logits)])

    def eval_batch(self, spans: Items[Span]) -> None:
        """Like `eval` for several sequences at once; logits are in the order of `spans`."""
        for span in spans:
            self._check(span)
        for span in spans:
            span.sequence.reserve(len(span.tokens))
        self._earlier, self._n_out = [], 0
        # Rows of prompts come first in every batch: they are computed together.
        order = sorted(range(len(spans)), key=lambda i: spans[i].generating)
        rows = [(i, j) for i in order for j in range(len(spans[i].tokens))]
        places: list[tuple[int, int]] = []
        for start in range(0, len(rows), self.n_batch):
            if self._n_out:
                self._earlier.append(self._program.logits[: self._n_out].copy())
            places += self._run(spans, rows[start : start + self.n_batch])
        if places != sorted(places):
            everything = self.logits()
            self._earlier = [everything[sorted(range(len(places)), key=lambda i: places[i])]]
            self._n_out = 0

    def _check(self, span: Span) -> None:
        bad = [t for t in span.tokens if not 0 <= t < self._n_tokens]
        if bad:
            raise ValueError(f"token {bad[0]} is not in the vocabulary of {self._n_tokens}")

    def _run(self, spans: Items[Span], rows: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Run one batch of (span, index of token) rows; return the rows whose logits were computed."""
        used = sorted({i for i, _ in rows})
        wanted = [
            (r, row)
            for r, row in enumerate(rows)
            if spans[row[0]].logits == "all"
            or (spans[row[0]].logits == "last" and row[1] == len(spans[row[0]].tokens) - 1)
        ]
        first_page = np.cumsum([0, *(len(spans[i].sequence.pages) for i in used)])
        starts = {i: spans[i].sequence.length for i in used}
        begins = (
            {i: min(j for k, j in rows if k == i) for i in used}
            if len(rows) > 1
            else {rows[0][0]: rows[0][1]}
        )
        arrays = {
            "token": [spans[i].tokens[j] for i, j in rows],
            "position": [starts[i] + j - begins[i] for i, j in rows],
            "sequence": [used.index(i) for i, _ in rows],
            "out_row": [r for r, _ in wanted],
            "page": [page for i in used for page in spans[i].sequence.pages],
            "first_page": first_page[:-1],
        }
        batch = ffi.new("gg_batch *")
        batch.n_rows, batch.n_out = len(rows), len(wanted)
        batch.n_prompt = sum(not spans[i].generating for i, _ in rows)
        kept = {name: np.ascontiguousarray(values, np.int32) for name, values in arrays.items()}
        for name, array in kept.items():
            setattr(batch, name, ffi.from_buffer("int32_t[]", array))
        self._call(batch, len(rows))
        for i in used:
            spans[i].sequence.length += sum(k == i for k, _ in rows)
        self._n_out = len(wanted)
        return [row for _, row in wanted]

    def _call(self, batch: Any, n_rows: int) -> None:
        """Run the program; a long batch runs on another thread, so that Ctrl-C is seen and ends it."""
        arguments = (self._program.record, batch, self.n_threads, self._abort)
        if n_rows <= PAGE:
            lib.gg_run(*arguments)
            return
        self._abort[0] = 0
        running = self._thread.submit(lib.gg_run, *arguments)
        try:
            running.result()
        except KeyboardInterrupt:
            self._abort[0] = 1
            running.result()
            raise
        finally:
            self._abort[0] = 0

    def logits(self) -> NDArray[np.float32]:
        """The logits that the last `eval` was asked for: (rows, n_vocab), a copy."""
        return np.concatenate([*self._earlier, self._program.logits[: self._n_out]])

    def sample(self, sampler: Sampler) -> int:
        """Draw a token from the last row of logits, and note it in the sampler's history."""
        if self._n_out == 0:
            raise GgufpyError("there are no logits to sample from; eval some tokens first")
        return sampler.draw(ffi.from_buffer("float[]", self._program.logits[self._n_out - 1]), self.n_vocab)


def _find_architecture(file: GGUFFile) -> Architecture:
    name = file.metadata.get("general.architecture")
    try:
        return architecture(str(name))
    except UnsupportedModelError as exc:
        raise UnsupportedModelError(f"{file.path}: {exc}") from None


def _check_all_used(graph: Graph, file: GGUFFile) -> None:
    unused = [name for name in file.tensors if name not in graph.used]
    if unused:
        architecture = graph.hyperparameters.architecture
        raise UnsupportedModelError(
            f"{file.path}: {len(unused)} tensors have no place in architecture '{architecture}', "
            f"the first is '{unused[0]}'"
        )
