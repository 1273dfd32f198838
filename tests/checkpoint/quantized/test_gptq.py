"""GPTQ: every width, both kinds of zero-points, act-order; packed here as the format says, one by one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import packed_llama
import pytest
from numpy.typing import NDArray
from packed_llama import Array, Floats
from safetensors.numpy import load_file

from ggufpy.checkpoint.checkpoint import Checkpoint
from ggufpy.convert.pipeline import plan_conversion
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf import sources

Integers = NDArray[np.int64]

ONE_EACH = {2: 0x55555555, 4: 0x11111111, 8: 0x01010101}
PLANES = {3: (2, 1), 5: (4, 1), 6: (4, 2), 7: (4, 2, 1)}


def packed(codes: Integers, bits: int) -> NDArray[np.int32]:
    """Along the first axis: integer i in bits bits * i on of the words."""
    words = np.zeros((-(-len(codes) * bits // 32), codes.shape[1]), np.uint64)
    for i, row in enumerate(codes.astype(np.uint64)):
        word, shift = divmod(bits * i, 32)
        words[word] |= row << np.uint64(shift) & np.uint64(0xFFFFFFFF)
        if shift + bits > 32:
            words[word + 1] |= row >> np.uint64(32 - shift)
    return words.astype(np.uint32).view(np.int32)


def packed_in_planes(codes: Integers, bits: int) -> NDArray[np.int32]:
    """Of each 32 integers first the lowest bits, then the next ones."""
    out = []
    for block in codes.reshape(-1, 32, codes.shape[1]):
        offset = 0
        for width in PLANES[bits]:
            out.append(packed(block >> offset & (1 << width) - 1, width))
            offset += width
    return np.concatenate(out)


class Packer:
    """Makes a module's tensors from random integers; `settings` are those of its config.json."""

    def __init__(self, settings: Mapping[str, Any], *, order: bool = False, dtype: type = np.float16) -> None:
        self.settings, self.order, self.dtype = settings, order, dtype

    def __call__(self, stem: str, x: Floats) -> tuple[dict[str, Array], Floats]:
        outputs, inputs = x.shape
        bits, size, form = (self.settings[key] for key in ("bits", "group_size", "checkpoint_format"))
        rng = np.random.default_rng(len(stem) + inputs)
        size = inputs if size == -1 else size
        group_of = np.arange(inputs) // size
        if self.order:
            group_of = rng.permutation(group_of)
        groups, middle = group_of.max() + 1, 1 << (bits - 1)
        codes = rng.integers(0, 1 << bits, (inputs, outputs))
        zeros = np.full((groups, outputs), middle)
        if not self.settings["sym"]:
            zeros = rng.integers(0, 1 << bits, (groups, outputs))
        scales: Array = rng.uniform(-0.02, 0.02, (groups, outputs)).astype(self.dtype)
        is_planar = bits in (5, 6, 7) or form == "gptq_p"
        pack = packed_in_planes if is_planar else packed
        qzeros = pack(zeros.T, bits).T.astype(np.int64)
        if form == "gptq" and bits in ONE_EACH:
            qzeros = qzeros - ONE_EACH[bits]
        elif form == "gptq":
            qzeros = pack((zeros.T - 1) % (1 << bits), bits).T.astype(np.int64)
        parts: dict[str, Array] = {
            f"{stem}.qweight": pack(codes, bits),
            f"{stem}.qzeros": (qzeros & 0xFFFFFFFF).astype(np.uint32).view(np.int32),
            f"{stem}.scales": scales,
            f"{stem}.g_idx": group_of.astype(np.int32),
        }
        weight = (codes - zeros[group_of]).T * scales.astype(np.float32)[group_of].T
        return parts, weight.astype(np.float32)


def settings(
    bits: int, *, size: int = 32, sym: bool = True, form: str = "gptq", **more: Any
) -> dict[str, Any]:
    how = {"bits": bits, "group_size": size, "sym": sym, "checkpoint_format": form, "desc_act": False}
    return {"quant_method": "gptq", **how, **more}


CASES = [
    (settings(2), {}, ("q4_0",)),
    (settings(2, size=64), {}, ("q2_0", "q4_0")),  # rows of 96 do not divide into blocks of 64
    (settings(2, size=-1), {}, ("q2_0", "q4_0")),
    (settings(2, sym=False), {}, ("q4_0",)),
    (settings(3), {}, ("q4_0",)),
    (settings(3, sym=False, form="gptq_v2"), {}, ("q4_0",)),
    (settings(3, form="gptq_p"), {}, ("q4_0",)),
    (settings(4), {}, ("q4_0",)),
    (settings(4, size=-1), {}, ("q4_0",)),
    (settings(4, size=16), {}, ("f32",)),
    (settings(4, sym=False), {}, ("q4_1",)),
    (settings(4, sym=False, form="gptq_v2"), {}, ("q4_1",)),
    (settings(4), {"order": True}, ("f32",)),
    (settings(4), {"dtype": np.float32}, ("q4_0",)),
    (settings(5), {}, ("q5_0",)),
    (settings(6, sym=False), {}, ("q8_0",)),
    (settings(7), {}, ("q8_0",)),
    (settings(8), {}, ("q8_0",)),
    (settings(8, sym=False, form="gptq_v2"), {}, ("f32",)),
]


@pytest.mark.parametrize(("how", "kind", "types"), CASES, ids=str)
def test_every_kind(
    tmp_path: Path,
    shipped_checkpoint: Path,
    how: dict[str, Any],
    kind: dict[str, Any],
    types: tuple[str, ...],
) -> None:
    held = packed_llama.write(tmp_path, shipped_checkpoint, how, Packer(how, **kind))
    found = packed_llama.read(tmp_path)
    assert len(found) == 14
    for name, (type, kept, whole) in found.items():
        np.testing.assert_array_equal(whole, held[name], name)
        is_exact = type != "q4_1" and "dtype" not in kind
        np.testing.assert_allclose(kept, whole, rtol=0 if is_exact else 6e-4, atol=0 if is_exact else 2e-4)
    assert {type for type, _, _ in found.values()} == set(types)


def test_a_symmetric_layer_has_the_middle_whatever_its_zeros_say(
    tmp_path: Path, shipped_checkpoint: Path
) -> None:
    """Files that say "gptq" and store 8, and not 7. Source: vLLM's pull request 38966."""
    how = settings(4, form="gptq_v2")
    held = packed_llama.write(tmp_path, shipped_checkpoint, how, Packer(how))
    packed_llama.set_config(tmp_path, quantization_config=settings(4, form="gptq"))
    for name, (_, kept, _) in packed_llama.read(tmp_path).items():
        np.testing.assert_array_equal(kept, held[name], name)


def test_biases_of_modules_that_have_none(tmp_path: Path, shipped_checkpoint: Path) -> None:
    """AutoGPTQ gives zeros to each; what has other numbers in some layer stays."""
    how = settings(4)
    packed_llama.write(tmp_path, shipped_checkpoint, how, Packer(how))
    tensors = load_file(tmp_path / "model.safetensors")
    for stem in [name.removesuffix(".qweight") for name in tensors if name.endswith(".qweight")]:
        is_real = stem == "model.layers.1.self_attn.q_proj"
        tensors[f"{stem}.bias"] = np.full(tensors[f"{stem}.scales"].shape[1], is_real, np.float16)
    packed_llama.save(tmp_path, tensors)
    names = [name for name in Checkpoint.open(tmp_path).tensors if name.endswith(".bias")]
    assert sorted(names) == [f"model.layers.{layer}.self_attn.q_proj.bias" for layer in (0, 1)]


def test_layers_of_several_kinds(tmp_path: Path, shipped_checkpoint: Path) -> None:
    """`dynamic`: 8 bits and other groups for some, one left out, one not symmetric; the head is packed."""
    kinds = {
        "-:.*k_proj": {},
        r"+:.*\.0\..*down": {"bits": 8, "group_size": 96},
        r".*\.1\..*v_proj": {"sym": False},
    }
    how = settings(4, dynamic=kinds, lm_head=True)
    packers = {"down": Packer(settings(8, size=96)), "v_proj": Packer(settings(4, sym=False))}

    def pack(stem: str, x: Floats) -> tuple[Mapping[str, Array], Floats]:
        if "k_proj" in stem:
            return {f"{stem}.weight": x.astype(np.float16)}, x.astype(np.float16).astype(np.float32)
        layer = {"down": ".0.", "v_proj": ".1."}
        packer = next((packers[key] for key in packers if key in stem and layer[key] in stem), Packer(how))
        parts, held = packer(stem, x)
        return {name: part for name, part in parts.items() if not name.endswith("g_idx")}, held

    held = packed_llama.write(tmp_path, shipped_checkpoint, how, pack, head=True)
    want = packed_llama.expected(held)
    found = packed_llama.converted(tmp_path)
    assert {name: found[name][0] for name in found if "norm" not in name and found[name][0] != "q4_0"} == {
        "token_embd.weight": "f16",
        "blk.0.attn_k.weight": "f16",
        "blk.1.attn_k.weight": "f16",
        "blk.0.ffn_down.weight": "q8_0",
        "blk.1.attn_v.weight": "q4_1",
    }
    for name, (type, x) in found.items():
        if type != "q4_1":
            np.testing.assert_array_equal(x, want[name], name)
    lines = packed_llama.outcome(tmp_path)
    assert lines[0] == "gptq: 12 weights repacked exactly (11 q4_0, 1 q8_0)"
    assert lines[1].startswith("gptq: 1 weights repacked nearly (1 q4_1), relative error 0.0002")


def test_named_types_decode_first(tmp_path: Path, shipped_checkpoint: Path) -> None:
    """But for blocks that are of that type already. Nothing is encoded here."""
    how = settings(4)
    packed_llama.write(tmp_path, shipped_checkpoint, how, Packer(how))
    kept, again, auto = (plan_conversion(tmp_path, outtype=type) for type in ("q4_0", "q8_0", "auto"))
    name = "blk.0.ffn_up.weight"
    one, two = (next(each for each in plan.tensors if each.name == name) for plan in (kept, auto))
    assert sources.are_equal(one, two)
    assert kept.of_packed() == ["gptq: 14 weights repacked exactly (14 q4_0)"]
    said = "gptq: 14 weights dequantized and quantized again, which adds errors (14 q8_0)"
    assert again.of_packed() == [said]
    (line,) = packed_llama.outcome(tmp_path, "bf16")
    assert line.startswith("gptq: 14 weights dequantized (14 bf16), relative error 0.00")


BROKEN = [
    ({"qweight": lambda x: x.astype(np.float32)}, r"qweight' is of f32, it must be of i32"),
    ({"qweight": lambda x: x[:-4]}, r"inputs in \d groups"),
    ({"qweight": lambda x: x[:, :-8]}, "do not fit each other"),
    ({"qzeros": lambda x: x[:, :-1]}, "do not fit each other"),
    ({"qzeros": lambda x: x[:-1]}, "do not fit each other"),
    ({"scales": lambda x: x[:, :-1]}, "do not fit each other"),
    ({"scales": lambda x: x[0]}, "do not fit each other"),
    ({"scales": lambda x: x.astype(np.int32)}, "scales' is of i32, it must be of f16 or bf16 or f32"),
    ({"g_idx": lambda x: x + 1}, "names group 2 or 1 of 2"),
    ({"g_idx": lambda x: x[:-1]}, r"g_idx' has shape \(63,\), .*qweight' asks for \(64,\)"),
    ({"qzeros": None}, "qzeros' is missing"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN)
def test_parts_that_do_not_fit(
    tmp_path: Path, shipped_checkpoint: Path, change: dict[str, Callable[[Array], Array] | None], message: str
) -> None:
    how = settings(4)
    packed_llama.write(tmp_path, shipped_checkpoint, how, Packer(how))
    tensors = load_file(tmp_path / "model.safetensors")
    for ending, changed in change.items():
        part = tensors.pop(f"model.layers.0.self_attn.q_proj.{ending}")
        if changed:
            tensors[f"model.layers.0.self_attn.q_proj.{ending}"] = changed(part)
        if ending == "qweight":  # else its number of inputs is said to be another
            del tensors["model.layers.0.self_attn.q_proj.g_idx"]
    packed_llama.save(tmp_path, tensors)
    with pytest.raises(FormatError, match=message):
        packed_llama.read(tmp_path)


def test_scales_that_are_no_numbers(tmp_path: Path, shipped_checkpoint: Path) -> None:
    how = settings(4)
    packed_llama.write(tmp_path, shipped_checkpoint, how, Packer(how))
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.layers.0.self_attn.q_proj.scales"][0, 0] = np.nan
    packed_llama.save(tmp_path, tensors)
    with pytest.raises(FormatError, match=r"blk\.0\.attn_q\.weight' has NaN or Inf"):
        packed_llama.converted(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checkpoint_format": "marlin"}, "checkpoint_format is 'marlin' .* knows gptq, gptq_v2, gptq_p"),
        ({"pack_dtype": "int64"}, "pack_dtype is 'int64'"),
        ({"rotation": "hadamard"}, "does not know the quantization's 'rotation'"),
        ({"new_thing": 3}, "does not know the quantization's 'new_thing'"),
        ({"group_size": "32"}, "group_size is '32', it must be -1 or a positive number"),
        ({"dynamic": {"(": {}}}, "is not a regular expression"),
        ({"dynamic": {"mlp": True}}, "it must be an object of objects"),
        ({"dynamic": [1]}, "it must be an object of objects"),
    ],
)
def test_settings_that_are_not_known(
    tmp_path: Path, shipped_checkpoint: Path, changes: dict[str, Any], message: str
) -> None:
    how = settings(4)
    packed_llama.write(tmp_path, shipped_checkpoint, {**how, **changes}, Packer(how))
    with pytest.raises((UnsupportedModelError, FormatError), match=message):
        packed_llama.read(tmp_path)


def test_act_order_needs_its_order(tmp_path: Path, shipped_checkpoint: Path) -> None:
    how = settings(4, desc_act=True)

    def pack(stem: str, x: Floats) -> tuple[Mapping[str, Array], Floats]:
        parts, held = Packer(how)(stem, x)
        return {name: part for name, part in parts.items() if not name.endswith("g_idx")}, held

    packed_llama.write(tmp_path, shipped_checkpoint, how, pack)
    with pytest.raises(FormatError, match="g_idx' is missing"):
        packed_llama.read(tmp_path)


def test_settings_in_a_file_of_their_own(tmp_path: Path, shipped_checkpoint: Path) -> None:
    """What AutoGPTQ wrote before config.json had it, and what it called its weights."""
    how = settings(4)
    held = packed_llama.write(tmp_path, shipped_checkpoint, how, Packer(how))
    packed_llama.set_config(tmp_path)
    del how["quant_method"], how["checkpoint_format"]
    (tmp_path / "quantize_config.json").write_text(json.dumps(how))
    (tmp_path / "model.safetensors").rename(tmp_path / "gptq_model-4bit-32g.safetensors")
    for name, (type, kept, _) in packed_llama.read(tmp_path).items():
        assert type == "q4_0"
        np.testing.assert_array_equal(kept, held[name], name)
