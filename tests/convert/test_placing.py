"""Tables of names: order, spellings, and what is said of tensors that are missing or do not fit."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import tiny
from tiny import CONFIG

from ggufpy.architectures import Architecture, Names
from ggufpy.architectures._names import columns, constant, plus_one, rows, stack, tensor, transposed
from ggufpy.convert.pipeline import convert_checkpoint, plan_conversion
from ggufpy.convert.placing import Converted, with_predicting_layers
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.graph import Graph, Outputs

FUSED = "layers.{i}.experts.up_and_gate"
TABLE: Names = {
    "token_embd": ("embed", "embedding"),
    "factors.weight": constant(lambda config: config.get("factors")),
    "blk.{i}.norm": plus_one("layers.{i}.norm"),
    "blk.{i}.router": "layers.{i}.router",
    "blk.{i}.up_exps": stack("layers.{i}.experts.{e}.up"),
    "blk.{i}.up_exps.weight": rows(transposed(tensor(FUSED)), slice(0, None, 2)),
    "blk.{i}.up_exps.bias": columns(tensor(FUSED + "_bias"), slice(0, None, 2)),
    "blk.{i}.part": rows("layers.{i}.fused", slice(4)),
    "output": "head",
}
KEYS = {"block_count": 2, "expert_count": 3, "epsilon": 1e-5}


def forward(g: Graph) -> Outputs:
    """A network of no meaning that uses what the table has."""
    x = g.embed("token_embd", 4)
    for layer in g.layers(g.keys.integer("block_count")):
        h = layer.norm(x, "norm", g.keys.number("epsilon"))
        chosen = layer.route(layer.linear(h, "router", outputs=g.keys.integer("expert_count")), 2)
        up = layer.linear_of_experts(h, "up_exps", chosen, outputs=6)
        x = x + layer.linear(layer.total(up), "part", outputs=4)
    return {"logits": g.linear(x, "output", tied="token_embd")}


def arrays(*, fused: bool = False) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    shapes: dict[str, tuple[int, ...]] = {"embed.weight": (16, 4)}
    for i in range(2):
        shapes |= {f"layers.{i}.norm.weight": (4,), f"layers.{i}.router.weight": (3, 4)}
        shapes |= {f"layers.{i}.fused.weight": (9, 6), f"layers.{i}.fused.bias": (9,)}
        if fused:
            name = FUSED.format(i=i)
            shapes |= {name: (3, 4, 12), f"{name}_bias": (3, 12)}
        else:
            shapes |= {f"layers.{i}.experts.{e}.up.weight": (6, 4) for e in range(3)}
            shapes |= {f"layers.{i}.experts.{e}.up.bias": (6,) for e in range(3)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def place(
    tensors: Mapping[str, Any],
    config: Mapping[str, Any] | None = None,
    notes: list[str] | None = None,
    **keys: Any,
) -> dict[str, Any]:
    network = cast(Architecture, SimpleNamespace(NAMES=TABLE, forward=forward))
    made = {name: source(name, x) for name, x in tensors.items()}
    converted = Converted("fake", network, config or {}, {**KEYS, **keys}, 16, Path("config.json"))
    placed = {each.name: tiny.values(each) for each in converted.place(made)}
    if notes is not None:
        notes += converted.notes
    return placed


def source(name: str, x: Any) -> TensorSource:
    data = np.ascontiguousarray(x, np.float32).reshape(-1, x.shape[-1]).view(np.uint8)
    return TensorSource(name, x.shape, GGMLType.F32, lambda start, stop: data[start:stop])


LAYER = ("norm.weight", "router.weight", "up_exps.weight", "up_exps.bias", "part.weight", "part.bias")
ORDER = ["token_embd.weight", *(f"blk.{i}.{name}" for i in range(2) for name in LAYER)]


def test_tensors_come_in_the_order_of_the_table() -> None:
    given = arrays()
    placed = place(given)
    assert list(placed) == ORDER
    assert np.array_equal(placed["blk.1.norm.weight"], given["layers.1.norm.weight"] + 1)
    experts = [given[f"layers.1.experts.{e}.up.bias"] for e in range(3)]
    assert np.array_equal(placed["blk.1.up_exps.bias"], np.stack(experts))
    assert np.array_equal(placed["blk.0.part.bias"], given["layers.0.fused.bias"][:4])


def test_the_way_whose_tensors_are_there_counts() -> None:
    given = arrays(fused=True)
    given["embedding.weight"] = given.pop("embed.weight")
    placed = place(given)
    assert list(placed) == ORDER
    fused = given["layers.1.experts.up_and_gate"]
    assert np.array_equal(placed["blk.1.up_exps.weight"], fused.swapaxes(1, 2)[:, ::2])
    assert np.array_equal(placed["blk.1.up_exps.bias"], given["layers.1.experts.up_and_gate_bias"][:, ::2])


def test_a_constant_is_there_if_it_is_asked_for() -> None:
    with pytest.raises(UnsupportedModelError, match=r"tensor 'factors\.weight' has no place"):
        place(arrays(), {"factors": np.ones(2, np.float32)})


TIED, NOT_TIED = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}


def test_a_head_of_its_own_counts_whatever_the_configuration_says() -> None:
    given = arrays() | {"head.weight": np.ones((16, 4), np.float32)}
    for config in ({}, TIED, NOT_TIED):
        assert list(place(given, config)) == [*ORDER, "output.weight"]
    given["head.weight"] = given["embed.weight"].copy()
    assert list(place(given, TIED)) == ORDER
    given["head.weight"][15, 3] += 1
    assert list(place(given, TIED)) == [*ORDER, "output.weight"]


def test_a_tied_model_may_have_its_matrix_under_the_name_of_the_head() -> None:
    given = arrays()
    given["head.weight"] = given.pop("embed.weight")
    for config in ({}, TIED):
        placed = place(given, config)
        assert list(placed) == ORDER
        assert np.array_equal(placed["token_embd.weight"], given["head.weight"])
    with pytest.raises(FormatError, match=r"tensor 'embed\.weight' is missing"):
        place(given, NOT_TIED)


def test_a_head_that_must_be_there() -> None:
    with pytest.raises(FormatError, match=r"tie_word_embeddings is false, and the checkpoint has no"):
        place(arrays(), NOT_TIED)
    with pytest.raises(FormatError, match="tie_word_embeddings is 7, it must be true or false"):
        place(arrays(), {"tie_word_embeddings": 7})


def test_what_is_beside_the_model_is_left_out_with_a_note() -> None:
    beside = ("v_head.summary.weight", L0 + "k_scale", "v_head.summary.bias")
    notes: list[str] = []
    placed = place(arrays() | {name: np.ones((1,), np.float32) for name in beside}, notes=notes)
    assert list(placed) == ORDER
    assert notes == [f"tensor '{beside[0]}' and 2 more left out: no part of the language model"]


L0, L1 = "layers.0.", "layers.1."


@pytest.mark.parametrize(
    ("changes", "keys", "message"),
    [
        ({L1 + "experts.2.up.weight": None}, {}, "tensor 'layers.1.experts.2.up.weight' is missing from the"),
        ({"embed.weight": None}, {}, "tensor 'embed.weight' is missing from the checkpoint; download it"),
        ({}, {"block_count": 3}, "config.json: num_hidden_layers is 3, the checkpoint's tensors are of 2"),
        ({}, {"block_count": 1}, "config.json: num_hidden_layers is 1, the checkpoint's tensors are of 2"),
        ({L0 + "experts.3.up.weight": (6, 4)}, {}, "config.json: the number of experts is 3, the"),
        (
            {L0 + "experts.0.sideways.weight": (6, 4)},
            {},
            "tensor 'layers.0.experts.0.sideways.weight' has no",
        ),
        ({L0 + "router.weight": (2, 4)}, {}, "tensor 'layers.0.router.weight' has shape (2, 4), config.json"),
        (
            {f"layers.0.experts.{e}.up.weight": (6, 5) for e in range(3)},
            {},
            "'blk.0.up_exps.weight', made of tensor 'layers.0.experts.0.up.weight' and 2 others, has shape "
            "(3, 6, 5), config.json asks for (3, 6, 4); they do not belong together",
        ),
        ({L0 + "fused.weight": (3, 6)}, {}, "tensor 'layers.0.fused.weight' has shape (3, 6), config.json"),
        ({"embed.weight": (15, 4)}, {}, "tensor 'embed.weight' has shape (15, 4), config.json asks for (16,"),
        ({L0 + "norm.weight": (0, 4)}, {}, "tensor 'layers.0.norm.weight' has shape (0, 4), no numbers"),
        ({L0 + "norm.scale": (1,)}, {}, "tensor 'layers.0.norm.scale' has no place"),
        ({}, {"odd_scale": 3.0}, "config.json: metadata key 'fake.odd_scale' is 3.0, and ggufpy does not"),
    ],
)
def test_what_is_said(
    changes: Mapping[str, tuple[int, ...] | None], keys: dict[str, Any], message: str
) -> None:
    given = arrays() | {name: np.ones(shape, np.float32) for name, shape in changes.items() if shape}
    given = {name: x for name, x in given.items() if changes.get(name, ()) is not None}
    with pytest.raises((FormatError, UnsupportedModelError)) as error:
        place(given, **keys)
    assert str(error.value).startswith(message)


BEGINNINGS = {
    "bare": ("model.", ""),
    "language_model": ("", "language_model."),
    "within a model that sees": ("model.", "model.language_model."),
    "adapters": ("", "base_model.model."),
    "compiled": ("", "_orig_mod."),
    "transformer": ("model.", "transformer."),
    "transformer around": ("", "transformer."),
    "all at once": ("model.", "base_model.model._orig_mod.module.model.language_model."),
    "parallel": ("", "module."),
}


@pytest.mark.parametrize("name", BEGINNINGS)
def test_names_may_begin_otherwise(tmp_path: Path, shipped_checkpoint: Path, name: str) -> None:
    ours, theirs = BEGINNINGS[name]
    weights = tiny.checkpoint(tmp_path, shipped_checkpoint)
    plain = convert_checkpoint(tmp_path, tmp_path / "plain.gguf")[0].read_bytes()
    spelt = {theirs + x.removeprefix(ours) if x.startswith(ours) else x: y for x, y in weights.items()}
    eye = {"vision_tower.norm.weight": np.ones(64, np.float32)}
    tiny.save(tmp_path, {x: tiny.rounded(y, "BF16") for x, y in (eye | spelt).items()})
    assert convert_checkpoint(tmp_path, tmp_path / "other.gguf")[0].read_bytes() == plain
    missing = (theirs + "model.layers.1.mlp.up_proj.weight".removeprefix(ours)) if ours or theirs else ""
    tiny.save(tmp_path, {x: y for x, y in spelt.items() if x != missing})
    with pytest.raises(FormatError, match=f"tensor '{missing}' is missing from the checkpoint"):
        plan_conversion(tmp_path)


@pytest.mark.parametrize("name", ["LlamaForCausalLM", "LlamaModel"])
def test_a_model_saved_without_its_head_is_tied(tmp_path: Path, shipped_checkpoint: Path, name: str) -> None:
    config = CONFIG | {"architectures": [name]}
    weights = tiny.checkpoint(tmp_path, shipped_checkpoint, config)
    bare = {x.removeprefix("model."): y for x, y in weights.items() if x != "lm_head.weight"}
    tiny.save(tmp_path, bare)
    tensors = {each.name: each.shape for each in plan_conversion(tmp_path).tensors}
    assert "output.weight" not in tensors and len(tensors) == len(bare)


def test_eyes_are_left_out(tmp_path: Path, shipped_checkpoint: Path) -> None:
    weights = tiny.checkpoint(tmp_path, shipped_checkpoint)
    more = {name: np.ones((2, 2), np.float32) for name in ("vision_tower.a", "model.multi_modal_projector.b")}
    tiny.save(tmp_path, weights | more)
    assert len(plan_conversion(tmp_path).tensors) == len(weights)
    assert CONFIG["num_hidden_layers"] == 2


@pytest.mark.parametrize(
    ("names", "count"),
    [
        (["model.layers.1.norm.weight"], 0),
        (["model.layers.1.norm.weight", "vision_tower.layers.7.norm.weight"], 0),
        (["model.layers.1.norm.weight", "model.layers.2.norm.weight"], 1),
        (["model.layers.1.norm.weight", "mtp.layers.0.norm.weight", "mtp.layers.1.norm.weight"], 2),
    ],
)
def test_predicting_layers_are_counted_by_their_tensors(names: list[str], count: int) -> None:
    """transformers saves the number of a configuration, and not the layers."""
    config = {"num_hidden_layers": 2, "num_nextn_predict_layers": 1}
    assert with_predicting_layers(config, names)["num_nextn_predict_layers"] == count


def test_a_number_of_predicting_layers_that_is_none() -> None:
    with pytest.raises(FormatError, match=r"num_nextn_predict_layers is \[1\], it must be a whole number"):
        with_predicting_layers({"num_nextn_predict_layers": [1]}, [])
