"""Quantizing files: llama-quantize's own results, one step and two, everything that is refused."""

import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import random_llama
from numpy.typing import NDArray
from oracle import Oracle, needs_oracle
from quantizing import logits, matrix_for, types, wide_checkpoint
from random_llama import TOKENS, nmse

from ggufpy import convert_checkpoint, estimate_size, quantize_file
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType as T
from ggufpy.gguf.values import Typed, ValueType
from ggufpy.gguf.writer import write_gguf
from ggufpy.quants import decode, encode
from ggufpy.quants.choice.presets import PRESETS
from ggufpy.quants.file import plan_quantization

Floats = NDArray[np.float32]


def same_tensors(ours: Path, theirs: Path) -> None:
    with GGUFFile.open(ours) as one, GGUFFile.open(theirs) as other:
        assert list(one.tensors) == list(other.tensors)
        for name, tensor in other.tensors.items():
            assert one.tensors[name].type is tensor.type, name
            assert one.tensors[name].data.tobytes() == tensor.data.tobytes(), name


# ---- llama-quantize's files


@pytest.mark.parametrize("type", ["q8_0", "q4_0", "q4_k_m"])
def test_the_shipped_model_as_llama_quantize_has_it(
    shared: Path, tmp_path: Path, f16: Path, type: str
) -> None:
    (path,) = quantize_file(f16, tmp_path / "x.gguf", type)
    theirs = shared / "conformance" / "eval" / f"pocket-wiki-7m-chat-{type}.gguf"
    same_tensors(path, theirs)
    with GGUFFile.open(path) as ours, GGUFFile.open(theirs) as other:
        assert ours.metadata["general.file_type"] == other.metadata["general.file_type"]
        assert list(ours.metadata)[-2:] == ["general.quantization_version", "general.file_type"]


@pytest.mark.parametrize("type", ["q8_0", "q4_0", "q4_k", "q6_k"])
def test_whole_files_are_llama_quantize_s(shared: Path, tmp_path: Path, type: str) -> None:
    folder = shared / "conformance" / "quants"
    (path,) = quantize_file(folder / "source-f32.gguf", tmp_path / "x.gguf", type, pure=True)
    assert path.read_bytes() == (folder / f"{type}.gguf").read_bytes()


def test_types_and_metadata_of_every_file_of_llama_quantize(shared: Path) -> None:
    folder = shared / "conformance" / "quants"
    seen = 0
    for theirs in sorted(folder.glob("*.gguf")):
        if theirs.stem in ("source-f32", "imatrix"):
            continue
        matrix = folder / "imatrix.gguf" if theirs.stem.endswith("-imatrix") else None
        with GGUFFile.open(theirs) as file:
            type = str(file.metadata["general.file_type"])
            plan = plan_quantization(folder / "source-f32.gguf", None, type, pure=True, imatrix=matrix)
            assert list(plan.metadata) == list(file.metadata), theirs
            for key, entry in plan.metadata.items():
                value = entry.value if isinstance(entry, Typed) else entry
                assert value == file.metadata[key] or key == "quantize.imatrix.file", (theirs, key)
            want = {name: tensor.type for name, tensor in file.tensors.items()}
            assert {tensor.name: tensor.type for tensor in plan.tensors} == want, theirs
            assert sum(plan.sizes().values()) == theirs.stat().st_size or matrix
        seen += 1
    assert seen == 35


# ---- one step and two


@pytest.mark.parametrize(
    ("outtype", "dtype"),
    [
        *((type, "BF16") for type in ("q8_0", "q4_0", "q3_k_l", "iq4_nl", "tq2_0", "mxfp4_moe")),
        *(("q4_k_m", dtype) for dtype in ("BF16", "F16", "F32", "F64")),
    ],
)
def test_one_step_is_two_steps(tmp_path: Path, shipped_checkpoint: Path, outtype: str, dtype: str) -> None:
    checkpoint = wide_checkpoint(tmp_path / "model", shipped_checkpoint, dtype)
    (once,) = convert_checkpoint(checkpoint, tmp_path / "once.gguf", outtype=outtype)
    (first,) = convert_checkpoint(checkpoint, tmp_path / "f32.gguf", outtype="f32")
    (twice,) = quantize_file(first, tmp_path / "twice.gguf", outtype)
    assert once.read_bytes() == twice.read_bytes()
    assert once.stat().st_size == estimate_size(checkpoint, outtype) == estimate_size(first, outtype)


def test_one_step_with_a_matrix(tmp_path: Path, shipped_checkpoint: Path) -> None:
    checkpoint = wide_checkpoint(tmp_path / "model", shipped_checkpoint)
    (first,) = convert_checkpoint(checkpoint, tmp_path / "f32.gguf", outtype="f32")
    matrix = matrix_for(tmp_path / "imatrix.gguf", first)
    (once,) = convert_checkpoint(checkpoint, tmp_path / "once.gguf", outtype="q2_k_s", imatrix=matrix)
    (twice,) = quantize_file(first, tmp_path / "twice.gguf", "q2_k_s", imatrix=matrix)
    assert once.read_bytes() == twice.read_bytes()
    (without,) = quantize_file(first, tmp_path / "without.gguf", "q2_k")
    assert types(once)["blk.0.attn_q.weight"] == types(without)["blk.0.attn_q.weight"] == "q2_K"
    with GGUFFile.open(once) as one, GGUFFile.open(without) as other:
        name = "blk.0.attn_q.weight"
        assert one.tensors[name].data.tobytes() != other.tensors[name].data.tobytes()
    with pytest.raises(FormatError, match=r"tensor 'blk\.0\.attn_k\.weight': q2_K needs the importance"):
        convert_checkpoint(checkpoint, tmp_path / "x.gguf", outtype="q2_k_s")


@pytest.mark.parametrize("preset", [preset.label for preset in PRESETS])
def test_the_size_of_every_preset(tmp_path: Path, shipped_checkpoint: Path, small: Path, preset: str) -> None:
    matrix = matrix_for(tmp_path / "imatrix.gguf", small)
    size = estimate_size(small, preset, imatrix=matrix)
    plan = plan_quantization(small, tmp_path / "x.gguf", preset, imatrix=matrix)
    assert size == sum(plan.sizes().values())
    assert all(tensor.type.row_bytes(tensor.columns) for tensor in plan.tensors)


@needs_oracle
@pytest.mark.parametrize("preset", [preset.label for preset in PRESETS])
def test_llama_cpp_and_we_read_every_preset(tmp_path: Path, small: Path, preset: str) -> None:
    matrix = matrix_for(tmp_path / "imatrix.gguf", small)
    (path,) = quantize_file(small, tmp_path / "x.gguf", preset, imatrix=matrix)
    with Oracle(path, kv_f32=True) as oracle:
        want = oracle.logits(TOKENS)
    assert nmse(logits(path), want) < 5e-3


# ---- options


def test_copy_and_default_names(small: Path) -> None:
    (path,) = quantize_file(small, None, "copy")
    assert path == small.with_name("ggml-model-COPY.gguf")
    with GGUFFile.open(path) as file, GGUFFile.open(small) as source:
        assert dict(file.metadata) == dict(source.metadata)
        assert list(file.tensors)[:3] == ["output.weight", "output_norm.weight", "token_embd.weight"]
        for name, tensor in source.tensors.items():
            assert file.tensors[name].data.tobytes() == tensor.data.tobytes()
    assert quantize_file(small, None, "15") == [small.with_name("ggml-model-Q4_K_M.gguf")]


def test_options_reach_the_recipe(tmp_path: Path, small: Path) -> None:
    (path,) = quantize_file(
        small,
        tmp_path / "x.gguf",
        "q4_0",
        pure=True,
        output_tensor_type="Q5_0",
        token_embedding_type="q5_1",
        tensor_type=[("ATTN_[qk]", "q8_0")],
        threads=1,
    )
    chosen = types(path)
    assert (chosen["output.weight"], chosen["token_embd.weight"]) == ("q5_0", "q5_1")
    assert (chosen["blk.0.attn_q.weight"], chosen["blk.0.attn_v.weight"]) == ("q8_0", "q4_0")
    (path,) = quantize_file(small, tmp_path / "x.gguf", "q4_0", leave_output_tensor=True)
    assert types(path)["output.weight"] == "f32"


def test_quantizing_again(tmp_path: Path, small: Path) -> None:
    (first,) = quantize_file(small, tmp_path / "q8.gguf", "q8_0")
    with pytest.raises(FormatError, match=r"tensor 'output\.weight' is q8_0 already.*--allow-requantize"):
        quantize_file(first, tmp_path / "x.gguf", "q4_0")
    assert quantize_file(first, tmp_path / "same.gguf", "q8_0")[0].read_bytes() == first.read_bytes()
    (path,) = quantize_file(first, tmp_path / "x.gguf", "q4_0", allow_requantize=True, pure=True)
    with GGUFFile.open(first) as before, GGUFFile.open(path) as after:
        source = before.tensors["blk.0.ffn_up.weight"].source()
        want = encode(decode(source.read(0, source.rows), T.Q8_0), T.Q4_0)
        assert after.tensors["blk.0.ffn_up.weight"].data.tobytes() == want.tobytes()
    (path,) = quantize_file(first, tmp_path / "x.gguf", "f16", allow_requantize=True)
    assert set(types(path).values()) == {"f16", "f32"}


def test_metadata(tmp_path: Path, small: Path) -> None:
    changes: dict[str, str | Typed] = {
        "general.name": "other",
        "llama.context_length": Typed(99, ValueType.U32),
    }
    (path,) = quantize_file(small, tmp_path / "x.gguf", "q8_0", override_kv=changes)
    with GGUFFile.open(path) as file:
        assert file.metadata["general.name"] == "other" and file.metadata["llama.context_length"] == 99
        assert file.metadata["general.file_type"] == 7
        assert file.metadata["general.quantization_version"] == 2
        assert list(file.metadata)[-2:] == list(changes)


def test_keep_split(tmp_path: Path, small: Path) -> None:
    with GGUFFile.open(small) as file:
        sources = [tensor.source() for tensor in file.tensors.values()]
        shards = write_gguf(tmp_path / "in.gguf", random_llama.metadata(), sources, split_max_size=1_000_000)
        want = [tensor.name for tensor in sources]
    assert len(shards) > 2
    paths = quantize_file(shards[0], tmp_path / "out.gguf", "q4_0", keep_split=True)
    count = f"{len(shards):05d}"
    assert [path.name for path in paths] == [f"out-{i + 1:05d}-of-{count}.gguf" for i in range(len(shards))]
    with GGUFFile.open(paths[0]) as file, GGUFFile.open(shards[0]) as before:
        assert list(file.tensors) == want
        assert [t.file.name[4:] for t in file.tensors.values()] == [
            t.file.name[3:] for t in before.tensors.values()
        ]
    (path,) = quantize_file(shards[0], tmp_path / "whole.gguf", "q4_0")
    with GGUFFile.open(path) as file:
        assert not any(key.startswith("split.") for key in file.metadata)


@needs_oracle
def test_prune_layers(tmp_path: Path, f16: Path) -> None:
    matrix = matrix_for(tmp_path / "imatrix.gguf", f16)
    options: dict[str, Any] = {"prune_layers": [3, 5], "imatrix": matrix}
    (path,) = quantize_file(f16, tmp_path / "x.gguf", "q8_0", **options)
    with GGUFFile.open(path) as file, GGUFFile.open(f16) as source:
        assert file.metadata["llama.block_count"] == 6
        names = set(source.tensors) - {n for n in source.tensors if n.startswith(("blk.6.", "blk.7."))}
        assert set(file.tensors) == names
        before, after = source.tensors["blk.4.ffn_up.weight"], file.tensors["blk.3.ffn_up.weight"]
        x = before.data.view("<f2").astype(np.float32).reshape(before.shape)
        assert after.data.tobytes() == encode(x, T.Q8_0).tobytes()
    with Oracle(path, kv_f32=True) as oracle:
        want = oracle.logits(TOKENS)
    assert nmse(logits(path), want) < 1e-3
    # Each layer keeps its own importance.
    (calibrated,) = quantize_file(f16, tmp_path / "y.gguf", "q4_k_s", **options)
    (whole,) = quantize_file(f16, tmp_path / "z.gguf", "q4_k_s", imatrix=matrix)
    with GGUFFile.open(calibrated) as file, GGUFFile.open(whole) as other:
        moved, name = file.tensors["blk.5.attn_q.weight"], "blk.7.attn_q.weight"
        assert moved.data.tobytes() == other.tensors[name].data.tobytes()


def test_prune_metadata_of_each_layer(tmp_path: Path, small: Path) -> None:
    changes = {"llama.attention.head_count_kv": Typed([2, 4], ValueType.I32)}
    (first,) = quantize_file(small, tmp_path / "x.gguf", "copy", override_kv=changes)
    (path,) = quantize_file(first, tmp_path / "y.gguf", "copy", prune_layers=[0])
    with GGUFFile.open(path) as file:
        assert file.metadata["llama.attention.head_count_kv"] == [4]


def test_memory_stays_at_a_few_slabs(tmp_path: Path) -> None:
    """A tensor of 134 MB in less than that."""
    read: Any = lambda start, stop: np.zeros((stop - start, 4 * 8192), np.uint8)  # noqa: E731  one argument
    big = TensorSource("token_embd.weight", (4096, 8192), T.F32, read)
    write_gguf(tmp_path / "big.gguf", random_llama.metadata(), [big])
    plan = plan_quantization(tmp_path / "big.gguf", tmp_path / "x.gguf", "q4_0")
    tracemalloc.start()
    plan.write()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert math.prod(plan.planned[0].source.shape) * 4 == 128 << 20
    assert peak < 96 << 20


def test_encode_and_decode_take_names() -> None:
    x = np.random.default_rng(2).standard_normal((3, 256)).astype(np.float32)
    blocks = encode(x, "q4_K")
    np.testing.assert_array_equal(blocks, encode(x, T.Q4_K))
    np.testing.assert_array_equal(decode(blocks, "Q4_k"), decode(blocks, T.Q4_K))
    with pytest.raises(UnsupportedModelError, match="tensor type 'q9' is unknown; choose one of f32"):
        encode(x, "q9")


def test_what_an_earlier_matrix_did_is_not_said_of_new_blocks(tmp_path: Path) -> None:
    said: dict[str, Any] = {"quantize.imatrix.file": "m.dat", "quantize.imatrix.entries_count": 3}
    source = random_llama.write(tmp_path / "source.gguf", random_llama.arrays(), **said)
    for type, kept in (("q8_0", False), ("copy", True)):
        (path,) = quantize_file(source, tmp_path / f"{type}.gguf", type)
        with GGUFFile.open(path) as file:
            assert all((key in file.metadata) is kept for key in said)
