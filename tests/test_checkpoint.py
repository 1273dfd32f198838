"""Reading checkpoints: every form of weight file, and one clear line for what is wrong with one."""

import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from tiny import (
    CONFIG,
    Array,
    Persistent,
    Reduced,
    as_floats,
    save,
    save_safetensors,
    save_torch,
    torch_names,
    write_safetensors,
    write_torch,
)

from ggufpy.convert.checkpoint import Checkpoint
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.quants.floats import decode


def values(source: TensorSource) -> Array:
    return decode(source.read(0, source.rows), source.type).reshape(source.shape)


def folder_with(tmp_path: Path, **config: Any) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | config))
    return tmp_path


def some_tensors() -> dict[str, Array]:
    rng = np.random.default_rng(5)
    return {
        "a.weight": rng.standard_normal((7, 5)).astype(np.float32),
        "b.weight": rng.standard_normal((3, 4)).astype(np.float16),
        "c.weight": rng.integers(0, 1 << 15, (6, 2)).astype(np.uint16),
        "d.bias": rng.standard_normal(9),
        "e": np.array(3.5, np.float32),
        "f.weight": rng.standard_normal((2, 3, 4)).astype(np.float32),
    }


@pytest.mark.parametrize("torch", [False, True], ids=["safetensors", "torch"])
@pytest.mark.parametrize("shards", [1, 3])
def test_every_form_of_weights(tmp_path: Path, torch: bool, shards: int) -> None:
    tensors = some_tensors()
    save(folder_with(tmp_path), tensors, shards=shards, torch=torch)
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
    save(folder_with(tmp_path), some_tensors(), shards=2)
    (tmp_path / "model.safetensors.index.json").unlink()
    assert len(Checkpoint.open(tmp_path).tensors) == 6
    (tmp_path / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(FormatError, match="not all parts"):
        Checkpoint.open(tmp_path)


def test_files_of_the_safetensors_package(tmp_path: Path) -> None:
    tensors = {name: x for name, x in some_tensors().items() if x.dtype != np.uint16}
    tensors |= {"empty": np.zeros((0, 4), np.float32), "ids": np.arange(5)}
    tensors["small"] = np.arange(5, dtype=np.int8)
    safetensors.numpy.save_file(tensors, folder_with(tmp_path) / "model.safetensors")
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


def test_torch_strides_and_shared_storages(tmp_path: Path) -> None:
    base = np.arange(60, dtype=np.float32)
    square = np.arange(35, dtype=np.float16).reshape(7, 5)
    cube = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    tensors: dict[str, Array] = {
        "whole": base,
        "part": base[20:40].reshape(4, 5),
        "every second": base[::2],
        "transposed": square.T,
        "permuted": cube.transpose(2, 0, 1),
        "repeated": np.broadcast_to(base[3:7], (3, 4)),
    }
    save_torch(folder_with(tmp_path) / "pytorch_model.bin", tensors)
    opened = Checkpoint.open(tmp_path).tensors
    for name, x in tensors.items():
        np.testing.assert_array_equal(values(opened[name]), as_floats(x), err_msg=name)
        rows = opened[name].rows
        np.testing.assert_array_equal(
            opened[name].read(rows // 2, rows), opened[name].read(0, rows)[rows // 2 :]
        )


# ---- what is wrong with a folder


def test_folders_that_are_no_checkpoint(tmp_path: Path) -> None:
    for path, message in (
        (tmp_path / "nowhere", "does not exist; give the folder"),
        (tmp_path, "no config.json there; give the folder"),
    ):
        with pytest.raises(FormatError, match=message):
            Checkpoint.open(path)
    folder_with(tmp_path)
    with pytest.raises(FormatError, match="is a file; give the folder"):
        Checkpoint.open(tmp_path / "config.json")
    with pytest.raises(
        FormatError, match=r"no weights there, neither model\.safetensors or pytorch_model\.bin"
    ):
        Checkpoint.open(tmp_path)
    assert Checkpoint.open(tmp_path, weights=False).tensors == {}


@pytest.mark.parametrize(
    "text", ["", "[1]", "{", '{"a": }', "\xff", "[" * 100_000, '{"a": ' + "9" * 5000 + "}"]
)
def test_broken_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(FormatError, match=r"config\.json is not (valid JSON|a JSON object)"):
        Checkpoint.open(tmp_path)


def test_an_index_that_does_not_fit(tmp_path: Path) -> None:
    save(folder_with(tmp_path), some_tensors(), shards=2)
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
        ({"w": entry(0, 24, dtype="F8_E4M3")}, "has dtype 'F8_E4M3'; ggufpy reads F64"),
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
    write_safetensors(folder_with(tmp_path) / "model.safetensors", header, bytes(28))
    with pytest.raises((FormatError, UnsupportedModelError), match=message) as error:
        Checkpoint.open(tmp_path)
    assert str(tmp_path / "model.safetensors") in str(error.value) and "\n" not in str(error.value)


def test_truncated_safetensors(tmp_path: Path) -> None:
    path = folder_with(tmp_path) / "model.safetensors"
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
    path = folder_with(tmp_path) / "model.safetensors"
    save_safetensors(path, some_tensors())
    source = Checkpoint.open(tmp_path).tensors["f.weight"]
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(FormatError, match="within a tensor"):
        source.read(0, source.rows)


# ---- what is wrong with a torch file


def pickled(make: Callable[[Any], object]) -> bytes:
    with torch_names() as torch:
        return torch.dump(make(torch))


def tensor_of(torch: Any, offset: object = 0, shape: object = (2,), strides: object = (1,)) -> object:
    return Reduced(torch.rebuild, (stored(torch), offset, shape, strides, False, OrderedDict()))


def stored(torch: Any, key: str = "0", count: int = 2) -> object:
    return Persistent(("storage", torch.storages["float32"], key, "cpu", count))


def tensor_in(torch: Any, storage: object) -> object:
    return Reduced(torch.rebuild, (storage, 0, (2,), (1,), False, OrderedDict()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda torch: {"w": print}, "it wants '__builtin__.print'"),
        (lambda torch: {"w": Path("x")}, "it wants 'pathlib.PosixPath'"),
        (lambda torch: {"w": np.zeros(3)}, "it wants 'numpy"),
        (lambda torch: {"w": [1]}, "it uses the opcode EMPTY_LIST"),
        (lambda torch: {"w": 3}, "its entry 'w' is not a tensor"),
        (lambda torch: {3: tensor_of(torch)}, "a key is a int"),
        (lambda torch: (1, 2), "it does not hold a dict of tensors"),
        (lambda torch: {"w": Reduced(torch.rebuild, (1, 2, 3, 4))}, "a tensor without a storage"),
        (lambda torch: {"w": Reduced(OrderedDict, (((1, 2),),))}, "builds an OrderedDict from something"),
        (lambda torch: {"w": tensor_in(torch, Persistent(("storage", 3)))}, "it refers to a tuple"),
        (lambda torch: {"w": tensor_in(torch, Persistent("x"))}, "it refers to a str"),
        (lambda torch: {"w": tensor_of(torch, shape=(2, 3))}, "2 dimensions with 1 strides"),
        (lambda torch: {"w": tensor_of(torch, shape=(-1,))}, "not counts"),
        (lambda torch: {"w": tensor_of(torch, offset=-1)}, "not counts"),
        (lambda torch: {"w": tensor_of(torch, offset=1)}, "reaches number 2 of a storage of 2"),
        (lambda torch: {"w": tensor_of(torch, shape=(1 << 40,), strides=(1 << 40,))}, "reaches number"),
        (lambda torch: {"w": tensor_in(torch, stored(torch, key="1"))}, "no entry 'data/1'"),
        (lambda torch: {"w": tensor_in(torch, stored(torch, count=3))}, "3 numbers of f32 cannot be 8 bytes"),
    ],
)
def test_pickles_that_are_refused(tmp_path: Path, make: Callable[[Any], object], message: str) -> None:
    path = folder_with(tmp_path) / "pytorch_model.bin"
    write_torch(path, pickled(make), {"0": bytes(8)})
    with pytest.raises(FormatError, match=message) as error:
        Checkpoint.open(tmp_path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_pickle_that_would_run_something_does_not(tmp_path: Path) -> None:
    witness = tmp_path / "ran"

    class Attack:
        def __reduce__(self) -> Any:
            return (Path.touch, (witness,))

    write_torch(folder_with(tmp_path) / "pytorch_model.bin", pickle.dumps({"w": Attack()}, protocol=2), {})
    with pytest.raises(FormatError, match="refused, it wants"):
        Checkpoint.open(tmp_path)
    assert not witness.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage",
        b"\x80\x02.",
        b"\x80\x02}",
        b"\x80\x02h\x05.",
        b"\x80\x02(u.",
        b"\x80\x02}(K\x01u.",
        b"\x80\x02r\xff\xff\xff\xff}.",
        b"\x80\x02X\xff\xff\xff\x7f.",
        b"\x80\x02t.",
        b"\x80\x02\x85.",
        b"\x80\x02R.",
        b"\x80\x02b.",
        b"\x80\x02Q.",
        b"\x80\x02}}R.",
        b"\x80\x02)}b.",
    ],
)
def test_pickles_that_are_no_pickles(tmp_path: Path, data: bytes) -> None:
    write_torch(folder_with(tmp_path) / "pytorch_model.bin", data, {})
    with pytest.raises(FormatError, match=r"data\.pkl"):
        Checkpoint.open(tmp_path)


def test_torch_files_cut_short_or_of_another_kind(tmp_path: Path) -> None:
    path = folder_with(tmp_path) / "pytorch_model.bin"
    tensors = some_tensors()
    save_torch(path, tensors)
    whole = path.read_bytes()
    before_1_6 = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
    for data in (b"", before_1_6, whole[:-1], whole[: len(whole) // 2], whole[70:]):
        path.write_bytes(data)
        with pytest.raises(FormatError, match=r"pytorch_model\.bin"):
            Checkpoint.open(tmp_path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", b"")
    with pytest.raises(FormatError, match=r"holds 0 data\.pkl instead of one"):
        Checkpoint.open(tmp_path)
    write_torch(path, b"\x80\x02}.", {}, zipfile.ZIP_DEFLATED)
    with pytest.raises(FormatError, match="is compressed; save it as safetensors"):
        Checkpoint.open(tmp_path)


def test_torch_files_with_any_byte_changed(tmp_path: Path) -> None:
    """Never anything but a result or one of our errors."""
    path = folder_with(tmp_path) / "pytorch_model.bin"
    save_torch(path, {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(3, np.float16)})
    whole = path.read_bytes()
    rng = np.random.default_rng(6)
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([int(rng.integers(256))]) + whole[at + 1 :])
        try:
            for source in Checkpoint.open(tmp_path).tensors.values():
                source.read(0, min(source.rows, 4))
        except (FormatError, UnsupportedModelError):
            pass
