"""The engine: token ids in, logits or sampled ids out. It knows nothing of text."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ggufpy._kernels import ffi, lib
from ggufpy.architectures import Architecture, architecture
from ggufpy.errors import GgufpyError, UnsupportedModelError
from ggufpy.gguf.memory import advise_huge_pages
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.types import GGMLType
from ggufpy.graph import Graph
from ggufpy.graph.hyperparameters import Hyperparameters
from ggufpy.graph.trace import Attention
from ggufpy.runtime.background import run_interruptibly
from ggufpy.runtime.cache import PAGE, KVCache, LayerShape, Sequence, cache_type
from ggufpy.runtime.cpu import apply_isa_setting, default_threads
from ggufpy.runtime.plan import make_plan
from ggufpy.runtime.program import PRECISIONS, Program
from ggufpy.runtime.result import Result

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
        self._cache = KVCache(layers, n_seq * -(-self.n_ctx // PAGE), *cache_types)
        plan = make_plan(graph, output)
        self.linears = tuple(plan.linears())
        self._program = Program(
            plan,
            file.tensors,
            self._cache,
            max_rows=self.n_batch,
            n_threads=n_threads,
            precision=precision,
        )
        self.n_embeddings = file.tensors["token_embd.weight"].shape[0]
        self._abort = ffi.new("int32_t *")
        self._lock = threading.Lock()

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

    @property
    def token_bytes(self) -> int:
        """Bytes of the KV cache that one token takes."""
        return self._cache.token_bytes

    def new_sequence(self) -> Sequence:
        """An empty sequence; close it to give its pages back."""
        return Sequence(self._cache, self.n_ctx)

    def step(self, spans: Items[Span]) -> Result:
        """Append the tokens of each span to its sequence, and compute the logits wanted of it.

        Any mixture of prompts and generated tokens goes; they are computed in batches of n_batch. Threads
        take turns, as the program's memory and the cache are for one step at a time.
        Raises ContextError if they do not fit (nothing is changed then), ValueError for unknown ids and for a
        sequence that is there twice or is of another engine. After KeyboardInterrupt the sequences end with
        the last whole batch.
        """
        result = Result(len(spans), self.n_vocab)
        with self._lock:
            self._check(spans)
            try:
                for span in spans:
                    span.sequence.reserve(len(span.tokens))
                for slices in _batches(spans, self.n_batch):
                    result.add(self._run(spans, slices), self._program.logits)
            except BaseException:
                for span in spans:
                    span.sequence.truncate(span.sequence.length)  # gives back what was reserved in vain
                raise
        return result

    def _check(self, spans: Items[Span]) -> None:
        if len({id(span.sequence) for span in spans}) < len(spans):
            raise ValueError("a sequence is there twice; put its tokens into one span")
        for span in spans:
            if span.sequence.cache is not self._cache:
                raise ValueError("a sequence is of another engine; make it with this one's new_sequence()")
            bad = [t for t in span.tokens if not 0 <= t < self.n_embeddings]
            if bad:
                raise ValueError(f"token {bad[0]} is not in the vocabulary of {self.n_embeddings}")

    def _run(self, spans: Items[Span], slices: list[_Slice]) -> list[int]:
        """Run one batch; returns the span of each row of logits that it left."""
        columns: dict[str, list[int]] = {
            name: [] for name in ("token", "position", "sequence", "out_row", "page", "first_page")
        }
        places = []
        for number, (i, start, stop) in enumerate(slices):
            span, n = spans[i], stop - start
            wanted = _wanted_rows(span, start, stop)
            columns["out_row"] += [len(columns["token"]) + row for row in wanted]
            columns["token"] += span.tokens[start:stop]
            columns["position"] += range(span.sequence.length, span.sequence.length + n)
            columns["sequence"] += [number] * n
            columns["first_page"].append(len(columns["page"]))
            columns["page"] += span.sequence.pages
            places += [i] * len(wanted)
        # Of a prompt one row of logits is wanted, or all: one alone is not worth the work for many.
        prompts = [(spans[i], stop - start) for i, start, stop in slices if not spans[i].generating]
        n_wide = sum(n for _, n in prompts), sum(n for span, n in prompts if span.logits == "all")
        self._call(columns, *n_wide)
        for i, start, stop in slices:
            spans[i].sequence.length += stop - start
        return places

    def _call(self, columns: dict[str, list[int]], n_prompt: int, n_out_wide: int) -> None:
        """Run the program; a prompt runs on another thread, so that Ctrl-C is seen and ends it."""
        arrays = {name: np.array(values, np.int32) for name, values in columns.items()}
        batch = ffi.new("gg_batch *")
        batch.n_rows, batch.n_out = len(columns["token"]), len(columns["out_row"])
        batch.n_prompt, batch.n_out_wide = n_prompt, n_out_wide
        for name, array in arrays.items():
            setattr(batch, name, ffi.from_buffer("int32_t[]", array))
        self._abort[0] = 0

        def run() -> int:
            # `arrays` is named for its life: the batch points into it.
            return lib.gg_run(self._program.record, batch, self.n_threads, self._abort) if arrays else 0

        status = run() if batch.n_rows <= 1 else run_interruptibly(run, self._stop)
        assert status == 0, f"gg_run: {status}"

    def _stop(self) -> None:
        self._abort[0] = 1


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
