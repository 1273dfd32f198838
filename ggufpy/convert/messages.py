"""What is said of a checkpoint's tensors that do not make a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.tensors import TensorSource
from ggufpy.graph.messages import Messages


def no_place(name: str) -> UnsupportedModelError:
    """What is said of a tensor that nothing in a file is made of."""
    return UnsupportedModelError(f"tensor '{name:.80}' has no place in this architecture as ggufpy knows it")


@dataclass(frozen=True, slots=True)
class CheckpointMessages(Messages):
    """Errors about the tensors of a checkpoint, under their names there."""

    tensors: Mapping[str, TensorSource]
    asked: Mapping[str, Sequence[str]]

    def named(self, name: str) -> str:
        """The first of the checkpoint's tensors that make one of the file."""
        return f"tensor '{self._first(name)}'"

    def missing(self, name: str) -> FormatError:
        """Names the first part that is not there."""
        parts = self.asked.get(name, ())
        missing = next((part for part in parts if part not in self.tensors), name)
        return FormatError(f"tensor '{missing}' is missing from the checkpoint; download it again")

    def misshapen(self, name: str, found: tuple[int, ...], wanted: Sequence[int | str]) -> FormatError:
        """Says of what they are made, where the checkpoint's do not stay as they are."""
        parts = self.asked.get(name, ())
        subject = self.named(name)
        if len(parts) != 1 or self.tensors[parts[0]].shape != found:
            others = f" and {len(parts) - 1} others" if len(parts) > 1 else ""
            subject = f"'{name}', made of {subject}{others},"
        asked = f"config.json asks for {tuple(wanted)}"
        return FormatError(f"{subject} has shape {found}, {asked}; they do not belong together")

    def unused(self, names: Sequence[str]) -> UnsupportedModelError:
        """The table knows it, but not a network of this configuration."""
        return no_place(self._first(names[0]))

    def _first(self, name: str) -> str:
        return next(iter(self.asked.get(name, ())), name)
