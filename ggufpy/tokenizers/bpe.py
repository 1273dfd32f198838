"""`tokenizer.ggml.model` "gpt2": byte-level BPE, from the merges in the file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from ggufpy.errors import TokenizerError
from ggufpy.tokenizers.cutting import Cutter, Described, Program
from ggufpy.tokenizers.libraries import normalizer
from ggufpy.tokenizers.merges import Merges
from ggufpy.tokenizers.pretokenizers import PRE_TOKENIZERS, PreTokenizer
from ggufpy.tokenizers.special import IGNORE_MERGES_KEY, NORMALIZER_KEY, PRE_TOKENIZER_KEY
from ggufpy.tokenizers.tokenizer import Tokenizer
from ggufpy.tokenizers.values import KEY, flag_of, text_of
from ggufpy.tokenizers.vocabulary import Defaults, read_vocabulary

_PRE = KEY + "pre"


class ByteLevelTokenizer(Tokenizer):
    """Byte-level BPE: text is cut into words, whose UTF-8 bytes are merged."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        """Build from a file's metadata; raises TokenizerError, warns if it names no pre-tokenizer."""
        program = _program(metadata)
        default = 11 if program.default_bos else None
        vocabulary = read_vocabulary(metadata, Defaults(default, 11, add_bos=program.add_bos))
        super().__init__(vocabulary, normalizer(text_of(metadata, NORMALIZER_KEY), NORMALIZER_KEY))
        described = text_of(metadata, PRE_TOKENIZER_KEY)
        self._cutter: Cutter = Program(program) if described is None else Described(described)
        # What is described writes words in the alphabet of bytes, as its last step.
        bytes_ = np.array([-1 if id is None else id for id in map(vocabulary.tokens.find, BYTES)], np.int32)
        self._merges = Merges(
            vocabulary.tokens,
            byte=bytes_ if described is None else None,
            byte_level=described is None,
            whole_first=flag_of(metadata, IGNORE_MERGES_KEY, program.ignore_merges),
        )
        self._merges.read(metadata)

    def _encode_text(self, text: str, is_first: bool) -> list[int]:
        return self._merges.encode(self._cutter.cut(text, is_first))

    def _text_bytes(self, text: str) -> bytes:
        return text_bytes(text)


def text_bytes(text: str) -> bytes:
    """What a text in the alphabet of bytes stands for; one that is not in it stands for itself."""
    try:
        return bytes([BYTES[character] for character in text])
    except KeyError:
        return text.encode("utf-8", "surrogateescape")


def _program(metadata: Mapping[str, Any]) -> PreTokenizer:
    name = metadata.get(_PRE)
    if not name:
        warnings.warn(f"{_PRE} is missing, 'default' is a guess; answers may suffer", stacklevel=5)
        name = "default"
    program = PRE_TOKENIZERS.get(name) if isinstance(name, str) else None
    if program is None:
        raise TokenizerError(
            f"{_PRE} is {name!r:.60}, which ggufpy does not know; it knows 'llama-bpe', 'qwen2', ..."
        )
    return program


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's characters for bytes 0 to 255: printable ones for themselves, others from U+0100 on."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte if byte in printable else 0x100 + others.index(byte)): byte for byte in range(256)}


BYTES = _byte_alphabet()
