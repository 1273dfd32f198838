"""Mistral 3 and Ministral 3: Llama's graph, with attention temperature on long contexts."""

from __future__ import annotations

from ggufpy.architectures.llama import forward

__all__ = ["forward"]
