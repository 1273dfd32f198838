"""The engine: token ids in, logits or sampled ids out. It knows nothing of text."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ggufpy._kernels import ffi, lib
from ggufpy.architectures import architecture
from ggufpy.errors import GgufpyError, UnsupportedModelError
from ggufpy.gguf.memory import advise_huge_pages
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.types import GGMLType
from ggufpy.graph import Graph, Outputs
from ggufpy.runtime.background import run_interruptibly
from ggufpy.runtime.cpu import apply_isa_setting, default_threads
from ggufpy.runtime.passes import PASSES, Pass
from ggufpy.runtime.plan import make_plan
from ggufpy.runtime.program import PRECISIONS, Program
from ggufpy.runtime.state import Sequence, States, cache_type

Wanted = Literal["none", "last", "all"]

# A prompt of fewer tokens is faster computed as generated ones are, with every type and CPU measured.
FEW_TOKENS = 32
_Slice = tuple[int, int, int]  # a span's number, and its tokens from .. to


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
        self,
        file: GGUFFile,
        n_ctx: int,
        n_seq: int,
        n_threads: int,
        n_batch: int,
        precision: str,
        cache_types: tuple[GGMLType, GGMLType],
        passes: Items[Pass] = PASSES,
    ) -> None:
        apply_isa_setting()
        graph, outputs = trace(file)
        self.n_ctx = n_ctx or graph.keys.integer("context_length")
        self.n_threads, self.n_batch = n_threads, min(n_batch, self.n_ctx)
        self.n_vocab = outputs["logits"].width
        plan = make_plan(graph, {"logits": outputs["logits"]}, passes)
        self._states = States(plan.nodes, cache_types, n_ctx=self.n_ctx, n_seq=n_seq, n_batch=self.n_batch)
        self.linears = tuple(plan.linears())
        self._program = Program(
            plan,
            file.tensors,
            self._states,
            max_rows=self.n_batch,
            n_threads=n_threads,
            precision=precision,
        )
        self.n_embeddings = file.tensors["token_embd.weight"].shape[0]
        self._abort = ffi.new("int32_t *")
        self._lock = threading.Lock()
        # The span of each row of logits: of those that the last batch left in the program, and, with the
        # rows, of those of earlier batches of the same call.
        self._places: list[int] = []
        self._earlier: list[tuple[list[int], NDArray[np.float32]]] = []

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
        type_k: str | int | None = None,
        type_v: str | int | None = None,
        huge_pages: bool = True,
    ) -> Engine:
        """Make the model in `file` ready to run; its weights are used where they lie.

        n_ctx: positions per sequence, None for the model's own; n_seq: sequences that the cache has room for;
        n_batch: rows computed together; precision: "fast", "exact" or "int8"; type_k, type_v: what the KV
        cache keeps, "f32", "f16", "bf16", "q8_0", "q4_0" or ggml's number, None for f16 (f32 if exact);
        huge_pages: ask for them for weights that the system has yet to read from the disk.
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
        default = GGMLType.F32 if precision == "exact" else GGMLType.F16
        types = cache_type(type_k, default), cache_type(type_v, default)
        if huge_pages:
            advise_huge_pages(file)
        return cls(file, n_ctx or 0, n_seq, n_threads or default_threads(), n_batch, precision, types)

    def bytes_read(self, position: int) -> int:
        """Bytes of state that a token at `position` reads."""
        return self._states.bytes_read(position)

    def new_sequence(self) -> Sequence:
        """An empty sequence; close it to give its state back."""
        return self._states.new_sequence()

    def eval(
        self, sequence: Sequence, tokens: Items[int], *, generating: bool = False, logits: Wanted = "last"
    ) -> None:
        """Append `tokens` to `sequence` and compute the logits wanted: of none, the last or all of them.

        Raises ContextError if they do not fit (nothing is changed then), ValueError for unknown ids.
        After KeyboardInterrupt the sequence ends with the last whole batch.
        """
        self.eval_batch([Span(sequence, tokens, generating, logits)])

    def eval_batch(self, spans: Items[Span]) -> None:
        """Like `eval` for several sequences at once; logits are in the order of `spans`.

        Raises ValueError for a sequence that is there twice or is of another engine.
        """
        with self._lock:
            self._check(spans)
            self._earlier, self._places = [], []
            try:
                for span in spans:
                    span.sequence.reserve(len(span.tokens))
                for slices in _batches(spans, self.n_batch):
                    self._keep_logits()
                    self._run(spans, slices)
            except BaseException:
                for span in spans:
                    span.sequence.undo()
                raise

    def _check(self, spans: Items[Span]) -> None:
        if len({id(span.sequence) for span in spans}) < len(spans):
            raise ValueError("a sequence is there twice; put its tokens into one span")
        for span in spans:
            if span.sequence.owner is not self._states:
                raise ValueError("a sequence is of another engine; make it with this one's new_sequence()")
            bad = [t for t in span.tokens if not 0 <= t < self.n_embeddings]
            if bad:
                raise ValueError(f"token {bad[0]} is not in the vocabulary of {self.n_embeddings}")

    def _run(self, spans: Items[Span], slices: list[_Slice]) -> None:
        """Run one batch and note which rows of logits it left."""
        columns: dict[str, list[int]] = {
            name: [] for name in ("token", "place", "sequence", "first_row", "out_row")
        }
        places = []
        for number, (i, start, stop) in enumerate(slices):
            span, n = spans[i], stop - start
            span.sequence.begin(n)
            wanted = _wanted_rows(span, start, stop)
            columns["first_row"].append(len(columns["token"]))
            columns["out_row"] += [len(columns["token"]) + row for row in wanted]
            columns["token"] += span.tokens[start:stop]
            columns["place"] += range(span.sequence.length, span.sequence.length + n)
            columns["sequence"] += [number] * n
            places += [i] * len(wanted)
        columns["first_row"].append(len(columns["token"]))
        # Of a prompt one row of logits is wanted, or all: one alone is not worth the work for many.
        prompts = [(spans[i], stop - start) for i, start, stop in slices if not spans[i].generating]
        n_wide = sum(n for _, n in prompts), sum(n for span, n in prompts if span.logits == "all")
        self._call(columns, [spans[i].sequence for i, *_ in slices], *n_wide)
        for i, start, stop in slices:
            spans[i].sequence.commit(stop - start, mark=not spans[i].generating)
        self._places = places

    def _call(
        self, columns: dict[str, list[int]], sequences: Items[Sequence], n_prompt: int, n_out_wide: int
    ) -> None:
        """Run the program; a prompt runs on another thread, so that Ctrl-C is seen and ends it."""
        arrays = {name: np.array(values, np.int32) for name, values in columns.items()}
        arrays["angle"] = np.tile(arrays["place"], 4)
        batch = ffi.new("gg_batch *")
        batch.n_rows, batch.n_out = len(columns["token"]), len(columns["out_row"])
        batch.n_prompt, batch.n_out_wide, batch.n_sequences = n_prompt, n_out_wide, len(sequences)
        for name, array in arrays.items():
            setattr(batch, name, ffi.from_buffer("int32_t[]", array))
        states, kept = self._states.columns(sequences)
        batch.states, batch.n_states = states, len(self._states)
        self._abort[0] = 0

        def run() -> int:
            # These are named for their lives: the batch points into them.
            _ = arrays, states, kept
            return lib.gg_run(self._program.record, batch, self.n_threads, self._abort)

        status = run() if batch.n_rows <= 1 else run_interruptibly(run, self._stop)
        assert status == 0, f"gg_run: {status}"

    def _stop(self) -> None:
        self._abort[0] = 1

    def _keep_logits(self) -> None:
        """Copy the rows that the next batch would overwrite."""
        if self._places:
            self._earlier.append((self._places, self._program.outputs["logits"][: len(self._places)].copy()))
            self._places = []

    def logits(self) -> NDArray[np.float32]:
        """The logits that the last `eval` was asked for: (rows, n_vocab), a copy."""
        parts = [*self._earlier, (self._places, self._program.outputs["logits"][: len(self._places)])]
        places = [place for part, _ in parts for place in part]
        rows = np.concatenate([rows for _, rows in parts])
        if places == sorted(places):
            return rows
        return rows[np.argsort(places, kind="stable")]

    def last_row(self) -> NDArray[np.float32]:
        """The last of `logits()`, without a copy: good until the next `eval`."""
        parts = [*self._earlier, (self._places, self._program.outputs["logits"])]
        places = [
            (place, part, row) for part, (rows, _) in enumerate(parts) for row, place in enumerate(rows)
        ]
        if not places:
            raise GgufpyError("there are no logits to sample from; eval some tokens first")
        _, part, row = max(places)
        last: NDArray[np.float32] = parts[part][1][row]
        return last


def _batches(spans: Items[Span], n_batch: int) -> Iterator[list[_Slice]]:
    """Cut the tokens of all spans into batches.

    Rows that are computed together come first: those of prompts, and of these the ones with all logits.
    """
    slices: list[_Slice] = []
    room = n_batch
    for i in sorted(range(len(spans)), key=lambda i: (spans[i].generating, spans[i].logits != "all")):
        start, end = 0, len(spans[i].tokens)
        while start < end:
            stop = min(end, start + room)
            slices.append((i, start, stop))
            room -= stop - start
            start = stop
            if room == 0:
                yield slices
                slices, room = [], n_batch
    if slices:
        yield slices


def _wanted_rows(span: Span, start: int, stop: int) -> range:
    """Rows of tokens start..stop whose logits are wanted, counted from `start`."""
    if span.logits == "all":
        return range(stop - start)
    is_end = span.logits == "last" and stop == len(span.tokens)
    return range(stop - start - 1, stop - start) if is_end else range(0)


def trace(file: GGUFFile) -> tuple[Graph, Outputs]:
    """The network of a file, all of whose tensors and keys it uses.

    Raises FormatError or UnsupportedModelError for a file that is incomplete or that ggufpy cannot run.
    """
    try:
        network = architecture(str(file.metadata.get("general.architecture")))
    except UnsupportedModelError as exc:
        raise UnsupportedModelError(f"{file.path}: {exc}") from None
    graph = Graph.trace(file.metadata, file.tensors, str(file.path))
    outputs = network.forward(graph)
    graph.check_all_used()
    return graph, outputs
