"""The engine: token ids in, logits or sampled ids out. It knows nothing of text."""

from __future__ import annotations

import math
import os
from collections import ChainMap
from collections.abc import Mapping
from collections.abc import Sequence as Items
from types import MappingProxyType
from typing import Any, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from ggufpy._kernels import ffi, lib
from ggufpy.architectures import architecture
from ggufpy.background import wait_for
from ggufpy.errors import ContextError, GgufpyError, UnsupportedModelError
from ggufpy.gguf.memory import advise_huge_pages
from ggufpy.gguf.reader import GGUFFile, TensorInfo
from ggufpy.gguf.types import GGMLType
from ggufpy.graph import Graph, Outputs, Value
from ggufpy.graph.nodes import Attention, Embed, Pool
from ggufpy.runtime.batch import Batch, Slice, Span, Wanted, cut
from ggufpy.runtime.cpu import MOST_THREADS, apply_isa_setting, default_threads
from ggufpy.runtime.locks import ForkableLock
from ggufpy.runtime.passes import PASSES, UNSELECTIVE, Pass
from ggufpy.runtime.plan import Plan, make_plan
from ggufpy.runtime.program import PRECISIONS, Program
from ggufpy.runtime.result import Result
from ggufpy.runtime.state import Sequence, States, cache_type

__all__ = ["FEW_TOKENS", "Engine", "Span", "Wanted", "trace"]

# A prompt of fewer tokens is faster computed as generated ones are, with every type and CPU measured.
FEW_TOKENS = 32


class Engine:
    """Runs one model for any number of sequences.

    one_regime: whether tokens of prompts are computed bit for bit as generated ones are. taps: what linears
    have read since, by their tensors, where the engine was loaded for that.
    """

    def __init__(
        self,
        file: GGUFFile,
        plan: Plan,
        *,
        n_ctx: int,
        n_seq: int,
        n_threads: int,
        n_batch: int,
        precision: str,
        cache_types: tuple[GGMLType, GGMLType],
        tensors: Mapping[str, TensorInfo] | None = None,
    ) -> None:
        """Make a plan ready to run, of a network of `file`; tensors: where they are not the file's."""
        apply_isa_setting()
        self._file = file
        self.n_ctx, self.n_threads, self.n_batch = n_ctx, n_threads, min(n_batch, n_ctx)
        self._states = States(plan.nodes, cache_types, n_ctx=self.n_ctx, n_seq=n_seq, n_batch=self.n_batch)
        self.linears = tuple(plan.linears())
        program = Program(
            plan,
            tensors or file.tensors,
            self._states,
            max_rows=self.n_batch,
            n_threads=n_threads,
            precision=precision,
        )
        self._program: Program | None = program
        self.taps = program.taps
        self.one_regime = precision != "fast"
        self._widths = {name: rows.shape[1] for name, rows in program.outputs.items()}
        # A text whose tokens see later ones, or of which there is one row, cannot be cut.
        self._whole_texts = any(
            isinstance(node, Pool) or (isinstance(node, Attention) and not node.causal) for node in plan.nodes
        )
        self.n_vocab = self._widths.get("logits", 0)
        self.n_embeddings, self._width = file.tensors["token_embd.weight"].shape
        self._lock = ForkableLock()
        self._at_work_in: int | None = None  # the process

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
        outputs: Items[str] = ("logits",),
        changes: Mapping[str, Any] = MappingProxyType({}),
        tap: Pass | None = None,
    ) -> Engine:
        """Make the model in `file` ready to run; its weights are used where they lie.

        n_ctx: positions per sequence, None for the model's own; n_seq: sequences that the cache has room for;
        n_threads: None or 0 for one per physical core; n_batch: rows computed together; precision: "fast",
        "exact" or "int8"; type_k, type_v: what the KV cache keeps, "f32", "f16", "bf16", "q8_0", "q4_0" or
        ggml's number, None for f16 (f32 if exact); huge_pages: ask for them for weights that the system has
        yet to read from the disk; outputs: what a step computes, of what the architecture can give ("logits",
        "embeddings"); changes: keys of the architecture, without its prefix, for the file's; tap: sums
        what linears read, in place of outputs (of passes.py).
        Raises FormatError or UnsupportedModelError for a file that is incomplete or that ggufpy cannot run.
        """
        if precision not in PRECISIONS:
            raise GgufpyError(f"precision is '{precision}', must be one of {', '.join(PRECISIONS)}")
        for name, value, most in (
            ("n_ctx", n_ctx, 2**31 - 1),
            ("n_seq", n_seq, 2**31 - 1),
            ("n_threads", n_threads or None, MOST_THREADS),
            ("n_batch", n_batch, 2**31 - 1),
        ):
            if value is not None and not 1 <= value <= most:
                raise GgufpyError(f"{name} is {value}, must be from 1 to {most}")
        default = GGMLType.F32 if precision == "exact" else GGMLType.F16
        types = cache_type(type_k, default), cache_type(type_v, default)
        if huge_pages:
            advise_huge_pages(file)
        threads = n_threads or default_threads()
        graph, found = trace(file, changes, n_ctx or 0)
        results = {name: _output(found, name, file) for name in outputs}
        plan = make_plan(graph.nodes, results, PASSES if tap is None else UNSELECTIVE, tap)
        return cls(
            file,
            plan,
            n_ctx=_context(graph, file, n_ctx or 0, grows="logits" in outputs),
            n_seq=n_seq,
            n_threads=threads,
            n_batch=n_batch,
            precision=precision,
            cache_types=types,
        )

    def bytes_read(self, position: int) -> int:
        """Bytes of state that a token at `position` reads."""
        return self._states.bytes_read(position)

    def new_sequence(self) -> Sequence:
        """An empty sequence; close it to give its state back."""
        return self._states.new_sequence()

    def step(self, spans: Items[Span]) -> Result:
        """Append the tokens of each span to its sequence, and compute what is wanted of it.

        Any mixture of prompts and generated tokens goes; they are computed in batches of n_batch. Threads
        take turns, as the program's memory and the cache are for one step at a time.
        Raises ContextError if they do not fit (nothing is changed then), ValueError for unknown ids, inputs
        of another width, and for a sequence that is there twice or is of another engine, FormatError if the
        model's file has changed. After what a signal handler raises, KeyboardInterrupt among it, the work has
        ended, and the sequences with the last whole batch.
        """
        result = Result(len(spans), self._widths)
        with self._lock:
            if self._at_work_in == os.getpid():
                raise GgufpyError("the model is at work: a signal handler cannot use what it interrupts")
            self._check(spans)
            try:
                self._at_work_in = os.getpid()
                for span in spans:
                    span.sequence.reserve(len(span.tokens))
                for slices in cut(spans, self.n_batch, whole=self._whole_texts):
                    self._run(spans, slices, result)
            except BaseException:
                for span in spans:
                    span.sequence.undo()
                raise
            finally:
                self._at_work_in = None
        return result

    def close(self) -> None:
        """Let go of the weights, once a step at work has ended; further ones raise GgufpyError."""
        with self._lock:
            self._program = None

    def __reduce__(self) -> NoReturn:
        raise TypeError("an engine cannot be copied or pickled; load another one from the file")

    def _check(self, spans: Items[Span]) -> None:
        if len({id(span.sequence) for span in spans}) < len(spans):
            raise ValueError("a sequence is there twice; put its tokens into one span")
        for span in spans:
            if span.sequence.owner is not self._states:
                raise ValueError("a sequence is of another engine; make it with this one's new_sequence()")
            n = len(span.tokens)
            if span.inputs is not None:
                if span.inputs.shape != (n, self._width):
                    raise ValueError(f"inputs have shape {span.inputs.shape}, must have {(n, self._width)}")
            elif bad := [t for t in span.tokens if not 0 <= t < self.n_embeddings]:
                raise ValueError(f"token {bad[0]} is not in the vocabulary of {self.n_embeddings}")
            if span.angles is not None and span.angles.shape != (4, n):
                raise ValueError(f"angles have shape {span.angles.shape}, must have {(4, n)}")
            if self._whole_texts and (n > self.n_batch or span.sequence.length):
                raise ContextError(
                    f"a text of {span.sequence.length + n} tokens must be in one batch, which holds "
                    f"{self.n_batch}; open the model with a larger n_batch"
                )

    def _run(self, spans: Items[Span], slices: Items[Slice], result: Result) -> None:
        """Run one batch; a prompt runs on another thread, so that signals are seen and end it."""
        for i, start, stop in slices:
            spans[i].sequence.begin(stop - start)
        batch, program = Batch(spans, slices, self._states, self._width), self._opened()
        call = ffi.new("gg_call *")

        def run() -> None:
            lib.gg_run(program.record, batch.record, self.n_threads, call)

        try:
            if batch.record.n_rows <= 1:
                run()
            else:
                wait_for(run)
        finally:
            # Whatever a signal handler has raised: nothing is called before this, and it waits for the end.
            lib.gg_end(call)
        if call.status:
            raise RuntimeError(f"gg_run: {call.status}")
        self._file.check()
        for i, start, stop in slices:
            spans[i].sequence.commit(stop - start, mark=not spans[i].generating)
        for name, rows in program.outputs.items():
            owners = batch.texts if program.rows[name] == "texts" else batch.wanted
            self._check_numbers(name, rows[: len(owners)])
            result.add(name, owners, rows)

    def _opened(self) -> Program:
        if self._program is None:
            raise GgufpyError(f"{self._file.path}: the model was closed; open it anew")
        return self._program

    def _check_numbers(self, name: str, rows: NDArray[np.float32]) -> None:
        if rows.size and not math.isfinite(rows.max()):  # NaN, if one is among them
            raise GgufpyError(
                f"{self._file.path}: the model gives {name} that are not numbers (NaN or infinite); its "
                "weights are damaged, or were before they were quantized: get or convert it again"
            )


def trace(
    file: GGUFFile, changes: Mapping[str, Any] = MappingProxyType({}), n_ctx: int = 0
) -> tuple[Graph, Outputs]:
    """The network of a file, all of whose tensors and keys it uses, with some keys changed.

    n_ctx: how long texts may be, 0 for as long as the model was made for.

    Raises FormatError or UnsupportedModelError for a file that is incomplete or that ggufpy cannot run.
    """
    name = str(file.metadata.get("general.architecture"))
    try:
        network = architecture(name)
    except UnsupportedModelError as exc:
        raise UnsupportedModelError(f"{file.path}: {exc}") from None
    changed = {f"{name}.{key}": value for key, value in changes.items()}
    metadata = ChainMap(changed, cast(dict[str, Any], file.metadata))  # which is read only
    graph = Graph.trace(metadata, file.tensors, str(file.path), n_ctx=n_ctx or None)
    outputs = network.forward(graph)
    graph.check_all_used()
    return graph, outputs


def _output(found: Outputs, name: str, file: GGUFFile) -> Value:
    if name not in found:
        remedy = ": ask ggufpy embed, or Llama(..., embedding=True)" if "embeddings" in found else ""
        problem = f"this model has no {name}; it gives {', '.join(found)}{remedy}"
        raise UnsupportedModelError(f"{file.path}: {problem}")
    return found[name]


def _context(graph: Graph, file: GGUFFile, wanted: int, *, grows: bool) -> int:
    """Positions of a sequence: those wanted, or as many as the model was made for.

    Where it has fewer, texts that grow are refused, and others are as long as these.
    """
    n_ctx = wanted or graph.keys.integer("context_length")
    for node in graph.nodes:
        if isinstance(node, Embed) and node.by == "place":
            rows = file.tensors[node.tensor].shape[0]
            if n_ctx > rows and grows:
                raise GgufpyError(
                    f"{file.path}: a context of {n_ctx} tokens, but the model has {rows} places"
                )
            n_ctx = min(n_ctx, rows)
    return n_ctx
