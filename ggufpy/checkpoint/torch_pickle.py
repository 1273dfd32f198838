"""The pickle inside a PyTorch checkpoint, read without torch and without running anything.

A state dict is pickled with two dozen opcodes and a handful of names. This is an interpreter for exactly
these: names are never imported, calls only build the records below, everything else is refused. Source:
Python's pickletools; torch/_utils.py (_rebuild_tensor_v2, _rebuild_parameter), torch/serialization.py.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ggufpy.errors import FormatError
from ggufpy.gguf.types import GGMLType

_STORAGES = {
    "torch DoubleStorage": GGMLType.F64,
    "torch FloatStorage": GGMLType.F32,
    "torch HalfStorage": GGMLType.F16,
    "torch BFloat16Storage": GGMLType.BF16,
    "torch LongStorage": GGMLType.I64,
    "torch IntStorage": GGMLType.I32,
    "torch ShortStorage": GGMLType.I16,
    "torch CharStorage": GGMLType.I8,
}

_MAX_DIMENSIONS = 8


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of `count` numbers of one type, in an entry of the archive that is named by `key`."""

    type: GGMLType
    key: str
    count: int


@dataclass(frozen=True, slots=True)
class PickledTensor:
    """A view of a storage: offset and strides count numbers, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Name:
    """A global that the pickle mentions, "module name"; it is never looked up."""

    name: str


def load_state_dict(data: bytes, where: str) -> dict[str, PickledTensor]:
    """Read the tensors of a pickled state dict; `where` begins the messages.

    Raises FormatError for a pickle that is damaged, or that holds or does anything but what weights need.
    """
    try:
        value = _Machine().run(data)
        if not isinstance(value, dict):
            raise _Refused("it does not hold a dict of tensors")
        for name, tensor in value.items():
            if not isinstance(tensor, PickledTensor):
                raise _Refused(f"its entry '{name:.80}' is not a tensor")
    except _Refused as exc:
        raise FormatError(
            f"{where}: refused, {exc}; only plain weights are read, save it as safetensors"
        ) from exc
    except (ValueError, IndexError, KeyError, TypeError) as exc:
        raise FormatError(f"{where}: not a whole pickle ({exc}); download it again") from exc
    return value


class _Refused(Exception):
    """The pickle wants something that weights do not need."""


class _Machine:
    """The stack, its marks and the memo of an unpickler."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                return self.stack.pop()
            if opcode.name in _PUSH:
                self.stack.append(_PUSH[opcode.name](argument))
            elif opcode.name in _ACTIONS:
                _ACTIONS[opcode.name](self, argument)
            else:
                raise _Refused(f"it uses the opcode {opcode.name}")
        raise ValueError("no end")

    def pop_to_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def mark(self, _: None) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def tuple_to_mark(self, _: None) -> None:
        items = self.pop_to_mark()
        self.stack.append(tuple(items))

    def tuple_of(self, count: int) -> None:
        items = tuple(self.stack.pop() for _ in range(count))
        self.stack.append(items[::-1])

    def set_item(self, _: None) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def set_items(self, _: None) -> None:
        self._update(self.pop_to_mark())

    def _update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise _Refused(f"it puts items into {_describe(target)}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str):
                raise _Refused(f"a key is {_describe(key)}")
            target[key] = value

    def name(self, argument: str) -> None:
        if argument not in _CALLS and argument not in _STORAGES:
            raise _Refused(f"it wants '{argument.replace(' ', '.'):.80}'")
        self.stack.append(_Name(argument))

    def call(self, _: None) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, _Name) or function.name not in _CALLS or not isinstance(arguments, tuple):
            raise _Refused(f"it calls {_describe(function)}")
        self.stack.append(_CALLS[function.name](*arguments))

    def set_state(self, _: None) -> None:
        """An OrderedDict's attributes (versions of modules), which weights do not need."""
        self.stack.pop()
        if not isinstance(self.stack[-1], dict):
            raise _Refused(f"it gives a state to {_describe(self.stack[-1])}")

    def storage(self, _: None) -> None:
        match self.stack.pop():
            case ("storage", _Name(name), str(key), str(), int(count)) if name in _STORAGES:
                self.stack.append(Storage(_STORAGES[name], key, count))
            case other:
                raise _Refused(f"it refers to {_describe(other)}")


def _describe(value: object) -> str:
    return f"'{value.name:.80}'" if isinstance(value, _Name) else f"a {type(value).__name__}"


def _ordered_dict(*arguments: Any) -> dict[str, Any]:
    if arguments:
        raise _Refused("it builds an OrderedDict from something")
    return {}


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> PickledTensor:
    if not (isinstance(storage, Storage) and isinstance(shape, tuple) and isinstance(strides, tuple)):
        raise ValueError("a tensor without a storage, a shape and strides")
    if len(shape) != len(strides) or len(shape) > _MAX_DIMENSIONS:
        raise ValueError(f"a tensor of {len(shape)} dimensions with {len(strides)} strides")
    if any(type(n) is not int or not 0 <= n < 1 << 63 for n in (offset, *shape, *strides)):
        raise ValueError("a tensor whose shape or strides are not counts")
    if math.prod(shape) > storage.count:
        raise ValueError(f"a tensor of {math.prod(shape)} numbers in a storage of {storage.count}")
    return PickledTensor(storage, offset, shape, strides)


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _size(items: Any) -> tuple[Any, ...]:
    if not isinstance(items, tuple):  # it would be copied, as often as a short pickle likes
        raise _Refused(f"it makes a size of {_describe(items)}")
    return items


_CALLS: dict[str, Callable[..., Any]] = {
    "collections OrderedDict": _ordered_dict,
    "torch Size": _size,
    "torch._utils _rebuild_parameter": _parameter,
    "torch._utils _rebuild_tensor_v2": _tensor,
}

_PUSH: dict[str, Callable[[Any], Any]] = {
    "EMPTY_DICT": lambda _: {},
    "EMPTY_TUPLE": lambda _: (),
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"), lambda value: value),
}

_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, version: None,
    "MARK": _Machine.mark,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "TUPLE": _Machine.tuple_to_mark,
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "GLOBAL": _Machine.name,
    "REDUCE": _Machine.call,
    "BUILD": _Machine.set_state,
    "BINPERSID": _Machine.storage,
}
