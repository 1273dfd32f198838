"""Tokenizers, built from the metadata of a GGUF file alone."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from ggufpy.errors import TokenizerError
from ggufpy.tokenizers.tokenizer import Tokenizer

__all__ = ["Tokenizer", "load_tokenizer"]

# tokenizer.ggml.model: (module, what makes the tokenizer of metadata); imported when needed, to start fast.
_KINDS = {
    "llama": ("ggufpy.tokenizers.spm", "SentencePieceTokenizer"),
    "gpt2": ("ggufpy.tokenizers.plain_bpe", "byte_pair_tokenizer"),
    "gemma4": ("ggufpy.tokenizers.plain_bpe", "PlainTokenizer"),
    "t5": ("ggufpy.tokenizers.unigram", "UnigramTokenizer"),
    "bert": ("ggufpy.tokenizers.wpm", "WordPieceTokenizer"),
    "rwkv": ("ggufpy.tokenizers.rwkv", "LongestTokenizer"),
}

_NONE = ("none", "no_vocab")  # llama.cpp opens such files, and ends where one asks for text


def load_tokenizer(metadata: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that a GGUF file describes; raises TokenizerError if it is damaged or unknown."""
    kind = metadata.get("tokenizer.ggml.model")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise TokenizerError(_refusal(kind, metadata))
    module, name = _KINDS[kind]
    tokenizer: Tokenizer = getattr(import_module(module), name)(metadata)
    return tokenizer


def _refusal(kind: object, metadata: Mapping[str, Any]) -> str:
    architecture = metadata.get("general.architecture")
    if architecture == "clip" or metadata.get("general.type") == "mmproj":
        problem = "is the projector (mmproj) of a model that sees or hears, not a language model"
        return f"the file {problem}; open the model beside it"
    problem = f"tokenizer.ggml.model is {kind!r:.60}, in a file of architecture {architecture!r:.60}"
    if kind in _NONE:
        return f"{problem}: it has no vocabulary and runs on token ids alone; text needs a model with one"
    return f"{problem}; ggufpy has tokenizers of kind {', '.join(map(repr, _KINDS))}"
