"""Which recipes are tried, and which is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ggufpy.calibrate.choosing import Trials, try_best, try_one
from ggufpy.calibrate.judging import Verdict
from ggufpy.calibrate.recipe import Recipe

GUIDED = Recipe(guided=True, two_sided=True)
BOTH = Recipe(guided=True, two_sided=True, propagate=True)
PLAIN = Recipe(two_sided=True, propagate=True)


class Model:
    """A network for which each recipe has a known verdict; other recipes have 9."""

    def __init__(self, means: Mapping[Recipe | None, float]) -> None:
        self.means, self.rounded = means, list[Recipe]()

    def round(self, recipe: Recipe, gradients: Any, folder: Path, on_layer: Any) -> dict[str, Any]:
        self.rounded.append(recipe)
        (folder / "layer").write_text("")
        return {"recipe": recipe}

    def judge(self, tensors: Mapping[str, Any]) -> Verdict:
        mean = self.means.get(tensors.get("recipe"), 9.0)
        return Verdict(mean, mean, 10 * mean, 100)

    def trials(self, folder: Path, gradients: Any = None) -> Trials:
        model: Any = self
        return Trials(model, self.judge, gradients, {}, {}, folder, bar, lambda line: None)  # type: ignore[arg-type]


@contextmanager
def bar(what: str) -> Iterator[Any]:
    yield lambda done, of: None


def test_the_best_stays_on_the_disk(tmp_path: Path) -> None:
    model = Model({None: 5, GUIDED: 3, BOTH: 4, PLAIN: 9, Recipe(two_sided=True): 2})
    trials = model.trials(tmp_path, gradients=1)
    try_best(trials)
    assert model.rounded == [GUIDED, BOTH, Recipe(two_sided=True)]
    assert trials.best == Recipe(two_sided=True) and [*trials.made] == ["recipe"]
    assert (tmp_path / str(trials.best) / "layer").exists() and not (tmp_path / str(BOTH)).exists()


def test_what_is_worse_than_the_matrix_is_not_used(tmp_path: Path) -> None:
    model = Model({None: 1})
    for number, gradients in enumerate((None, 1)):
        folder = tmp_path / str(number)
        folder.mkdir()
        trials = model.trials(folder, gradients)
        try_best(trials)
        assert trials.best is None and not trials.made and len(trials.tried) == 4
        assert not [path for path in folder.iterdir() if path.is_dir()]


def test_without_gradients_the_first_token_counts_as_is_best(tmp_path: Path) -> None:
    means = {None: 5.0, Recipe(): 6.0, Recipe(first=16): 3.0, Recipe(first=64): 4.0}
    model = Model({**means, Recipe(first=16, propagate=True): 2})
    trials = model.trials(tmp_path)
    try_best(trials)
    assert trials.best == Recipe(first=16, propagate=True)


def test_one_that_is_asked_for_is_used_anyway(tmp_path: Path) -> None:
    trials = Model({None: 1}).trials(tmp_path)
    try_one(trials, Recipe(propagate=True))
    assert trials.best == Recipe(propagate=True) and trials.made
    guided = Model({None: 1}).trials(tmp_path, gradients=1)
    try_one(guided, Recipe(guided=True))
    assert list(guided.tried) == [None, Recipe(guided=True)]


def test_what_was_judged_is_not_done_again(tmp_path: Path) -> None:
    means = {None: 5.0, GUIDED: 3.0, BOTH: 4.0, Recipe(two_sided=True): 3.5}
    first, again = Model(means), Model(means)
    try_best(first.trials(tmp_path, gradients=1))
    trials = again.trials(tmp_path, gradients=1)
    try_best(trials)
    assert trials.best == GUIDED and again.rounded == [GUIDED]  # which is read from the disk


def test_names() -> None:
    assert str(BOTH) == "gptq,propagate,guided,two-sided"
    assert str(Recipe(learned=True, first=16)) == "round,first=16"
