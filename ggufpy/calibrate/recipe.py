"""What rounding by a text goes by: which recipes there are, and how they are named."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the matrices of a network are rounded: by error feedback, or, `learned`, by descent on shifts.

    propagate: layers make up for what those before them have lost. first: how many times the first token of
    a context counts: all others attend to it. guided: a token counts by the gradient of the loss at each
    matrix's outputs, squared, instead. two_sided: outputs count by these gradients, too.
    """

    propagate: bool = False
    first: int = 1
    guided: bool = False
    two_sided: bool = False
    learned: bool = False

    @property
    def needs_gradients(self) -> bool:
        """Whether the network has to be run backwards."""
        return self.guided or self.two_sided

    def __str__(self) -> str:
        """The names of the methods, and what the first token counts for."""
        parts = {
            "gptq": not self.learned,
            "round": self.learned,
            "propagate": self.propagate,
            "guided": self.guided,
            "two-sided": self.two_sided,
            f"first={self.first}": self.first > 1,
        }
        return ",".join(name for name, is_used in parts.items() if is_used)
