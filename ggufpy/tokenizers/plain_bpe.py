"""BPE whose tokens are written as they are: `tokenizer.ggml.model` "gemma4", and some names of "gpt2".

Names and flags: llama.cpp src/llama-vocab.cpp, by what the program makes of texts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ggufpy.tokenizers.bpe import ByteLevelTokenizer
from ggufpy.tokenizers.cutting import Cutter, Described, Program
from ggufpy.tokenizers.escaped import SPACE, EscapedTokenizer
from ggufpy.tokenizers.libraries import normalizer
from ggufpy.tokenizers.merges import Merges
from ggufpy.tokenizers.pretokenizers import PreTokenizer
from ggufpy.tokenizers.special import FUSE_UNKNOWN_KEY, IGNORE_MERGES_KEY, NORMALIZER_KEY, PRE_TOKENIZER_KEY
from ggufpy.tokenizers.tokenizer import Tokenizer
from ggufpy.tokenizers.values import KEY, flag_of, text_of
from ggufpy.tokenizers.vocabulary import Defaults, read_vocabulary

# Where a line begins without a space.
_LINE_BEGINS = re.compile(rf"(?<![^\n])(?=[^\n{SPACE}])")


@dataclass(frozen=True, slots=True)
class _Plain:
    """How a text is written and cut into words.

    space: what stands for a space. begins_lines: it stands in front of every line, too. needs_bos: a BOS
    token starts a text even if the file says otherwise, which early files of Gemma 4 do.
    """

    program: PreTokenizer
    space: str = SPACE
    begins_lines: bool = False
    needs_bos: bool = False


_LINES = PreTokenizer((r"[^\n]+|[\n]+",))
_PLAIN = {
    "gemma4": _Plain(_LINES, needs_bos=True),
    "granite-embed-multi-311m": _Plain(_LINES, needs_bos=True),
    "sarvam-moe": _Plain(_LINES),
    "mmbert": _Plain(PreTokenizer((rf"\n+|{SPACE}[^\n{SPACE}]*",)), begins_lines=True),
    "whitespace": _Plain(PreTokenizer((r"\s+",)), space=" "),
}


def byte_pair_tokenizer(metadata: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of a file of kind "gpt2", whose pre-tokenizer says how tokens are written."""
    name = metadata.get(KEY + "pre")
    plain = _PLAIN.get(name) if isinstance(name, str) else None
    return PlainTokenizer(metadata, plain, Defaults(11, 11)) if plain else ByteLevelTokenizer(metadata)


class PlainTokenizer(EscapedTokenizer):
    """Characters are merged; what is no token is written in bytes, as `<0x0A>`."""

    def __init__(
        self,
        metadata: Mapping[str, Any],
        plain: _Plain = _PLAIN["gemma4"],
        defaults: Defaults = Defaults(),  # noqa: B008  (it is frozen)
    ) -> None:
        """Build from a file's metadata; raises TokenizerError."""
        vocabulary = read_vocabulary(metadata, replace(defaults, add_bos=plain.needs_bos))
        described, words = text_of(metadata, NORMALIZER_KEY), text_of(metadata, PRE_TOKENIZER_KEY)
        is_described = described is not None or words is not None
        add_bos = vocabulary.add_bos or plain.needs_bos
        prefix = vocabulary.add_space_prefix if is_described else plain.begins_lines
        vocabulary = replace(vocabulary, add_bos=add_bos, add_space_prefix=prefix)
        self._plain = plain
        super().__init__(vocabulary, normalizer(described, NORMALIZER_KEY) if is_described else self._escape)
        self._cutter: Cutter = Program(plain.program) if words is None else Described(words)
        if is_described:
            bytes_ = vocabulary.byte_ids()
        else:
            by_text = [vocabulary.tokens.find(f"<0x{byte:02X}>") for byte in range(256)]
            bytes_ = np.array([-1 if id is None else id for id in by_text], np.int32)
        self._merges = Merges(
            vocabulary.tokens,
            byte=bytes_ if bytes_.max() >= 0 else None,
            whole_first=flag_of(metadata, IGNORE_MERGES_KEY, False),
            unknown=vocabulary.unknown_id,
            fused=flag_of(metadata, FUSE_UNKNOWN_KEY, True),
        )
        self._merges.read(metadata)

    def _encode_text(self, text: str, is_first: bool) -> list[int]:
        return self._merges.encode(self._cutter.cut(text, is_first))

    def _escape(self, text: str) -> str:
        text = text.replace(" ", self._plain.space)
        return _LINE_BEGINS.sub(SPACE, text) if self._plain.begins_lines else text

    def _text_bytes(self, text: str) -> bytes:
        return text.replace(self._plain.space, " ").encode("utf-8", "surrogateescape")
