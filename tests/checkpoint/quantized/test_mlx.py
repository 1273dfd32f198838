"""MLX: every width, whole and partly packed models, experts in one tensor; packed here one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import packed_llama
import pytest
import tiny
from packed_llama import Array, Floats
from test_compressed_tensors import in_words
from test_libraries import opened
from tiny_checkpoints import models

from ggufpy.errors import FormatError, UnsupportedModelError

USUAL = {"group_size": 32, "bits": 4}


class Packer:
    """Some scales are negative. skip: the ending of modules that stay as they are."""

    def __init__(self, bits: int, group: int = 32, skip: str = "-") -> None:
        self.bits, self.group, self.skip = bits, group, skip

    def __call__(self, stem: str, x: Floats) -> tuple[dict[str, Array], Floats]:
        if stem.endswith(self.skip):
            return {f"{stem}.weight": x}, x
        rng = np.random.default_rng(len(stem))
        rows, groups = x.shape[0], x.shape[1] // self.group
        codes = rng.integers(0, 1 << self.bits, x.shape)
        scales = (rng.uniform(0.01, 0.02, (rows, groups)) * rng.choice([-1, 1], (rows, groups))).astype(
            np.float16
        )
        biases = rng.uniform(-0.2, 0.2, (rows, groups)).astype(np.float16)
        parts: dict[str, Array] = {
            f"{stem}.weight": in_words(codes, self.bits, is_dense=True).view(np.uint32),
            f"{stem}.scales": scales,
            f"{stem}.biases": biases,
        }
        steps, starts = (y.astype(np.float32).repeat(self.group, axis=1) for y in (scales, biases))
        return parts, codes.astype(np.float32) * steps + starts


def write(folder: Path, tokenizer: Path, packer: Packer, **settings: Any) -> dict[str, Floats]:
    held = packed_llama.write(folder, tokenizer, {}, packer)
    said = {"group_size": packer.group, "bits": packer.bits} | settings
    packed_llama.set_config(folder, quantization=said, quantization_config=said)
    return held


@pytest.mark.parametrize(
    ("bits", "type"), [(2, "q4_1"), (3, "q4_1"), (4, "q4_1"), (5, "q5_1"), (6, ""), (8, "")]
)
def test_whole_models(tmp_path: Path, shipped_checkpoint: Path, bits: int, type: str) -> None:
    held = packed_llama.expected(write(tmp_path, shipped_checkpoint, Packer(bits)))
    found = packed_llama.converted(tmp_path, "auto" if type else "f32")
    assert found.keys() == held.keys()
    for name, x in held.items():
        if name.startswith("blk") and "norm" not in name:
            assert found[name][0] == (type or "f32")
            np.testing.assert_array_equal(found[name][1], x, err_msg=name)
    if type:
        assert packed_llama.outcome(tmp_path) == [f"mlx: 14 weights repacked exactly (14 {type})"]


def test_modules_that_differ(tmp_path: Path, shipped_checkpoint: Path) -> None:
    """Settings of their own replace those of all."""
    own = {"model.layers.0.mlp.up_proj": {"group_size": 32, "bits": 4}, "model.layers.0.mlp.gate_proj": False}
    held = write(tmp_path, shipped_checkpoint, Packer(4, skip="_proj"), bits=8, group_size=64, **own)
    parts, x = Packer(4)("model.layers.0.mlp.up_proj", held["model.layers.0.mlp.up_proj.weight"])
    held["model.layers.0.mlp.up_proj.weight"] = x
    packed_llama.save(tmp_path, held | parts)
    found = packed_llama.converted(tmp_path)
    assert {name for name, (type, _) in found.items() if type == "q4_1"} == {"blk.0.ffn_up.weight"}
    np.testing.assert_array_equal(found["blk.0.ffn_up.weight"][1], x)


@pytest.mark.parametrize("outtype", ["auto", "f32"])
def test_experts_in_one_tensor(tmp_path: Path, shipped_checkpoint: Path, outtype: str) -> None:
    """As the same model with its experts one by one."""
    model = next(model for model in models() if model.name == "qwen3moe")
    config = model.config | {"quantization": USUAL}
    plain: dict[str, Array] = {}
    for name, x in model.weights().items():
        is_packed = ".experts." in name
        plain |= Packer(4)(name.removesuffix(".weight"), x)[0] if is_packed else {name: x}
    stacked = {name: x for name, x in plain.items() if ".experts." not in name}
    for name in (name for name in plain if ".experts.0." in name):
        ending = name.partition(".experts.0.")
        parts = [
            x
            for key, x in plain.items()
            if key.startswith(ending[0] + ".experts.") and key.endswith(ending[2])
        ]
        stacked[name.replace(".experts.0.", ".switch_mlp.")] = np.stack(parts)
    assert len(stacked) < len(plain)
    made = []
    for folder, tensors in ((tmp_path / "plain", plain), (tmp_path / "stacked", stacked)):
        tiny.write(folder, shipped_checkpoint, config)
        packed_llama.save(folder, tensors, format="mlx")
        made.append(packed_llama.converted(folder, outtype))
    assert made[0].keys() == made[1].keys()
    types = {type for name, (type, _) in made[0].items() if "_exps" in name}
    assert types == {"q4_1" if outtype == "auto" else "f32"}
    for name, (type, x) in made[0].items():
        assert made[1][name][0] == type
        np.testing.assert_array_equal(made[1][name][1], x, err_msg=name)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "ternary"}, "mode 'ternary', ggufpy knows affine, mxfp4"),
        ({"mode": ["affine"]}, "mode"),
        ({"bits": 9}, "has 9 bits in groups of 32"),
        ({"bits": 4.0}, "has 4.0 bits"),
        ({"group_size": 0}, "in groups of 0"),
        ({"bits": 3}, "with 3 bits in groups of 32; they do not belong together"),
        ({"q": {"bits": 4}}, "with 4 bits in groups of 64"),
        ({"mode": "mxfp4"}, "'q.scales' is of f16, it must be of i8"),
        ({"rotation": "hadamard"}, "does not know the quantization's 'rotation'"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    parts, _ = Packer(4)("q", np.zeros((32, 64), np.float32))
    packed_llama.save(tmp_path, parts)
    packed_llama.set_config(tmp_path, quantization=USUAL | settings)
    with pytest.raises((FormatError, UnsupportedModelError), match=message):
        opened(tmp_path)


def test_parts_that_do_not_fit(tmp_path: Path) -> None:
    parts, _ = Packer(4)("q", np.zeros((32, 64), np.float32))
    packed_llama.set_config(tmp_path, quantization=USUAL)
    for name, x, message in (
        ("q.biases", None, r"'q.biases' is missing"),
        ("q.biases", parts["q.biases"][:, :1], r"'q.biases' has shape \(32, 1\)"),
        ("q.weight", parts["q.weight"][:, :7], r"'q.weight' has shape \(32, 7\), 'q.scales' has \(32, 2\)"),
    ):
        changed = parts | {name: x} if x is not None else {key: x for key, x in parts.items() if key != name}
        packed_llama.save(tmp_path, changed)
        with pytest.raises(FormatError, match=message):
            opened(tmp_path)
