"""compressed-tensors: old and new words, zero-points of all kinds, orders of groups, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import packed_llama
import pytest
from packed_llama import Array, Floats
from test_libraries import opened

from ggufpy.errors import FormatError, UnsupportedModelError


def in_words(codes: Array, bits: int, *, is_dense: bool) -> Array:
    """Along rows; a word has as many whole integers as fit, or all are one string of bits."""
    rows, n = codes.shape
    per_word = 32 // bits
    words = np.zeros((rows, -(-n * bits // 32) if is_dense else -(-n // per_word)), np.uint64)
    for i in range(n):
        column = codes[:, i].astype(np.uint64)
        word, shift = divmod(bits * i, 32) if is_dense else (i // per_word, bits * (i % per_word))
        words[:, word] |= column << np.uint64(shift) & np.uint64(0xFFFFFFFF)
        if shift + bits > 32:
            words[:, word + 1] |= column >> np.uint64(32 - shift)
    return words.astype(np.uint32).view(np.int32)


class Packer:
    """zeros: how they are stored, "packed", "plain" or not at all. order: groups of any columns."""

    def __init__(
        self, bits: int, *, dense: bool = True, zeros: str = "", order: bool = False, group: int = 32
    ) -> None:
        self.bits, self.dense, self.zeros, self.order, self.group = bits, dense, zeros, order, group

    def __str__(self) -> str:
        return ",".join(f"{name}={value}" for name, value in vars(self).items())

    def __call__(self, stem: str, x: Floats) -> tuple[dict[str, Array], Floats]:
        rng = np.random.default_rng(len(stem))
        (rows, columns), half = x.shape, 1 << (self.bits - 1)
        codes = rng.integers(0, 2 * half, x.shape)
        groups = columns // self.group
        group_of = np.arange(columns) // self.group
        scales = rng.uniform(0.01, 0.02, (rows, groups)).astype(np.float16)
        zeros = rng.integers(0, 2 * half if self.zeros else half + 1, (rows, groups))
        zeros = zeros if self.zeros else np.full_like(zeros, half)
        parts: dict[str, Array] = {
            f"{stem}.weight_packed": in_words(codes, self.bits, is_dense=self.dense),
            f"{stem}.weight_scale": scales,
            f"{stem}.weight_shape": np.array(x.shape, np.int64),
        }
        if self.zeros == "packed":
            parts[f"{stem}.weight_zero_point"] = in_words(zeros.T, self.bits, is_dense=self.dense).T
        elif self.zeros:
            parts[f"{stem}.weight_zero_point"] = (zeros - half).astype(np.int8)
        if self.order:
            group_of = rng.permutation(group_of)
            parts[f"{stem}.weight_g_idx"] = group_of.astype(np.int32)
        weight = (codes - zeros[:, group_of]) * scales.astype(np.float32)[:, group_of]
        return parts, weight.astype(np.float32)

    @property
    def settings(self) -> dict[str, Any]:
        weights = {"num_bits": self.bits, "type": "int", "strategy": "group", "group_size": self.group}
        weights |= {"symmetric": not self.zeros, "actorder": "group" if self.order else None}
        return settings({"targets": ["Linear"], "weights": weights})


def settings(*groups: dict[str, Any], **more: Any) -> dict[str, Any]:
    config = {f"group_{i}": group for i, group in enumerate(groups)}
    usual = {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": config}
    return usual | {"quantization_status": "compressed", "sparsity_config": {}} | more


@pytest.mark.parametrize(
    ("packer", "type"),
    [
        (Packer(4), "q4_0"),
        (Packer(3, dense=False), "q4_0"),
        (Packer(3), "q4_0"),
        (Packer(5, dense=False), "q5_0"),
        (Packer(6, dense=False), "q8_0"),
        (Packer(8), "q8_0"),
        (Packer(7), "q8_0"),
        (Packer(5, dense=False, zeros="packed"), "q8_0"),
        (Packer(6, zeros="packed"), "q8_0"),
        (Packer(8, zeros="packed"), ""),
        (Packer(5, zeros="plain"), "q8_0"),
        (Packer(4, order=True), ""),
        (Packer(4, group=16), ""),
    ],
    ids=str,
)
def test_exact_ones(tmp_path: Path, shipped_checkpoint: Path, packer: Packer, type: str) -> None:
    held = packed_llama.write(tmp_path, shipped_checkpoint, packer.settings, packer)
    found = packed_llama.converted(tmp_path, "auto" if type else "f32")
    for name, x in packed_llama.expected(held).items():
        if name.startswith("blk") and "norm" not in name:
            assert found[name][0] == (type or "f32")
            np.testing.assert_array_equal(found[name][1], x, err_msg=name)


@pytest.mark.parametrize("zeros", ["packed", "plain"])
def test_zero_points_of_four_bits(tmp_path: Path, shipped_checkpoint: Path, zeros: str) -> None:
    """q4_1 has their product with the scale in f16."""
    packer = Packer(4, zeros=zeros)
    held = packed_llama.write(tmp_path, shipped_checkpoint, packer.settings, packer)
    (line,) = packed_llama.outcome(tmp_path)
    start = "compressed-tensors: 14 weights repacked nearly (14 q4_1), relative error "
    assert line.startswith(start) and 1e-5 < float(line.removeprefix(start)) < 1e-3
    for outtype, tolerance in (("auto", 2e-3), ("f32", 0)):
        found = packed_llama.converted(tmp_path, outtype)
        for name, x in packed_llama.expected(held).items():
            if name.startswith("blk") and "norm" not in name:
                np.testing.assert_allclose(found[name][1], x, atol=tolerance, err_msg=name)


def test_bytes_with_zero_points(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(-128, 128, (64, 32), np.int8)
    scales, zeros = rng.uniform(1, 2, (64, 1)).astype(np.float16), rng.integers(-9, 9, (64, 1), np.int8)
    weights = {"num_bits": 8, "strategy": "channel", "symmetric": False}
    config = settings({"targets": ["re:.*q$"], "weights": weights}, format="int-quantized")
    parts: dict[str, Array] = {"q.weight": codes, "q.weight_scale": scales, "q.weight_zero_point": zeros}
    save(tmp_path, parts, config)
    found = opened(tmp_path).weights["q.weight"].source
    expected = (codes.astype(np.float32) - zeros) * scales.astype(np.float32)
    np.testing.assert_array_equal(found.read(0, 64).view("<f4"), expected)
    np.testing.assert_array_equal(found.read(20, 40).view("<f4"), expected[20:40])
    save(tmp_path, parts | {"q.weight_zero_point": 0 * zeros}, config)
    assert opened(tmp_path).weights["q.weight"].source.type.label == "q8_0"


def save(folder: Path, tensors: dict[str, Array], config: dict[str, Any]) -> None:
    packed_llama.save(folder, tensors)
    packed_llama.set_config(folder, quantization_config=config)


GROUP = {"targets": ["Linear"], "weights": {"num_bits": 4, "strategy": "group", "group_size": 32}}


def test_names_come_before_kinds(tmp_path: Path) -> None:
    parts: dict[str, Array] = {}
    for bits, stem in ((4, "a.q"), (8, "a.k"), (6, "a.v")):
        parts |= Packer(bits)(stem, np.zeros((32, 64), np.float32))[0]
    eight = {**GROUP["weights"], "num_bits": 8}  # type: ignore[dict-item]
    six = {**GROUP["weights"], "num_bits": 6}  # type: ignore[dict-item]
    groups = GROUP, {"targets": ["a.k"], "weights": eight}, {"targets": ["re:.*[.]v"], "weights": six}
    save(tmp_path, parts, settings(*groups))
    types = {name: weight.source.type.label for name, weight in opened(tmp_path).weights.items()}
    assert types == {"a.q.weight": "q4_0", "a.k.weight": "q8_0", "a.v.weight": "q8_0"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "marlin-24"}, "format is 'marlin-24'"),
        ({"quantization_status": "initialized"}, "quantization_status is 'init"),
        ({"sparsity_config": {"format": "sparse-24-bitmask"}}, "packed as sparse ones"),
        ({"transform_config": {"config_groups": {"R1": {}}}}, "does not know .* 'transform_config'"),
        ({"config_groups": {}}, "no group of its quantization is of 'q', which is quantized"),
        ({"config_groups": [1]}, "config_groups of its quantization must be objects"),
        ({"config_groups": {"0": {"targets": ["re:["], "weights": {}}}}, "no group of its quantization"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    parts, _ = Packer(4)("q", np.zeros((32, 64), np.float32))
    save(tmp_path, parts, settings(GROUP) | change)
    with pytest.raises((FormatError, UnsupportedModelError), match=message):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "fp"}, "quantized by 'fp' of 4 bits"),
        ({"num_bits": "4"}, "of '4' bits"),
        ({"num_bits": 9}, "of 9 bits"),
        ({"strategy": "token"}, "strategy 'token'"),
        ({"group_size": "x"}, r"blocks of \[1, 'x'\]"),
        ({"strategy": "block", "block_structure": "8"}, r"blocks of \[8\]"),
        ({"strategy": "block", "block_structure": 7}, "blocks of 7,"),
        ({"group_size": 10**30}, r"blocks of \[1, 10000"),
        ({"strategy": "channel"}, "they do not belong together"),
        ({"group_size": 24}, "they do not belong together"),
        ({"num_bits": 5}, "has 8 words for 64 integers of 5 bits"),
        ({"type": "float"}, "is of i32, it must be of i8"),
        ({"type": "float", "num_bits": 6}, "is of i32, it must be of i8"),
        ({"type": "float", "num_bits": 5}, "has floats of 5 bits"),
    ],
)
def test_weights_that_cannot_be(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    parts, _ = Packer(4)("q", np.zeros((32, 64), np.float32))
    weights = {**GROUP["weights"], **change}  # type: ignore[dict-item]
    save(tmp_path, parts, settings({"targets": ["Linear"], "weights": weights}))
    with pytest.raises((FormatError, UnsupportedModelError), match=message):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("shape", np.array([31, 64]), r"has shape \(32, 8\), 'q.weight_shape' says \(31, 64\)"),
        ("shape", np.array([32, -64]), "has 8 words for -64 integers of 4 bits"),
        ("shape", np.array([32, 65]), "has 8 words for 65 integers of 4 bits"),
        ("shape", np.array([32]), "has shape"),
        ("g_idx", np.full(64, 2, np.int32), "names group 2 or 2 of 2"),
        ("g_idx", np.zeros(63, np.int32), "has shape"),
        ("zero_point", np.zeros((5, 2), np.int32), "has 5 words for 32 integers of 4 bits"),
        ("zero_point", np.zeros((4, 3), np.int32), "tensors of one weight do not fit each other"),
        ("scale", np.zeros((16, 2), np.int32), "is of i32, it must be of"),
    ],
)
def test_parts_that_do_not_fit(tmp_path: Path, part: str, value: Array, message: str) -> None:
    parts, _ = Packer(4)("q", np.zeros((32, 64), np.float32))
    save(tmp_path, parts | {f"q.weight_{part}": value}, settings(GROUP))
    with pytest.raises(FormatError, match=message):
        opened(tmp_path)


def test_an_order_of_groups_that_is_none(tmp_path: Path) -> None:
    """Old versions wrote -1 for all columns where there is no act-order."""
    parts, _ = Packer(4)("q", np.zeros((32, 64), np.float32))
    save(tmp_path, parts | {"q.weight_g_idx": np.full(64, -1, np.int32)}, settings(GROUP))
    assert opened(tmp_path).weights["q.weight"].source.type.label == "q4_0"


def test_bytes_of_more_bits_than_said(tmp_path: Path) -> None:
    parts: dict[str, Array] = {"q.weight": np.full((32, 32), 8, np.int8)}
    parts["q.weight_scale"] = np.ones((32, 1), np.float16)
    weights = {"num_bits": 4, "strategy": "channel"}
    save(tmp_path, parts, settings({"targets": ["Linear"], "weights": weights}))
    source = opened(tmp_path).weights["q.weight"].source
    with pytest.raises(FormatError, match=r"'q.weight' has numbers of more than 4 bits"):
        source.read(0, 1)


def test_floats_of_six_bits_and_other_scales(tmp_path: Path) -> None:
    parts: dict[str, Array] = {"q.weight_packed": np.zeros((4, 48), np.uint8)}
    weights = {"num_bits": 6, "type": "float", "strategy": "group", "group_size": 32}
    config = settings({"targets": ["Linear"], "weights": weights}, format="mxfp6-pack-quantized")
    for groups, fits in ((2, True), (3, False)):
        save(tmp_path, parts | {"q.weight_scale": np.full((4, groups), 127, np.uint8)}, config)
        if fits:
            assert opened(tmp_path).weights["q.weight"].source.shape == (4, 64)
        else:
            with pytest.raises(FormatError, match="tensors of one weight do not fit each other"):
                opened(tmp_path)
