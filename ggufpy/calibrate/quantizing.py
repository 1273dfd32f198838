"""A file quantized with what a text says of its network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ggufpy.calibrate.choosing import Counted, Trials, try_best, try_one
from ggufpy.calibrate.fitting import Fitting
from ggufpy.calibrate.gradients import Gradients, measure_gradients
from ggufpy.calibrate.judging import Judge
from ggufpy.calibrate.methods import METHOD_KEY
from ggufpy.calibrate.mixing import offers_of, types_within
from ggufpy.calibrate.recipe import Recipe
from ggufpy.calibrate.unfinished import done, finish
from ggufpy.errors import UnsupportedModelError
from ggufpy.gguf.reader import GGUFFile, TensorInfo
from ggufpy.gguf.types import GGMLType
from ggufpy.gguf.writer import write_gguf
from ggufpy.quants.choice.planning import with_entries
from ggufpy.quants.file import QuantizationPlan


@dataclass(frozen=True, slots=True)
class Texts:
    """Contexts of tokens, all of one length: those that decide how is rounded, and those that judge it."""

    chunks: Sequence[list[int]]
    held: Sequence[list[int]]


@dataclass(frozen=True, slots=True)
class Waiting:
    """For who waits: bars, and lines."""

    counted: Counted
    say: Callable[[str], None]


def calibrated(
    plan: QuantizationPlan,
    file: GGUFFile,
    texts: Texts,
    recipe: Recipe | None,
    gradients: Gradients | None,
    folder: Path,
    *,
    n_threads: int,
    waiting: Waiting,
) -> QuantizationPlan:
    """The plan with tensors rounded by a text, which are in `folder`.

    file: the one that the plan is of. recipe: None for the one that measures best on the held texts, if any
    is better than the plan as it is. gradients: of these texts, where there are any. Tensors that no recipe
    rounds keep what the plan has for them: those of types whose blocks are no grids, and what is no linear.
    Raises UnsupportedModelError for networks whose layers do not run by themselves, GgufpyError for texts
    that say too little.
    """
    types = _types(plan)
    trials = Trials(
        Fitting(file, types, texts.chunks, n_threads),
        Judge(file, texts.held, n_threads),
        gradients,
        _plain(plan, types, folder / "plain.gguf"),
        file.tensors,
        folder,
        waiting.counted,
        waiting.say,
    )
    if recipe is None:
        try_best(trials)
    else:
        try_one(trials, recipe)
    made = {tensor: info.source() for tensor, info in trials.made.items()}
    planned = [replace(each, tensor=made.get(each.tensor.name, each.tensor)) for each in plan.planned]
    waiting.say(_conclusion(trials, [name for name in types if name not in made]))
    return with_method(replace(plan, planned=planned), str(trials.best or "imatrix"))


def with_method(plan: QuantizationPlan, method: str) -> QuantizationPlan:
    """The plan of a file that says by which methods it was rounded."""
    return replace(plan, metadata=with_entries(plan.metadata, {METHOD_KEY: method}))


def _types(plan: QuantizationPlan) -> dict[str, GGMLType]:
    """Of tensors that become blocks."""
    return {
        each.tensor.name: each.tensor.type
        for each in plan.planned
        if each.tensor.type is not each.source.type and each.tensor.type.block_size > 1
    }


def gradients_of(
    file: GGUFFile, texts: Texts, folder: Path, n_threads: int, waiting: Waiting, *, must: bool
) -> Gradients | None:
    """Gradients of a network, with files in `folder`; None if it has none, unless there must be some."""
    own = folder / "gradients"
    before = done(own / "all.json")
    if before is not None:
        with suppress(OSError, KeyError, ValueError):  # else they are measured anew
            return Gradients.load(own, before)
    own.mkdir(exist_ok=True)
    try:
        with waiting.counted("gradients") as show:
            made = measure_gradients(file, texts.chunks, own, n_threads=n_threads, fisher=True, on_layer=show)
            finish(own / "all.json", made.save())
            return made
    except UnsupportedModelError as error:
        if must:
            raise
        waiting.say(f"without gradients: {error}")
        return None


def mixed_types(
    plan: QuantizationPlan,
    file: GGUFFile,
    texts: Texts,
    gradients: Gradients,
    budget: int,
    n_threads: int,
    waiting: Waiting,
) -> dict[str, GGMLType]:
    """Types for those of the plan's tensors that become blocks, all of which shall take `budget` bytes.

    Raises FormatError if that is too few, UnsupportedModelError for experts.
    """
    fitting = Fitting(file, _types(plan), texts.chunks, n_threads)
    with waiting.counted("types") as show:
        offers = offers_of(fitting, gradients, show)
    others = sum(each.tensor.n_bytes for each in plan.planned if each.tensor.name not in offers)
    chosen = types_within(offers, budget - others)
    loss = sum(of.loss for name in chosen for of in offers[name] if of.type is chosen[name])
    waiting.say(f"types chosen for a KL of about {loss:.4f}")
    return chosen


def _plain(plan: QuantizationPlan, types: Mapping[str, GGMLType], path: Path) -> Mapping[str, TensorInfo]:
    """Tensors as the plan has them, on the disk."""
    tensors = [each.tensor for each in plan.planned if each.tensor.name in types]
    write_gguf(path, {"general.architecture": "none"}, tensors)
    return GGUFFile.open(path).tensors


def _conclusion(trials: Trials, others: Sequence[str]) -> str:
    tokens = trials.tried[None].tokens
    line = f"chosen on {tokens} tokens held back: {trials.best or 'the importance matrix alone'}"
    if trials.best is not None:
        line += f", {trials.tried[trials.best].mean / trials.tried[None].mean:.2f} x the matrix's KL"
        if trials.tried[trials.best].mean > trials.tried[None].mean:
            line += ", so worse: leave out --method, or give more text"
        if others:
            more = f" and {len(others) - 3} more" if len(others) > 3 else ""
            line += f"; by the matrix alone: {', '.join(others[:3])}{more}"
    return line
