"""Converting: every form, type and dress of a checkpoint; failures that leave nothing behind."""

import json
import math
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import tiny
from conversion import LLAMA3, convert_and_compare, file_type
from tiny import CONFIG

from ggufpy import quants
from ggufpy.convert.pipeline import convert_checkpoint, plan_conversion
from ggufpy.errors import FormatError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.quants.choice import planning
from ggufpy.quants.choice.presets import find_preset

OUTTYPES = ("auto", "f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k_m", "q2_k")


@pytest.mark.parametrize("outtype", OUTTYPES)
def test_every_type(tmp_path: Path, shipped_checkpoint: Path, outtype: str) -> None:
    file = convert_and_compare(tmp_path, shipped_checkpoint, CONFIG, outtype, biases=True)
    label = file_type(outtype, {})
    assert file.path == tmp_path / f"{tmp_path.name}-{label}.gguf"
    assert file.metadata["general.file_type"] == find_preset(label).id


@pytest.mark.parametrize("torch", [False, True], ids=["safetensors", "torch"])
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
def test_every_form(tmp_path: Path, shipped_checkpoint: Path, torch: bool, shards: int, dtype: str) -> None:
    form = {"dtype": dtype, "shards": shards, "torch": torch}
    convert_and_compare(tmp_path, shipped_checkpoint, CONFIG, "q8_0", **form)
    convert_and_compare(tmp_path, shipped_checkpoint, CONFIG, "auto", **form)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_key_value_heads": 4},
        {"num_key_value_heads": 1, "head_dim": 32},
        {"tie_word_embeddings": True},
        {"hidden_size": 80, "intermediate_size": 100},
        {"architectures": ["MistralForCausalLM"], "head_dim": None, "sliding_window": 128},
        {"rope_scaling": LLAMA3},
    ],
    ids=str,
)
def test_every_dress(tmp_path: Path, shipped_checkpoint: Path, changes: dict[str, Any]) -> None:
    for outtype in ("f16", "q4_0"):
        file = convert_and_compare(tmp_path, shipped_checkpoint, CONFIG | changes, outtype, biases=True)
        config = CONFIG | changes
        size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        assert file.metadata["general.architecture"] == "llama"
        assert file.metadata["llama.attention.key_length"] == size
        assert file.metadata["llama.attention.head_count_kv"] == config["num_key_value_heads"]


def test_rows_that_blocks_do_not_divide_become_f16(tmp_path: Path, shipped_checkpoint: Path) -> None:
    config = CONFIG | {"intermediate_size": 100}
    file = convert_and_compare(tmp_path, shipped_checkpoint, config, "q5_1")
    assert file.tensors["blk.0.ffn_down.weight"].type is GGMLType.F16
    assert file.tensors["blk.0.ffn_up.weight"].type is GGMLType.Q5_1


# ---- the shipped model, and llama.cpp's own files of it


@pytest.mark.parametrize("outtype", ["q8_0", "q4_0", "q4_k_m"])
def test_blocks_and_metadata_of_llama_cpp(
    tmp_path: Path, shipped_checkpoint: Path, shared: Path, outtype: str
) -> None:
    (path,) = convert_checkpoint(shipped_checkpoint, tmp_path, outtype=outtype)
    name = f"pocket-wiki-7m-chat-{outtype}.gguf"
    assert path == tmp_path / name
    theirs_path = shared / "conformance" / "eval" / name
    with GGUFFile.open(path) as ours, GGUFFile.open(theirs_path) as theirs:
        for key, value in theirs.metadata.items():
            assert ours.metadata[key] == value, key
            assert ours.value_types[key] is theirs.value_types[key], key
        assert list(ours.tensors) == list(theirs.tensors)
        for name, tensor in theirs.tensors.items():
            assert ours.tensors[name].type is tensor.type, name
            assert ours.tensors[name].data.tobytes() == tensor.data.tobytes(), name


def test_the_gguf_package_reads_our_files(tmp_path: Path, shipped_checkpoint: Path) -> None:
    (path,) = convert_checkpoint(shipped_checkpoint, tmp_path / "x.gguf", outtype="q5_0")
    reader = gguf.GGUFReader(path)
    with GGUFFile.open(path) as ours:
        for tensor in reader.tensors:
            info = ours.tensors[tensor.name]
            assert np.asarray(tensor.data).tobytes() == info.data.tobytes()
            assert tuple(map(int, reversed(tensor.shape))) == info.shape


# ---- failures leave nothing behind


class Broken(Exception):
    pass


def failing(error: BaseException) -> Callable[..., TensorSource]:
    """`quantized`, except that the rows of one tensor cannot be read."""

    def fail(start: int, stop: int) -> Any:
        raise error

    def wrapped(source: TensorSource, type: GGMLType, *arguments: Any, **options: Any) -> TensorSource:
        result = quants.quantized(source, type, *arguments, **options)
        return replace(result, read=fail) if source.name == "blk.1.ffn_up.weight" else result

    return wrapped


@pytest.mark.parametrize(
    "error", [Broken(), KeyboardInterrupt(), FormatError("x")], ids=lambda e: type(e).__name__
)
@pytest.mark.parametrize("split", [None, 200_000])
def test_a_failure_leaves_the_old_file(
    tmp_path: Path,
    shipped_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    split: int | None,
) -> None:
    tiny.checkpoint(tmp_path / "model", shipped_checkpoint)
    (tmp_path / "out").mkdir()
    old = tmp_path / "out" / "x.gguf"
    old.write_text("old")
    monkeypatch.setattr(planning, "quantized", failing(error))
    with pytest.raises(type(error)):
        convert_checkpoint(tmp_path / "model", old, outtype="q8_0", split_max_size=split)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x.gguf"]
    assert old.read_text() == "old"


def test_nan_in_a_checkpoint_names_the_tensor(tmp_path: Path, shipped_checkpoint: Path) -> None:
    weights = tiny.checkpoint(tmp_path, shipped_checkpoint)
    weights["model.layers.1.mlp.up_proj.weight"][3, 3] = np.nan
    tiny.save(tmp_path, weights)
    with pytest.raises(FormatError, match=r"tensor 'blk\.1\.ffn_up\.weight': q4_1 cannot hold NaN or Inf"):
        convert_checkpoint(tmp_path, outtype="q4_1")
    with pytest.raises(FormatError, match=r"tensor 'blk\.1\.ffn_up\.weight' has NaN or Inf"):
        convert_checkpoint(tmp_path, outtype="bf16")
    assert not list(tmp_path.glob("*gguf*"))


# ---- the command


def test_memory_stays_at_a_few_slabs(tmp_path: Path, shipped_checkpoint: Path) -> None:
    """A model with a tensor of 67 MB, in less than that; the weight file is a hole, so it costs nothing."""
    config = CONFIG | {"hidden_size": 8192, "num_hidden_layers": 1, "intermediate_size": 32, "head_dim": 32}
    tiny.checkpoint(tmp_path, shipped_checkpoint)
    (tmp_path / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    header, end = {}, 0
    for name, shape in tiny.shapes(config | {"tie_word_embeddings": True}).items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    tiny.write_safetensors(tmp_path / "model.safetensors", header, b"")
    with (tmp_path / "model.safetensors").open("r+b") as stream:
        stream.truncate(stream.seek(0, 2) + end)
    plan = plan_conversion(tmp_path, outtype="q8_0")
    tracemalloc.start()
    plan.write()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert max(each.source.n_bytes for each in plan.planned) == 4096 * 8192 * 2
    assert peak < 48 << 20
