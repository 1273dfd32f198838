"""A model with other numbers in its tensors, that computes the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ggufpy.calibrate.folding import Fold, Scales
from ggufpy.calibrate.scaled_values import Change
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.quants import decode
from ggufpy.quants.choice.planning import finite
from ggufpy.quants.file import COPY, plan_quantization

Changed = Callable[[TensorSource], TensorSource]


def folded(source: Path, scales: Mapping[Fold, Scales], path: Path) -> Path:
    """Write the model scaled by so much; returns `path`. What changes becomes f32, all else is copied.

    Raises FormatError for numbers that are NaN or infinite then, and as `write_gguf`; nothing is left then.
    """
    changes = [(change, values) for fold, values in scales.items() for change in fold.changes()]
    return rewritten(source, {name: _all(name, changes) for name in {c.tensor for c, _ in changes}}, path)


def rewritten(source: Path, changed: Mapping[str, Changed], path: Path) -> Path:
    """Write the model with some tensors replaced by what is made of them; raises as `folded`."""
    plan = plan_quantization(source, path, COPY)
    planned = [
        replace(each, tensor=finite(changed[each.tensor.name](each.source)))
        if each.tensor.name in changed
        else each
        for each in plan.planned
    ]
    replace(plan, planned=planned).write()
    return path


def multiplied(source: TensorSource, change: Change, scales: Scales) -> TensorSource:
    """A tensor of any type times a change's factors, as f32."""
    shape = change.ids.shape
    factors = change.factors(scales).reshape((1,) * (len(source.shape) - len(shape)) + shape)
    of_rows = np.broadcast_to(factors, (*source.shape[:-1], factors.shape[-1]))

    def read(start: int, stop: int) -> NDArray[np.uint8]:
        rows = np.unravel_index(np.arange(start, stop), source.shape[:-1]) if source.shape[:-1] else ()
        values = decode(source.read(start, stop), source.type) * of_rows[rows]
        return values.astype("<f4").view(np.uint8)

    return replace(source, type=GGMLType.F32, read=read)


def _all(name: str, changes: Iterable[tuple[Change, Scales]]) -> Changed:
    own = [(change, scales) for change, scales in changes if change.tensor == name]

    def changed(source: TensorSource) -> TensorSource:
        for change, scales in own:
            source = multiplied(source, change, scales)
        return source

    return changed
