"""Which recipe rounds a network best: each is tried, and measured on text that was held back.

Models differ in what decides. Where all tokens attend to the first one, it has to count more than others do;
gradients know how much, and for small models what the outputs need from each other matters more.
"""

from __future__ import annotations

import shutil
from collections import ChainMap
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ggufpy.calibrate.fitting import Fitting, OnLayer
from ggufpy.calibrate.gradients import Gradients
from ggufpy.calibrate.judging import Judge, Verdict
from ggufpy.calibrate.recipe import Recipe
from ggufpy.calibrate.unfinished import done, finish
from ggufpy.gguf.reader import TensorInfo

# A bar on its way: told how many layers are done, and of how many.
Counted = Callable[[str], AbstractContextManager[OnLayer]]

_FIRST = (1, 16, 64)  # times that the first token may count


@dataclass(slots=True)
class Trials:
    """Recipes that are tried one after the other; the best so far is `best`, its tensors `made`.

    None stands for the importance matrix alone. plain: tensors as that has them; others: what the network
    reads besides. counted, say: for who waits.
    """

    fitting: Fitting
    judge: Judge
    gradients: Gradients | None
    plain: Mapping[str, TensorInfo]
    others: Mapping[str, TensorInfo]
    folder: Path
    counted: Counted
    say: Callable[[str], None]
    tried: dict[Recipe | None, Verdict] = field(default_factory=dict)
    best: Recipe | None = None
    made: Mapping[str, TensorInfo] = field(default_factory=dict)

    def begin(self) -> None:
        """With the importance matrix alone."""
        self._judge(None, {}, done(self.folder / "matrix.json"))

    def attempt(self, recipe: Recipe, *, anyway: bool = False) -> None:
        """Round by a recipe that was not tried; keep it if it is better, or `anyway`."""
        if recipe in self.tried:
            return
        folder = self.folder / str(recipe)
        before = done(self.folder / f"{recipe}.json")
        made: Mapping[str, TensorInfo] = {}
        if before is None or folder.is_dir():
            folder.mkdir(exist_ok=True)
            with self.counted(str(recipe)) as show:
                made = self.fitting.round(recipe, self.gradients, folder, show)
        is_better = self._judge(recipe, made, before)
        if is_better or anyway:
            self.best, self.made = recipe, made
        else:
            shutil.rmtree(folder, ignore_errors=True)

    def _judge(
        self, recipe: Recipe | None, made: Mapping[str, TensorInfo], before: Mapping[str, Any] | None
    ) -> bool:
        """Whether it is the best so far; before: the verdict, if that was given already."""
        if before is None:
            verdict = self.judge(ChainMap(dict(made), dict(self.plain), dict(self.others)))
            finish(self.folder / f"{recipe or 'matrix'}.json", asdict(verdict))
        else:
            verdict = Verdict(**before)
        is_better = bool(self.tried) and verdict.mean < self.tried[self.best].mean
        self.say(f"{recipe or 'importance matrix'}: {verdict}")
        self.tried[recipe] = verdict
        return is_better


def try_best(trials: Trials) -> None:
    """What may help, from what did most on most models; each is built on the best so far."""
    trials.begin()
    if trials.gradients is None:
        for first in _FIRST:
            trials.attempt(Recipe(first=first))
        if trials.best is not None:
            trials.attempt(replace(trials.best, propagate=True))
        return
    trials.attempt(Recipe(guided=True, two_sided=True))
    trials.attempt(Recipe(guided=True, two_sided=True, propagate=True))
    if trials.best is not None:
        trials.attempt(replace(trials.best, guided=False))
    else:
        trials.attempt(Recipe(guided=True))


def try_one(trials: Trials, recipe: Recipe) -> None:
    """One recipe; where no gradients say what tokens count for, the first counts as is best."""
    trials.begin()
    trials.attempt(recipe, anyway=True)
    for first in () if recipe.needs_gradients else _FIRST[1:]:
        trials.attempt(replace(recipe, first=first))
