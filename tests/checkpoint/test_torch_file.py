"""PyTorch checkpoints without torch: views, and pickles that are refused."""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import as_floats, folder_with_config, some_tensors, values
from tiny_torch import (
    Array,
    Persistent,
    Reduced,
    save_torch,
    torch_names,
    write_torch,
)

from ggufpy.checkpoint.checkpoint import Checkpoint
from ggufpy.errors import FormatError, UnsupportedModelError


@pytest.mark.parametrize("legacy", [False, True], ids=["archive", "legacy"])
@pytest.mark.parametrize("protocol", range(2, 6))
def test_torch_strides_and_shared_storages(tmp_path: Path, protocol: int, legacy: bool) -> None:
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
        "scalar": np.array(3.5),
        "x" * 256: base[1:],
    }
    path = folder_with_config(tmp_path) / "pytorch_model.bin"
    save_torch(path, tensors, protocol=protocol, legacy=legacy)
    opened = Checkpoint.open(tmp_path).tensors
    for name, x in tensors.items():
        expected = as_floats(x).reshape(x.shape or (1,))
        np.testing.assert_array_equal(values(opened[name]), expected, err_msg=name)
        rows = opened[name].rows
        np.testing.assert_array_equal(
            opened[name].read(rows // 2, rows), opened[name].read(0, rows)[rows // 2 :]
        )


def pickled(make: Callable[[Any], object]) -> bytes:
    with torch_names() as torch:
        return torch.dump(make(torch))


def tensor_of(torch: Any, offset: object = 0, shape: object = (2,), strides: object = (1,)) -> object:
    return Reduced(torch.rebuild, (stored(torch), offset, shape, strides, False, OrderedDict()))


def stored(torch: Any, key: str = "0", count: int = 2) -> object:
    return Persistent(("storage", torch.storages["float32"], key, "cpu", count))


def negated(torch: Any) -> object:
    return Reduced(torch.rebuild, (stored(torch), 0, (2,), (1,), False, OrderedDict(), {"neg": True}))


def tensor_in(torch: Any, storage: object) -> object:
    return Reduced(torch.rebuild, (storage, 0, (2,), (1,), False, OrderedDict()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda torch: {"w": print}, "it wants '__builtin__.print'"),
        (lambda torch: {"w": Path("x")}, "it wants 'pathlib.PosixPath'"),
        (lambda torch: {"w": np.zeros(3)}, "it wants 'numpy"),
        (lambda torch: {"w": 1 << 3000}, "it uses the opcode LONG4"),
        (lambda torch: {"w": [1]}, "its entry 'w' is not a tensor"),
        (lambda torch: {"w": 3}, "its entry 'w' is not a tensor"),
        (lambda torch: {3: tensor_of(torch)}, "a key is a int"),
        (lambda torch: (1, 2), "it does not hold a dict of tensors"),
        (lambda torch: {"w": Reduced(torch.rebuild, (1, 2, 3, 4))}, "a tensor without a storage"),
        (lambda torch: {"w": Reduced(OrderedDict, (((1, 2),),))}, "builds an OrderedDict from something"),
        (lambda torch: {"w": tensor_in(torch, 3)}, "a tensor without a storage"),
        (lambda torch: {"w": tensor_in(torch, Persistent(("storage", 3)))}, "it refers to a tuple"),
        (lambda torch: {"w": tensor_in(torch, Persistent("x"))}, "it refers to a str"),
        (lambda torch: {"w": tensor_in(torch, stored(torch, count=-1))}, "a storage of -1 numbers"),
        (lambda torch: {"w": tensor_in(torch, stored(torch, count=-(1 << 1900)))}, "a storage of -"),
        (lambda torch: {"w": negated(torch)}, "says of a tensor more than its storage, shape and strides"),
        (lambda torch: {"w\nv" * 40: 3}, r"its entry 'w\\nv.*\.\.\.' is not a tensor"),
        (lambda torch: {"w": tensor_of(torch, shape=(2, 3))}, "2 dimensions with 1 strides"),
        (lambda torch: {"w": tensor_of(torch, shape=(-1,))}, "not counts"),
        (lambda torch: {"w": tensor_of(torch, offset=-1)}, "not counts"),
        (lambda torch: {"w": tensor_of(torch, offset=1)}, "reaches number 2 of a storage of 2"),
        (
            lambda torch: {"w": tensor_of(torch, shape=(1 << 40,), strides=(1 << 40,))},
            "numbers in a storage of 2",
        ),
        (lambda torch: {"w": tensor_of(torch, shape=(1 << 40,), strides=(0,))}, "numbers in a storage of 2"),
        (lambda torch: {"w": tensor_in(torch, stored(torch, key="1"))}, "no entry 'data/1'"),
        (lambda torch: {"w": tensor_in(torch, stored(torch, count=3))}, "3 numbers of f32 cannot be 8 bytes"),
    ],
)
def test_pickles_that_are_refused(tmp_path: Path, make: Callable[[Any], object], message: str) -> None:
    path = folder_with_config(tmp_path) / "pytorch_model.bin"
    write_torch(path, pickled(make), {"0": bytes(8)})
    with pytest.raises(FormatError, match=message) as error:
        Checkpoint.open(tmp_path)
    assert str(path) in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 600


def test_a_pickle_that_would_run_something_does_not(tmp_path: Path) -> None:
    witness = tmp_path / "ran"

    class Attack:
        def __reduce__(self) -> Any:
            return (Path.touch, (witness,))

    write_torch(
        folder_with_config(tmp_path) / "pytorch_model.bin", pickle.dumps({"w": Attack()}, protocol=2), {}
    )
    with pytest.raises(FormatError, match="refused, it wants"):
        Checkpoint.open(tmp_path)
    assert not witness.exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"\x80\x02}Na.", "it appends to a dict"), (b"\x80\x02](K\x01Nu.", "it puts items into a list")],
)
def test_items_of_what_has_none(tmp_path: Path, data: bytes, message: str) -> None:
    write_torch(folder_with_config(tmp_path) / "pytorch_model.bin", data, {})
    with pytest.raises(FormatError, match=message):
        Checkpoint.open(tmp_path)


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
        b"\x80\x02ctorch",
        b"\x80\x02c\\qtorch\nx\n.",
        b"\x80\x02}a.",
        b"\x80\x02]",
        b"\x80\x04\x93.",
        b"\x80\x04K\x01\x8c\x01x\x93.",
        b"\x80\x04)" + b"\x85" * 5000 + b"\x8c\x01x\x93.",
        b"\x80\x04\x94.",
        b"\x80\x04\x8c\x09x.",
        b"\x80\x04\x8d" + b"\xff" * 8,
        b"\x80\x04\x95" + b"\xff" * 8,
        b"\x80\x02}\x8c\x01\xff}s.",
    ],
)
def test_pickles_that_are_no_pickles(tmp_path: Path, data: bytes) -> None:
    write_torch(folder_with_config(tmp_path) / "pytorch_model.bin", data, {})
    with pytest.raises(FormatError, match=r"data\.pkl"):
        Checkpoint.open(tmp_path)


def test_torch_files_cut_short_or_of_another_kind(tmp_path: Path) -> None:
    path = folder_with_config(tmp_path) / "pytorch_model.bin"
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
    path = folder_with_config(tmp_path) / "pytorch_model.bin"
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
