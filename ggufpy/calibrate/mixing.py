"""A type for each tensor under a budget of bytes: bits go where they spare the outputs most.

Rounding a matrix W to W' costs about half of tr(G E H E^T) of KL divergence, E = W - W', with the moments H
of its inputs and G of the loss's gradients at its outputs. The sum over tensors ranks mixtures well, and as a
forecast it is too low, as errors meet: by a fifth on the shipped model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ggufpy.calibrate.fitting import DAMPING, Fitting
from ggufpy.calibrate.gathering import Gathering
from ggufpy.calibrate.gradients import Gradients
from ggufpy.calibrate.groups import groups_of
from ggufpy.calibrate.recipe import Recipe
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.reader import TensorInfo
from ggufpy.gguf.types import GGMLType
from ggufpy.quants import decode, encode
from ggufpy.quants.moment import Moment
from ggufpy.quants.rounding import KINDS, round_with_feedback

Floats = NDArray[np.float32]

# From few bits to many; of those of equal size the one that loses less.
CANDIDATES = (
    GGMLType.Q2_K,
    GGMLType.Q3_K,
    GGMLType.IQ4_XS,
    GGMLType.IQ4_NL,
    GGMLType.Q4_K,
    GGMLType.Q4_1,
    GGMLType.Q5_0,
    GGMLType.Q5_K,
    GGMLType.Q5_1,
    GGMLType.Q6_K,
    GGMLType.Q8_0,
)
_ROWS = 4096  # of an embedding that are rounded at a time


@dataclass(frozen=True, slots=True)
class Offer:
    """What a tensor takes in a type, in bytes, and what that loses, in nats per token."""

    type: GGMLType
    n_bytes: int
    loss: float


def offers_of(
    fitting: Fitting, gradients: Gradients, on_layer: Callable[[int, int], None]
) -> dict[str, list[Offer]]:
    """What each tensor that `fitting` may round can be, but those whose rounding changes nothing.

    on_layer is told how many layers are done.

    Raises UnsupportedModelError for mixtures of experts, of which there are no gradients.
    """
    if any(group.route for stage in fitting.layers for group in groups_of(stage, fitting.types)):
        raise UnsupportedModelError("types are chosen by gradients, which experts have none of: name types")
    gathering, found = Gathering(fitting, Recipe(guided=True), gradients), {}
    embedding = fitting.file.tensors[fitting.embedding]
    if fitting.embedding in fitting.types:
        moment = gathering.of_embedding()
        assert moment is not None
        weights = _frequencies(fitting.chunks, embedding.shape[0])
        found[embedding.name] = _offers(embedding, moment, fitting.n_threads, partial(_loss_of_rows, weights))
    wanted = {"x": fitting.layers[0].reads}
    rows = fitting.runner.run(fitting.nodes, wanted, None)["x"]
    for done, stage in enumerate(fitting.layers, 1):
        groups, left = groups_of(stage, fitting.types), np.empty((len(rows), stage.leaves.width), np.float32)
        for sets in gathering.sums(stage, groups, rows, None, {}, left):
            for names, sums in sets:
                if sums.is_nothing:
                    continue
                for name in names:
                    found[name] = _offers(
                        fitting.file.tensors[name],
                        sums.h,
                        fitting.n_threads,
                        partial(_loss, gradients.fisher(name)),
                        whole=True,
                    )
        rows = left
        on_layer(done, len(fitting.layers))
    return found


def types_within(offers: Mapping[str, Sequence[Offer]], budget: int) -> dict[str, GGMLType]:
    """The types whose losses add up to least, in at most `budget` bytes; raises FormatError if none fit."""
    least = sum(min(each.n_bytes for each in of) for of in offers.values())
    if least > budget:
        raise FormatError(
            f"the tensors to be chosen for take {least:,} bytes at least, and {budget:,} are left for them; "
            "allow more, or calibrate without a target for a type of fewer bits"
        )
    low, high = 0.0, 1.0
    while sum(each.n_bytes for each in _best(offers, high).values()) > budget:
        high *= 4
    for _ in range(60):
        middle = (low + high) / 2
        fits = sum(each.n_bytes for each in _best(offers, middle).values()) <= budget
        low, high = (low, middle) if fits else (middle, high)
    chosen = _best(offers, high)
    _spend(offers, chosen, budget - sum(each.n_bytes for each in chosen.values()))
    return {name: each.type for name, each in chosen.items()}


def _best(offers: Mapping[str, Sequence[Offer]], price: float) -> dict[str, Offer]:
    return {name: min(of, key=lambda each: each.loss + price * each.n_bytes) for name, of in offers.items()}


def _spend(offers: Mapping[str, Sequence[Offer]], chosen: dict[str, Offer], left: int) -> None:
    """What is left of the budget goes where a byte spares most."""
    while True:
        better = [
            ((chosen[name].loss - each.loss) / (each.n_bytes - chosen[name].n_bytes), name, each)
            for name, of in offers.items()
            for each in of
            if each.loss < chosen[name].loss and 0 < each.n_bytes - chosen[name].n_bytes <= left
        ]
        if not better:
            return
        _, name, best = max(better, key=lambda found: found[:2])
        left -= best.n_bytes - chosen[name].n_bytes
        chosen[name] = best


def _offers(
    tensor: TensorInfo,
    h: NDArray[np.float64],
    threads: int,
    loss: Callable[[Floats, Floats, int], float],
    *,
    whole: bool = False,
) -> list[Offer]:
    """Of each type whose blocks divide its rows. loss: of errors, H, and the first row."""
    moment, source, own = Moment(h, DAMPING), tensor.source(), h.astype(np.float32)
    step, totals = source.rows if whole else _ROWS, dict.fromkeys(_that_fit(source.columns), 0.0)
    for first in range(0, source.rows, step):
        data = source.read(first, min(first + step, source.rows))
        weights = decode(data, source.type).reshape(-1, source.columns)
        for type in totals:
            parts = KINDS[type].parts(encode(weights, type, moment.importance))
            round_with_feedback(weights, moment, KINDS[type], parts, threads)
            totals[type] += loss(weights - KINDS[type].values(parts), own, first)
    bytes_of = {type: source.rows * source.columns // type.block_size * type.block_bytes for type in totals}
    return [Offer(type, bytes_of[type], total) for type, total in totals.items()]


def _that_fit(columns: int) -> list[GGMLType]:
    return [type for type in CANDIDATES if columns % type.block_size == 0]


def _loss(fisher: Floats, error: Floats, h: Floats, first: int) -> float:
    return 0.5 * float(np.vdot(fisher @ error, error @ h))


def _loss_of_rows(weights: Floats, error: Floats, h: Floats, first: int) -> float:
    """Of an embedding: each row counts as often as its token is there."""
    own = weights[first : first + len(error)]
    return 0.5 * float(own @ np.einsum("ri,ri->r", error @ h, error))


def _frequencies(chunks: Sequence[list[int]], size: int) -> Floats:
    """Of each token, half a time more often than it was seen."""
    counts = np.bincount(np.concatenate([np.array(chunk) for chunk in chunks]), minlength=size) + 0.5
    frequencies: Floats = (counts / counts.sum()).astype(np.float32)
    return frequencies
