"""Types chosen under a budget."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import random_llama
import tiny_models

from ggufpy.calibrate.fitting import Fitting
from ggufpy.calibrate.gradients import measure_gradients
from ggufpy.calibrate.mixing import Offer, offers_of, types_within
from ggufpy.commands.quantize import main
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.types import GGMLType

CHUNKS = [[1, *range(3 + 20 * i, 42 + 20 * i)] for i in range(3)]
SMALL, MIDDLE, LARGE = GGMLType.Q2_K, GGMLType.Q4_K, GGMLType.Q8_0


def offers(*losses: float) -> list[Offer]:
    return [
        Offer(type, n, loss)
        for type, n, loss in zip((SMALL, MIDDLE, LARGE), (20, 40, 80), losses, strict=True)
    ]


def test_bytes_go_where_they_spare_most() -> None:
    of = {"a": offers(100, 10, 1), "b": offers(9, 4, 0)}
    assert types_within(of, 40) == {"a": SMALL, "b": SMALL}
    assert types_within(of, 79) == {"a": MIDDLE, "b": SMALL}
    assert types_within(of, 80) == {"a": MIDDLE, "b": MIDDLE}
    assert types_within(of, 500) == {"a": LARGE, "b": LARGE}
    with pytest.raises(FormatError, match="take 40 bytes at least, and 39 are left"):
        types_within(of, 39)


def test_every_sum_within_the_budget_is_no_better() -> None:
    rng = np.random.default_rng(0)
    of = {name: offers(*sorted(rng.random(3), reverse=True)) for name in "abcde"}
    for budget in range(100, 401, 20):
        chosen = types_within(of, budget)
        found = [next(each for each in of[name] if each.type is chosen[name]) for name in of]
        assert sum(each.n_bytes for each in found) <= budget
        best = min(
            sum(of[name][i // 3**k % 3].loss for k, name in enumerate(of))
            for i in range(3 ** len(of))
            if sum(of[name][i // 3**k % 3].n_bytes for k, name in enumerate(of)) <= budget
        )
        assert sum(each.loss for each in found) <= 1.35 * best + 1e-9


def test_fewer_bits_lose_more(tmp_path: Path) -> None:
    file = GGUFFile.open(random_llama.write(tmp_path / "model.gguf", random_llama.arrays()))
    names = [name for name, tensor in file.tensors.items() if len(tensor.shape) == 2]
    fitting = Fitting(file, dict.fromkeys(names, GGMLType.Q4_0), CHUNKS, 1)
    gradients = measure_gradients(file, CHUNKS, tmp_path, n_threads=1, fisher=True)
    found = offers_of(fitting, gradients, lambda done, of: None)
    assert found.keys() == {name for name in names if name != "output.weight"}
    for of in found.values():
        losses = {each.type: each.loss for each in of}
        assert losses[GGMLType.Q8_0] < losses[GGMLType.Q5_0] < losses[GGMLType.IQ4_NL]


def test_experts_are_refused(tmp_path: Path) -> None:
    file = GGUFFile.open(tiny_models.write(tmp_path / "model.gguf", "qwen3moe"))
    types = {name: GGMLType.Q4_0 for name in file.tensors if name.endswith("_exps.weight")}
    gradients = measure_gradients(file, CHUNKS, tmp_path, n_threads=1, fisher=True)
    with pytest.raises(UnsupportedModelError, match="which experts have none of"):
        offers_of(Fitting(file, types, CHUNKS, 1), gradients, lambda done, of: None)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--target-bpw", "4"], "types are chosen by a text; give --calibration"),
        (["--calibration", "x", "--target-bpw", "0.5"], "'0.5' is not a number of bits from 1 to 16"),
        (["--calibration", "x", "--target-size", "2T"], "'2T' is not a size such as 500M or 2G"),
        (["--calibration", "x", "--target-size", "2G", "--target-bpw", "4"], "not allowed with"),
    ],
)
def test_targets_that_cannot_be(options: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*options, "model.gguf", "q4_k_m"])
    assert problem in capsys.readouterr().err
