"""PyTorch checkpoints in both forms that torch writes, without torch, by Python's own pickler."""

import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

STORAGES = {"float64": "Double", "float32": "Float", "float16": "Half", "uint16": "BFloat16", "int64": "Long"}


def save_torch(path: Path, tensors: Mapping[str, Array], *, protocol: int = 2, legacy: bool = False) -> None:
    """What `torch.save` writes for a state dict; views of one array share a storage, strides are kept.

    legacy: as torch before 1.6, and as it does with _use_new_zipfile_serialization=False.
    """
    with torch_names(*((None,) if legacy else ())) as torch:
        storages: dict[int, tuple[str, Array]] = {}
        state: OrderedDict[str, Any] = OrderedDict()
        for name, x in tensors.items():
            base = x.base if isinstance(x.base, np.ndarray) else x
            key, _ = storages.setdefault(id(base), (str(len(storages)), base))
            offset = (x.__array_interface__["data"][0] - base.__array_interface__["data"][0]) // x.itemsize
            state[name] = torch.tensor(key, base, offset, x)
        state.__dict__["_metadata"] = OrderedDict({"": {"version": 1}})
        data = torch.dump(state, protocol)
    if legacy:
        path.write_bytes(b"".join(legacy_parts(data, dict(storages.values()), protocol)))
    else:
        write_torch(path, data, {key: np.ascontiguousarray(x).tobytes() for key, x in storages.values()})


def write_torch(path: Path, data: bytes, storages: Mapping[str, bytes], compression: int = 0) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/byteorder", b"little")
        for key, content in storages.items():
            info = zipfile.ZipInfo(f"archive/data/{key}")
            info.extra = b"FB" + struct.pack("<H", 10) + b"Z" * 10  # torch pads entries to 64 bytes like this
            info.compress_type = compression
            archive.writestr(info, content)
        archive.writestr("archive/version", b"3\n")


def legacy_parts(
    state: bytes, storages: Mapping[str, Array], protocol: int = 2, little_endian: object = True
) -> list[bytes]:
    """The five pickles of a file as torch before 1.6 wrote it, and its storages."""
    sizes = {"short": 2, "int": 4, "long": 4}
    facts = {"protocol_version": 1001, "little_endian": little_endian, "type_sizes": sizes}
    head = [pickle.dumps(value, protocol) for value in (0x1950A86A20F9469CFC6C, 1001, facts)]
    keys = sorted(storages)
    parts = [struct.pack("<q", storages[key].size) + storages[key].tobytes() for key in keys]
    return [*head, state, pickle.dumps(keys, protocol), *parts]


class TorchNames:
    """Stand-ins that pickle under torch's names, by Python's own pickler.

    end: what ends a persistent id of a storage: None in files of torch before 1.6, else nothing.
    """

    def __init__(self, *end: object) -> None:
        self.end = end

        def rebuild(*arguments: Any) -> None:
            raise AssertionError("never called")

        rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
        self.rebuild = rebuild
        self.storages = {
            name: type(f"{kind}Storage", (), {"__module__": "torch"}) for name, kind in STORAGES.items()
        }

    def tensor(self, key: str, base: Array, offset: int, x: Array) -> object:
        storage = Persistent(("storage", self.storages[base.dtype.name], key, "cpu", base.size, *self.end))
        strides = tuple(step // x.itemsize for step in x.strides)
        return Reduced(self.rebuild, (storage, offset, x.shape, strides, False, OrderedDict()))

    def dump(self, state: object, protocol: int = 2) -> bytes:
        stream = BytesIO()
        Pickler(stream, protocol).dump(state)
        return stream.getvalue()


class Persistent:
    def __init__(self, id: object) -> None:
        self.id = id


class Reduced:
    def __init__(self, function: object, arguments: tuple[Any, ...]) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


class Pickler(pickle.Pickler):
    def persistent_id(self, value: object) -> object:
        return value.id if isinstance(value, Persistent) else None


@contextmanager
def torch_names(*end: object) -> Iterator[TorchNames]:
    """Within the block, modules `torch` and `torch._utils` exist that hold nothing but the stand-ins."""
    names = TorchNames(*end)
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for storage in names.storages.values():
        setattr(torch, storage.__name__, storage)
    vars(utils)["_rebuild_tensor_v2"] = names.rebuild
    with mock.patch.dict(sys.modules, {"torch": torch, "torch._utils": utils}):
        yield names
