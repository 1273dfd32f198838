"""Biases that llama.cpp adds although models of an architecture come without: its loader takes them if there.

Found by giving tiny models one each, as tests/calibrate/test_biases.py does. Others it refuses, or takes and
does not add.
"""

from __future__ import annotations

from collections.abc import Mapping

_READ = frozenset(("attn_q", "attn_k", "attn_v"))
_ATTENTION = _READ | {"attn_output"}
_GATED = frozenset(("ffn_gate", "ffn_up", "ffn_down"))
_PLAIN = frozenset(("ffn_up", "ffn_down"))

# By architecture, the names of linears.
TAKEN: Mapping[str, frozenset[str]] = {
    "cohere2": _READ,
    "command-r": _READ,
    "ernie4_5": _READ,
    "ernie4_5-moe": _READ,
    "exaone4": _READ,
    "falcon-h1": _READ | _GATED,
    "gemma": _READ,
    "gemma2": _READ,
    "gemma3": _READ,
    "granite": _ATTENTION | _GATED,
    "granitehybrid": _ATTENTION,
    "granitemoe": _ATTENTION,
    "hunyuan-dense": _READ,
    "hunyuan-moe": _READ,
    "lfm2": _READ,
    "lfm2moe": _READ,
    "llama": _ATTENTION | _GATED,
    "llama4": _READ,
    "minimax-m2": _READ,
    "mistral3": _ATTENTION | _GATED,
    "nemotron": _ATTENTION | _PLAIN,
    "nemotron_h": _ATTENTION | _PLAIN,
    "nemotron_h_moe": _ATTENTION,
    "olmo2": _READ,
    "olmoe": _READ,
    "phi3": frozenset(("attn_qkv",)),
    "qwen3": _READ,
    "qwen35": _READ,
    "qwen35moe": _READ,
    "qwen3moe": _READ,
    "qwen3next": _READ,
    "smollm3": _READ,
    "stablelm": _READ,
}
