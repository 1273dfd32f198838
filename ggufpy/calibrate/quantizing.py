"""A file quantized with what a text says of its network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from ggufpy.calibrate.fitting import fitted
from ggufpy.calibrate.methods import METHOD_KEY
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.types import GGMLType
from ggufpy.quants.choice.planning import with_entries
from ggufpy.quants.file import QuantizationPlan


@contextmanager
def calibrated(
    plan: QuantizationPlan,
    file: GGUFFile,
    chunks: Sequence[list[int]],
    *,
    propagate: bool,
    n_threads: int,
    on_layer: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[QuantizationPlan, list[str]]]:
    """The plan with tensors rounded by a text, good until the end of the block, and the names of others.

    file: the one that the plan is of; propagate: as for `fitted`. The others keep what the plan has for
    them: types whose blocks are no grids, matrices of experts, the embedding and the output. Raises as
    `fitted`.
    """
    types: dict[str, GGMLType] = {
        each.tensor.name: each.tensor.type
        for each in plan.planned
        if each.tensor.type is not each.source.type and each.tensor.type.block_size > 1
    }
    with fitted(file, types, chunks, propagate=propagate, n_threads=n_threads, on_layer=on_layer) as made:
        planned = [replace(each, tensor=made.get(each.tensor.name, each.tensor)) for each in plan.planned]
        others = [name for name in types if name not in made]
        yield replace(plan, planned=planned), others


def with_methods(plan: QuantizationPlan, methods: Sequence[str]) -> QuantizationPlan:
    """The plan of a file that says by which methods it was rounded."""
    return replace(plan, metadata=with_entries(plan.metadata, {METHOD_KEY: ",".join(methods)}))
