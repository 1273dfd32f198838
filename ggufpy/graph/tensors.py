"""The tensors of a file as a graph names them: looked up, checked for shape, and noted as used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ggufpy.errors import FormatError
from ggufpy.graph.messages import Messages


class Shaped(Protocol):
    """What tracing needs to know of a tensor."""

    @property
    def shape(self) -> tuple[int, ...]:
        """In NumPy order: (outputs, inputs)."""
        ...


class Tensors:
    """Tensors by name. A part of a network shares with the whole which are `used`.

    prefix: what all names begin with, "blk.N." in a layer.
    """

    def __init__(
        self,
        tensors: Mapping[str, Shaped],
        messages: Messages,
        prefix: str = "",
        used: set[str] | None = None,
    ) -> None:
        self._tensors = tensors
        self._messages = messages
        self._prefix = prefix
        self.used: set[str] = set() if used is None else used

    def has(self, name: str) -> bool:
        """Whether the file has a tensor of this name."""
        return self._prefix + name in self._tensors

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor; raises FormatError if it is missing or empty."""
        full = self._prefix + name
        if full not in self._tensors:
            raise self._messages.missing(full)
        found = self._tensors[full].shape
        if 0 in found:
            raise FormatError(f"{self._messages.named(full)} is empty, its shape is {found}")
        return found

    def tensor(self, name: str, *shape: int | None) -> str:
        """Note that a tensor is used; raises FormatError if it is missing or not `shape` (None: any)."""
        found = self.shape(name)
        if len(found) != len(shape) or any(
            want not in (None, have) for want, have in zip(shape, found, strict=True)
        ):
            wanted = ["any" if size is None else size for size in shape]
            raise self._messages.misshapen(self._prefix + name, found, wanted)
        self.used.add(self._prefix + name)
        return self._prefix + name

    def optional(self, name: str, *shape: int | None) -> str | None:
        """As `tensor`, or None if the file has none of this name."""
        return self.tensor(name, *shape) if self.has(name) else None

    def ignore(self, *names: str) -> None:
        """Tensors that the architecture knows and does not need."""
        self.used.update(self._prefix + name for name in names if self.has(name))

    def skip_layers(self, start: int, stop: int) -> None:
        """Tensors of blocks that are there for other purposes than the network's result."""
        beginnings = tuple(f"blk.{index}." for index in range(start, stop))
        self.used.update(name for name in self._tensors if name.startswith(beginnings))

    def check_all_used(self) -> None:
        """Raise UnsupportedModelError for a tensor of the file that nothing used."""
        unused = [name for name in self._tensors if name not in self.used]
        if unused:
            raise self._messages.unused(unused)
