"""The pickle inside a PyTorch checkpoint, read without torch and without running anything.

A state dict is pickled with three dozen opcodes and a handful of names. This is an interpreter for exactly
these: names are never imported, calls only build the records below, everything else is refused. Source:
Python's pickletools; torch/_utils.py (_rebuild_tensor_v2, _rebuild_parameter), torch/serialization.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from ggufpy.checkpoint.pickle_opcodes import read_opcodes
from ggufpy.errors import FormatError
from ggufpy.gguf.cursor import quoted
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

# A tensor takes 200 bytes: enough for 40,000. In memory objects take up to 100 times what their opcodes do.
MAX_PICKLE_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of `count` numbers of one type, found by `key`; of these, `size` from `begin` on are meant."""

    type: GGMLType
    key: str
    count: int
    begin: int
    size: int


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


def load_state_dict(stream: BytesIO, where: str) -> dict[str, PickledTensor]:
    """Read the tensors of a pickled state dict; `where` begins the messages.

    Raises FormatError for a pickle that is damaged, or that holds or does anything but what weights need.
    """
    value = load_value(stream, where)
    if not isinstance(value, dict):
        raise _refusal(where, "it does not hold a dict of tensors")
    for name, tensor in value.items():
        if not isinstance(tensor, PickledTensor):
            raise _refusal(where, f"its entry {quoted(name)} is not a tensor")
    return value


def load_value(stream: BytesIO, where: str) -> Any:
    """Read a pickle of what state dicts are made of; the stream then stands behind it. Raises FormatError."""
    try:
        return _Machine().run(stream)
    except _Refused as exc:
        raise _refusal(where, str(exc)) from exc
    except (ValueError, IndexError, KeyError, TypeError) as exc:
        raise FormatError(f"{where}: not a whole pickle ({exc!s:.100}); download it again") from exc


def _refusal(where: str, problem: str) -> FormatError:
    return FormatError(f"{where}: refused, {problem}; only plain weights are read, save it as safetensors")


class _Refused(Exception):
    """The pickle wants something that weights do not need."""


class _Machine:
    """The stack, its marks and the memo of an unpickler."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self, stream: BytesIO) -> Any:
        for opcode, argument in read_opcodes(stream):
            if opcode in _PUSH:
                self.stack.append(_PUSH[opcode](argument))
            elif opcode in _ACTIONS:
                _ACTIONS[opcode](self, argument)
            elif opcode != "STOP":
                raise _Refused(f"it uses the opcode {opcode}")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def mark(self, _: None) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def memoize(self, _: None) -> None:
        self.put(len(self.memo))

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

    def append(self, _: None) -> None:
        item = self.stack.pop()
        self._extend([item])

    def append_to_mark(self, _: None) -> None:
        self._extend(self.pop_to_mark())

    def _extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise _Refused(f"it appends to {_describe(target)}")
        target += items

    def name(self, argument: str) -> None:
        if argument not in _CALLS and argument not in _STORAGES:
            raise _Refused(f"it wants {quoted(argument.replace(' ', '.'))}")
        self.stack.append(_Name(argument))

    def name_from_stack(self, _: None) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.name(f"{module} {name}" if isinstance(module, str) and isinstance(name, str) else "")

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
            case ("storage", _Name(name), str(key), str(), int(count), *view) if name in _STORAGES:
                self.stack.append(Storage(_STORAGES[name], key, count, *_view(count, *view)))
            case other:
                raise _Refused(f"it refers to {_describe(other)}")


def _view(count: int, view: Any = None) -> tuple[int, int]:
    """Begin and size of what is meant of a storage of `count` numbers; torch before 1.0 named parts."""
    match view:
        case None if count >= 0:
            return 0, count
        case (str(), int(begin), int(size)) if begin >= 0 <= size and begin + size <= count:
            return begin, size
    raise ValueError(f"a storage of {count} numbers, or a part of it that cannot be")


def _describe(value: object) -> str:
    return quoted(value.name) if isinstance(value, _Name) else f"a {type(value).__name__}"


def _ordered_dict(*arguments: Any) -> dict[str, Any]:
    if arguments:
        raise _Refused("it builds an OrderedDict from something")
    return {}


def _tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, grad: Any = None, hooks: Any = None, more: Any = None
) -> PickledTensor:
    if not (isinstance(storage, Storage) and isinstance(shape, tuple) and isinstance(strides, tuple)):
        raise ValueError("a tensor without a storage, a shape and strides")
    if len(shape) != len(strides) or len(shape) > _MAX_DIMENSIONS:
        raise ValueError(f"a tensor of {len(shape)} dimensions with {len(strides)} strides")
    if any(type(n) is not int or not 0 <= n < 1 << 63 for n in (offset, *shape, *strides)):
        raise ValueError("a tensor whose shape or strides are not counts")
    if math.prod(shape) > storage.size:
        raise ValueError(f"a tensor of {math.prod(shape)} numbers in a storage of {storage.size}")
    if more:  # as that all its numbers are negated
        raise _Refused("it says of a tensor more than its storage, shape and strides")
    return PickledTensor(storage, offset, shape, strides)


def _parameter(data: Any, grad: Any, hooks: Any) -> Any:
    return data


def _size(items: Any) -> tuple[Any, ...]:
    if not isinstance(items, tuple):  # it would be copied, as often as a short pickle likes
        raise _Refused(f"it makes a size of {_describe(items)}")
    return items


_CALLS: dict[str, Callable[..., Any]] = {
    "collections OrderedDict": _ordered_dict,
    "torch Size": _size,
    "torch._utils _rebuild_parameter": _parameter,
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor,
}

_PUSH: dict[str, Callable[[Any], Any]] = {
    "EMPTY_DICT": lambda _: {},
    "EMPTY_LIST": lambda _: [],
    "EMPTY_TUPLE": lambda _: (),
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"), lambda value: value),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE"), lambda value: value),
}

_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, version: None,
    "FRAME": lambda machine, size: None,
    "MARK": _Machine.mark,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "TUPLE": _Machine.tuple_to_mark,
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "APPEND": _Machine.append,
    "APPENDS": _Machine.append_to_mark,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.name_from_stack,
    "REDUCE": _Machine.call,
    "BUILD": _Machine.set_state,
    "BINPERSID": _Machine.storage,
}
