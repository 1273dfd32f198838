"""Graphs that are no architecture's, planned and run; batches that can be spoilt before they are run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Items
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from random_llama import source

from ggufpy._kernels import ffi, lib
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.gguf.writer import write_gguf
from ggufpy.graph import Graph, Value
from ggufpy.runtime.engine import Span
from ggufpy.runtime.passes import PASSES, Pass
from ggufpy.runtime.plan import make_plan
from ggufpy.runtime.program import Program
from ggufpy.runtime.state import Sequence, States

Integers = NDArray[np.int32]
F32 = GGMLType.F32

N_THREADS = 2


class Machine:
    """A traced graph with one output, and the program that it becomes."""

    def __init__(
        self,
        folder: Path,
        build: Callable[[Graph], Value],
        tensors: Mapping[str, Any],  # arrays, or TensorSources
        *,
        precision: str = "exact",
        max_rows: int = 40,
        passes: Items[Pass] = PASSES,
        types: tuple[GGMLType, GGMLType] = (F32, F32),
    ) -> None:
        path = folder / "tensors.gguf"
        sources = [x if isinstance(x, TensorSource) else source(name, x) for name, x in tensors.items()]
        write_gguf(path, {"general.architecture": "none"}, sources)
        self.tensors = GGUFFile.open(path).tensors
        self.graph = Graph.trace({}, self.tensors, "test")
        self.output = build(self.graph)
        self.n_threads = N_THREADS
        self.plan = make_plan(self.graph.nodes, {"output": self.output}, passes)
        self.states = States(self.plan.nodes, types, n_ctx=256, n_seq=8, n_batch=max_rows)
        self.program = Program(
            self.plan, self.tensors, self.states, max_rows=max_rows, n_threads=N_THREADS, precision=precision
        )

    def new_sequence(self) -> Sequence:
        return self.states.new_sequence()

    def run(self, spans: Items[Span], **given: Any) -> NDArray[np.float32]:
        """Append the tokens of `spans`, prompts first; the rows that were wanted, of all together."""
        batch = Batch(self, spans, **given)
        assert batch.run() == 0
        for span in spans:
            span.sequence.commit(len(span.tokens), mark=True)
        n_rows = len(spans) if self._pools() else len(batch.arrays["out_row"])
        return self.program.outputs["output"][:n_rows].copy()

    def _pools(self) -> bool:
        return any(node.rows == "texts" for node in self.graph.nodes)


class Batch:
    """A gg_batch, made of the arrays and the counts that stand here; both may be changed before `run`.

    angle: (4, rows) in place of the places, given: rows in place of tokens that are -1.
    """

    def __init__(
        self,
        machine: Machine,
        spans: Items[Span],
        angle: NDArray[Any] | None = None,
        given: NDArray[np.float32] | None = None,
    ) -> None:
        self.machine = machine
        lengths = [len(span.tokens) for span in spans]
        starts = np.cumsum([0, *lengths])
        wanted: list[int] = []
        for span, start, end in zip(spans, starts[:-1], starts[1:], strict=True):
            span.sequence.reserve(end - start)
            span.sequence.begin(end - start)
            wanted += range({"all": start, "last": end - 1, "none": end}[span.logits], end)
        places = [span.sequence.length + i for span in spans for i in range(len(span.tokens))]
        self.arrays: dict[str, Integers] = {
            "token": np.array([t for span in spans for t in span.tokens], np.int32),
            "place": np.array(places, np.int32),
            "angle": np.array(np.tile(places, (4, 1)) if angle is None else angle, np.int32),
            "sequence": np.repeat(np.arange(len(spans), dtype=np.int32), lengths),
            "first_row": starts.astype(np.int32),
            "out_row": np.array(wanted, np.int32),
        }
        prompts = [span for span in spans if not span.generating]
        self.counts = {
            "n_rows": len(places),
            "n_prompt": sum(len(span.tokens) for span in prompts),
            "n_out": len(wanted),
            "n_out_wide": sum(len(span.tokens) for span in prompts if span.logits == "all"),
            "n_sequences": len(spans),
            "n_states": len(machine.states),
        }
        self.given = given
        self.states: Any = ffi.new("gg_state[]", len(machine.states))
        self._kept: list[Any] = []
        for number, columns in enumerate(machine.states.columns([span.sequence for span in spans])):
            first, entry = (np.array(column, np.int32) for column in columns)
            self.states[number] = machine.states.records[number]
            self.states[number].first = ffi.from_buffer("int32_t[]", first)
            self.states[number].entry = ffi.from_buffer("int32_t[]", entry)
            self._kept += [first, entry]

    def run(self) -> int:
        """The status that gg_run leaves."""
        batch = ffi.new("gg_batch *", self.counts)
        for name, array in self.arrays.items():
            setattr(batch, name, ffi.from_buffer("int32_t[]", np.ascontiguousarray(array)))
        if self.given is not None:
            batch.given, batch.given_width = ffi.from_buffer("float[]", self.given), self.given.shape[1]
        batch.states = self.states
        call = ffi.new("gg_call *")
        lib.gg_run(self.machine.program.record, batch, self.machine.n_threads, call)
        status: int = call.status
        return status
