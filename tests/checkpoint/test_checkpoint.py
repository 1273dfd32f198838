"""Reading checkpoints: every form of weight file, and one clear line for what is wrong with one."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from tiny import (
    CONFIG,
    as_floats,
    folder_with_config,
    save,
    save_safetensors,
    some_tensors,
    values,
    write_safetensors,
)

from ggufpy.checkpoint.checkpoint import Checkpoint
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.types import GGMLType


@pytest.mark.parametrize("torch", [False, True], ids=["safetensors", "torch"])
@pytest.mark.parametrize("shards", [1, 3])
def test_every_form_of_weights(tmp_path: Path, torch: bool, shards: int) -> None:
    tensors = some_tensors()
    save(folder_with_config(tmp_path), tensors, shards=shards, torch=torch)
    opened = Checkpoint.open(tmp_path)
    assert opened.config == CONFIG
    assert list(opened.tensors) == list(tensors)
    for name, x in tensors.items():
        source = opened.tensors[name]
        assert source.name == name and source.shape == (x.shape or (1,))
        np.testing.assert_array_equal(values(source), as_floats(x).reshape(source.shape))
        if source.rows > 1:
            np.testing.assert_array_equal(source.read(1, 2), source.read(0, source.rows)[1:2])


def test_shards_without_an_index(tmp_path: Path) -> None:
    save(folder_with_config(tmp_path), some_tensors(), shards=2)
    (tmp_path / "model.safetensors.index.json").unlink()
    assert len(Checkpoint.open(tmp_path).tensors) == 6
    (tmp_path / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(FormatError, match="not all parts"):
        Checkpoint.open(tmp_path)


def test_files_of_the_safetensors_package(tmp_path: Path) -> None:
    tensors = {name: x for name, x in some_tensors().items() if x.dtype != np.uint16}
    tensors |= {"empty": np.zeros((0, 4), np.float32), "ids": np.arange(5)}
    tensors["small"] = np.arange(5, dtype=np.int8)
    safetensors.numpy.save_file(tensors, folder_with_config(tmp_path) / "model.safetensors")
    opened = Checkpoint.open(tmp_path).tensors
    assert opened.keys() == tensors.keys()
    for name in ("a.weight", "b.weight", "d.bias"):
        np.testing.assert_array_equal(values(opened[name]), as_floats(tensors[name]))
    assert opened["ids"].type is GGMLType.I64 and opened["small"].type is GGMLType.I8
    assert opened["ids"].read(0, 1).tobytes() == tensors["ids"].tobytes()


def test_the_shipped_checkpoint_against_the_safetensors_package(shipped_checkpoint: Path) -> None:
    opened = Checkpoint.open(shipped_checkpoint)
    assert opened.generation_config["top_p"] == 0.9
    with safetensors.safe_open(shipped_checkpoint / "model.safetensors", "np") as file:
        assert set(file.keys()) == opened.tensors.keys()
        for name, source in opened.tensors.items():
            assert source.type is GGMLType.BF16
            assert source.shape == tuple(file.get_slice(name).get_shape())


# ---- what is wrong with a folder


def test_folders_that_are_no_checkpoint(tmp_path: Path) -> None:
    for path, message in (
        (tmp_path / "nowhere", "does not exist; give the folder"),
        (tmp_path, "no config.json there; give the folder"),
    ):
        with pytest.raises(FormatError, match=message):
            Checkpoint.open(path)
    folder_with_config(tmp_path)
    with pytest.raises(FormatError, match="is a file; give the folder"):
        Checkpoint.open(tmp_path / "config.json")
    with pytest.raises(
        FormatError, match=r"no weights there, neither model\.safetensors nor pytorch_model\.bin"
    ):
        Checkpoint.open(tmp_path)
    assert Checkpoint.open(tmp_path, weights=False).tensors == {}


@pytest.mark.parametrize(
    "text",
    ["", "[1]", "{", '{"a": }', "\xff", "[" * 100_000, '{"a": "\\ud800"}', '{"a": ' + "9" * 5000 + "}"],
)
def test_broken_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(FormatError, match=r"config\.json is not (valid JSON|a JSON object)"):
        Checkpoint.open(tmp_path)


def test_json_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8-sig")
    assert Checkpoint.open(tmp_path, weights=False).config == CONFIG


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"quantization_config": {"quant_method": "aqlm"}}, "quantized by aqlm; convert the checkpoint"),
        ({"text_config": {"quantization_config": {"quant_method": "quark"}}}, "quantized by quark"),
        ({"quantization_config": {"bits": 4}}, "no quant_method is named"),
        ({"quantization_config": 4}, "quantization_config is 4, it must be an object"),
        ({"text_config": [4]}, r"text_config is \[4\], it must be an object"),
        ({"quantization_config": {"quant_method": 4}}, "quant_method is 4, it must be a name"),
    ],
)
def test_quantized_checkpoints_are_named_before_their_tensors(
    tmp_path: Path, config: dict[str, object], message: str
) -> None:
    write_safetensors(tmp_path / "model.safetensors", {"w": entry(0, 24, dtype="F4")}, bytes(24))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | config))
    with pytest.raises((UnsupportedModelError, FormatError), match=message):
        Checkpoint.open(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"quantization_config": {}}))
    with pytest.raises(UnsupportedModelError, match="has dtype 'F4'"):
        Checkpoint.open(tmp_path)
    (tmp_path / "quantize_config.json").write_text('{"is_marlin_format": true}')
    (tmp_path / "model.safetensors").unlink()
    write_safetensors(tmp_path / "model.safetensors", {"w": entry(0, 24)}, bytes(24))
    with pytest.raises(UnsupportedModelError, match=r"quantize_config\.json: .* know .*'is_marlin_format'"):
        Checkpoint.open(tmp_path)


def test_an_adapter_is_named(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    for prepare in (lambda: None, lambda: folder_with_config(tmp_path)):
        prepare()
        with pytest.raises(FormatError, match=r"a LoRA adapter of org/base .*; merge it into its base"):
            Checkpoint.open(tmp_path)
    save(tmp_path, some_tensors())
    assert Checkpoint.open(tmp_path).adapts == "org/base"


def test_what_helps_where_no_checkpoint_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FormatError, match="get one first: hf download Org/Name --local-dir Name"):
        Checkpoint.open(Path("Org/Name"))
    (tmp_path / "0_Transformer").mkdir()
    folder_with_config(tmp_path / "0_Transformer")
    with pytest.raises(FormatError, match="in its folder 0_Transformer; give that"):
        Checkpoint.open(tmp_path)
    (tmp_path / "0_Transformer" / "config.json").unlink()
    (tmp_path / "params.json").write_text("{}")
    with pytest.raises(
        FormatError, match=r"no weights there, neither consolidated\.safetensors nor consolidated"
    ):
        Checkpoint.open(tmp_path)


def test_the_only_variant_of_the_weights_is_read(tmp_path: Path) -> None:
    save_safetensors(folder_with_config(tmp_path) / "model.fp16.safetensors", some_tensors())
    assert len(Checkpoint.open(tmp_path).tensors) == 6
    save_safetensors(tmp_path / "model.bf16.safetensors", some_tensors())
    with pytest.raises(FormatError, match=r"several weights, model\.bf16\.safetensors and 1 more"):
        Checkpoint.open(tmp_path)


def test_masks_are_read_as_bytes(tmp_path: Path) -> None:
    tensors = {"mask": np.ones((2, 3), bool)}
    safetensors.numpy.save_file(tensors, folder_with_config(tmp_path) / "model.safetensors")
    assert Checkpoint.open(tmp_path).tensors["mask"].type is GGMLType.I8


def test_an_index_that_does_not_fit(tmp_path: Path) -> None:
    save(folder_with_config(tmp_path), some_tensors(), shards=2)
    index = tmp_path / "model.safetensors.index.json"
    good = json.loads(index.read_text())["weight_map"]
    first, second = sorted(set(good.values()))
    for weight_map, message in (
        ({}, "has no weight_map"),
        ([1], "has no weight_map"),
        (good | {"a.weight": "../x"}, r"names '\.\./x', which is not a file beside it"),
        (good | {"a.weight": 7}, "names 7"),
        (good | {"a.weight": "gone"}, r"gone: missing, though model\.safetensors\.index\.json names it"),
        (good | {"z": first}, "names tensors that are not there: 'z'"),
        ({"c.weight": first}, "lacks tensors that are there: 'a.weight' and 1 more"),
        (good | {"a.weight": second}, "names another file for: 'a.weight'"),
    ):
        index.write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(FormatError, match=message):
            Checkpoint.open(tmp_path)
    index.unlink()
    (tmp_path / second).write_bytes((tmp_path / first).read_bytes())
    with pytest.raises(FormatError, match="is in another shard, too"):
        Checkpoint.open(tmp_path)


# ---- what is wrong with a safetensors file


def entry(begin: int, end: int, **fields: object) -> dict[str, object]:
    return {"dtype": "F32", "shape": (2, 3), "data_offsets": [begin, end], **fields}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ([], "does not begin with"),
        (b"{", "header is not valid JSON"),
        (b'{"w": 1, "w": 2}', "'w' is there twice"),
        ({"w": 1}, "tensor 'w' needs dtype, shape and data_offsets"),
        ({"w": {"dtype": "F32", "shape": [6]}}, "tensor 'w' needs dtype"),
        ({"w": entry(0, 24, extra=1)}, "tensor 'w' needs dtype"),
        ({"w": entry(0, 24, shape=[2, -3])}, "has shape"),
        ({"w": entry(0, 24, shape=[True, 6])}, "has shape"),
        ({"w": entry(0, 24, shape=[1] * 9)}, "has shape"),
        ({"w": entry(0, 24, shape="2 3")}, "has shape"),
        ({"w": entry(0, 24, shape=[2.0, 3])}, "has shape"),
        ({"w": entry(24, 0)}, "has data_offsets"),
        ({"w": entry(0, 24) | {"data_offsets": [0, 12, 24]}}, "has data_offsets"),
        ({"w": entry(0, 24, dtype=["F32"])}, "has dtype"),
        ({"w": entry(0, 24, dtype="F4")}, "has dtype 'F4'; ggufpy reads F64"),
        ({"w": entry(0, 20)}, "takes 24 bytes but has 20"),
        ({"w": entry(0, 24, dtype="F16")}, "takes 12 bytes but has 24"),
        ({"w": entry(0, 24, shape=[1 << 40, 1 << 40])}, "takes"),
        ({"w": entry(4, 28)}, "at 4 leaves a gap"),
        ({"v": entry(0, 24), "w": entry(20, 44)}, "tensor 'w' at 20 overlaps"),
        ({"v": entry(0, 24), "w": entry(24, 48)}, "its tensors take 48 bytes, the file has 28"),
        ({"v": entry(0, 24)}, "its tensors take 24 bytes, the file has 28"),
        ({}, "its tensors take 0 bytes"),
    ],
)
def test_damaged_safetensors(tmp_path: Path, header: object, message: str) -> None:
    write_safetensors(folder_with_config(tmp_path) / "model.safetensors", header, bytes(28))
    with pytest.raises((FormatError, UnsupportedModelError), match=message) as error:
        Checkpoint.open(tmp_path)
    assert str(tmp_path / "model.safetensors") in str(error.value) and "\n" not in str(error.value)


def test_truncated_safetensors(tmp_path: Path) -> None:
    path = folder_with_config(tmp_path) / "model.safetensors"
    save_safetensors(path, some_tensors())
    whole = path.read_bytes()
    for size in (*range(24), len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(FormatError, match=r"model\.safetensors"):
            Checkpoint.open(tmp_path)
    path.write_bytes(struct.pack("<Q", 1 << 63) + whole[8:])
    with pytest.raises(FormatError, match="a header of 9223372036854775808 bytes cannot be"):
        Checkpoint.open(tmp_path)


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = folder_with_config(tmp_path) / "model.safetensors"
    save_safetensors(path, some_tensors())
    source = Checkpoint.open(tmp_path).tensors["f.weight"]
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(FormatError, match="within a tensor"):
        source.read(0, source.rows)
