"""How far a rounded network is from the float one, on text that it was not calibrated on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ggufpy.calibrate.streams import Runner
from ggufpy.evaluate.divergence import divergence
from ggufpy.gguf.reader import GGUFFile, TensorInfo
from ggufpy.runtime.engine import trace

_CAP = 3.0  # nats that one token counts for, at most


@dataclass(frozen=True, slots=True)
class Verdict:
    """KL divergence from the float model, in nats: its mean, that of at most 3 a token, and the worst."""

    mean: float
    capped: float
    worst: float
    tokens: int

    def __str__(self) -> str:
        return f"KL {self.mean:.5f} (at most 3 a token: {self.capped:.5f}; worst {self.worst:.2f})"


class Judge:
    """Compares networks that differ from a file's in some tensors, on chunks of tokens."""

    def __init__(self, file: GGUFFile, chunks: Sequence[list[int]], n_threads: int) -> None:
        graph, outputs = trace(file)
        self._nodes, self._wanted = graph.nodes, {"logits": outputs["logits"]}
        self._runner = Runner(file, chunks, n_threads)

    def __call__(self, tensors: Mapping[str, TensorInfo]) -> Verdict:
        """The verdict on the network with these tensors, all that it reads."""
        found = [
            divergence(want["logits"], got["logits"])
            for (_, want), (_, got) in zip(
                self._runner.each(self._nodes, self._wanted, None),
                self._runner.each(self._nodes, self._wanted, None, tensors),
                strict=True,
            )
        ]
        each = np.concatenate(found)
        capped = float(np.minimum(each, _CAP).mean())
        return Verdict(float(each.mean()), capped, float(each.max()), len(each))
