"""What is said of tensors that are not as an architecture wants them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ggufpy.errors import FormatError, UnsupportedModelError


@dataclass(frozen=True, slots=True)
class Messages:
    """Errors about the tensors of a GGUF file; another door, whose tensors have other names, has others.

    source: where the tensors are from.
    """

    source: str
    architecture: str

    def named(self, name: str) -> str:
        """A tensor, as whoever reads the message knows it."""
        return f"{self.source}: tensor '{name}'"

    def missing(self, name: str) -> FormatError:
        """A tensor that must be there is not."""
        return FormatError(f"{self.named(name)} is missing; is this a complete {self.architecture} model?")

    def misshapen(self, name: str, found: tuple[int, ...], wanted: Sequence[int | str]) -> FormatError:
        """A tensor does not fit the others, or the metadata; "any" in `wanted` is what does not matter."""
        return FormatError(f"{self.named(name)} has shape {found}, must have {tuple(wanted)}")

    def unused(self, names: Sequence[str]) -> UnsupportedModelError:
        """Tensors that no op reads: what they would change is not known."""
        return UnsupportedModelError(
            f"{self.source}: {len(names)} tensors have no place in architecture "
            f"'{self.architecture}', the first is '{names[0]}'"
        )
