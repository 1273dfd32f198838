"""`tokenizer.ggml.model` "gpt2": byte-level BPE, from the merges in the file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from itertools import repeat
from typing import Any

import tokenizers
from tokenizers import models, pre_tokenizers

from ggufpy.errors import TokenizerError
from ggufpy.tokenizers.pretokenizers import PRE_TOKENIZERS, PreTokenizer
from ggufpy.tokenizers.tokenizer import Tokenizer
from ggufpy.tokenizers.vocabulary import Defaults, read_vocabulary

_MERGES = "tokenizer.ggml.merges"
_PRE = "tokenizer.ggml.pre"


class ByteLevelTokenizer(Tokenizer):
    """Byte-level BPE: text is cut into words, whose UTF-8 bytes are merged."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        """Build from a file's metadata; raises TokenizerError, warns if it names no pre-tokenizer."""
        program = _program(metadata)
        default = 11 if program.default_bos else None
        vocabulary = read_vocabulary(metadata, Defaults(default, 11, None, program.add_bos, False))
        super().__init__(vocabulary)
        self._encoder = tokenizers.Tokenizer(_model(metadata, vocabulary.ids, program.ignore_merges))
        self._encoder.pre_tokenizer = pre_tokenizer(program)

    def _encode_text(self, text: str, after_special: bool) -> list[int]:
        return self._encoder.encode(text, add_special_tokens=False).ids

    def _text_bytes(self, text: str) -> bytes:
        try:
            return bytes([BYTES[character] for character in text])
        except KeyError:  # a name that is not in the byte alphabet stands for itself
            return text.encode("utf-8", "surrogateescape")


def pre_tokenizer(program: PreTokenizer) -> pre_tokenizers.PreTokenizer:
    """A program as `tokenizers` runs it, with the step to byte-level characters at its end."""
    steps = [pre_tokenizers.Split(tokenizers.Regex(regex), "isolated") for regex in program.regexes]
    return pre_tokenizers.Sequence(
        [*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )


def _program(metadata: Mapping[str, Any]) -> PreTokenizer:
    name = metadata.get(_PRE)
    if not name:
        warnings.warn(f"{_PRE} is missing, 'default' is a guess; answers may suffer", stacklevel=4)
        name = "default"
    program = PRE_TOKENIZERS.get(name) if isinstance(name, str) else None
    if program is None:
        raise TokenizerError(
            f"{_PRE} is {name!r:.60}, which ggufpy does not know; it knows 'llama-bpe', 'qwen2', ..."
        )
    return program


def _model(metadata: Mapping[str, Any], ids: dict[str, int], ignore_merges: bool) -> models.BPE:
    merges = metadata.get(_MERGES)
    if not isinstance(merges, list):
        raise TokenizerError(f"{_MERGES}: missing or not a list of strings; convert the model again")
    try:
        # Of the ways to build the pairs this is the fastest: a 128k vocabulary has 280,000.
        pairs = [(left, right) for left, _, right in map(str.partition, merges, repeat(" "))]
        return models.BPE(ids, pairs, ignore_merges=ignore_merges)
    except Exception as exc:  # tokenizers raises Exception itself
        raise TokenizerError(f"{_MERGES}: {_problem(merges, ids)}; convert the model again") from exc


def _problem(merges: list[Any], ids: dict[str, int]) -> str:
    """What is wrong with the first bad merge, or with the tokens."""
    for number, merge in enumerate(merges):
        left, _, right = merge.partition(" ") if isinstance(merge, str) else ("", "", "")
        if not (left and right):
            return f"merge {number}, {merge!r:.60}, is not two parts with a space between them"
        for text in (left, right, left + right):
            if text not in ids:
                return f"merge {number}, {merge!r:.60}, needs {text!r:.60}, which is not a token"
    return "the tokens they make are not all UTF-8"


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's characters for bytes: printable ones stand for themselves, the others count from U+0100."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(others)}


BYTES = _byte_alphabet()
