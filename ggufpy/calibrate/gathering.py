"""What matrices of a network read of a calibration, summed up: the moments that rounding them needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ggufpy.calibrate.gradients import Gradients
from ggufpy.calibrate.groups import Group
from ggufpy.calibrate.recipe import Recipe
from ggufpy.calibrate.streams import Floats
from ggufpy.calibrate.sums import Sums
from ggufpy.gguf.reader import TensorInfo
from ggufpy.graph import Value
from ggufpy.runtime.stages import Stage

if TYPE_CHECKING:
    from ggufpy.calibrate.fitting import Fitting

Doubles = NDArray[np.float64]

# What an error of a tied embedding does as the output: about 1 - p(token) of what the plain moment says.
_AS_OUTPUT = 0.8


class Gathering:
    """Sums what tokens are, each weighed as a recipe says."""

    def __init__(self, fitting: Fitting, recipe: Recipe, gradients: Gradients | None) -> None:
        self._fitting, self._recipe, self._gradients = fitting, recipe, gradients
        self._first = _first_tokens(fitting.chunks, recipe.first) if recipe.first > 1 else None

    def of_embedding(self) -> Doubles | None:
        """The moment that errors of the embedding meet, None if nothing is known of it."""
        fitting = self._fitting
        is_tied = fitting.output.matrices[0].tensor == fitting.embedding
        if self._gradients is not None:
            of_rows = self._gradients.embedding_fisher()
            if is_tied:
                of_rows = of_rows + _AS_OUTPUT * self._gradients.output_moment()
            return of_rows.astype(np.float64)
        if not is_tied:
            return None
        sums = Sums(fitting.output.x.width, crossed=False, lost=None)
        for _, values in fitting.runner.each(fitting.nodes, {"h": fitting.output.x}, None):
            sums.add(values["h"], None, None, None)
        return sums.h

    def sums(
        self,
        stage: Stage,
        groups: Sequence[Group],
        x: Floats,
        y: Floats | None,
        tensors: Mapping[str, TensorInfo],
        left: Floats | None = None,
    ) -> list[list[tuple[list[str], Sums]]]:
        """For each group its tensors, those together whose tokens count alike.

        x: what the layer reads in the float model, y: in the one with `tensors`, None where that is x, too.
        left: filled with what the layer leaves of x.
        """
        wanted = {} if left is None else {"out": stage.leaves}
        for number, group in enumerate(groups):
            wanted |= group.values(number)
        found = [self._empty(group) for group in groups]
        with ThreadPoolExecutor(self._fitting.n_threads) as pool:
            for part, values, own in self._both(stage, wanted, x, y, tensors):
                adding = [
                    pool.submit(_add, each, number, part, values, own)
                    for number, sets in enumerate(found)
                    for each in sets
                ]
                for each in adding:
                    each.result()
                if left is not None:
                    left[part] = values["out"]
        return [[(names, sums) for names, sums, _ in sets] for sets in found]

    def _both(
        self,
        stage: Stage,
        wanted: Mapping[str, Value],
        x: Floats,
        y: Floats | None,
        tensors: Mapping[str, TensorInfo],
    ) -> Iterator[tuple[slice, dict[str, Floats], dict[str, Floats]]]:
        """Chunk by chunk the values of both streams; without y they are the same."""
        runner = self._fitting.runner
        if y is None:
            for part, values in runner.each(stage.nodes, wanted, x):
                yield part, values, values
            return
        own = runner.each(stage.nodes, wanted, y, tensors)
        for (part, values), (_, others) in zip(runner.each(stage.nodes, wanted, x), own, strict=True):
            yield part, values, others

    def _empty(self, group: Group) -> list[tuple[list[str], Sums, Floats | None]]:
        sets: dict[int, tuple[list[str], Sums, Floats | None]] = {}
        lost = group.added.width if group.added is not None and self._recipe.propagate else None
        for name in group.tensors:
            weights = self._first
            if self._recipe.guided and self._gradients is not None:
                weights = self._gradients.weights(name)
            if id(weights) not in sets:
                sums = Sums(group.reads.width, crossed=self._recipe.propagate, lost=lost)
                sets[id(weights)] = ([], sums, weights)
            sets[id(weights)][0].append(name)
        return list(sets.values())


def _first_tokens(chunks: Sequence[list[int]], times: int) -> Floats:
    """Weights of tokens: the first of each chunk counts so many times."""
    weights = np.ones((len(chunks), len(chunks[0])), np.float32)
    weights[:, 0] = times
    return weights.reshape(-1)


def _add(
    summed: tuple[list[str], Sums, Floats | None],
    number: int,
    part: slice,
    plain: Mapping[str, Floats],
    own: Mapping[str, Floats],
) -> None:
    """A chunk's tokens of both streams."""
    reads, added = f"{number} reads", f"{number} added"
    lost = plain[added] - own[added] if added in plain and plain is not own else None
    _, sums, weights = summed
    sums.add(own[reads], plain[reads], lost, None if weights is None else weights[part])
