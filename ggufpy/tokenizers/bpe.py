"""`tokenizer.ggml.model` "gpt2": byte-level BPE, from the merges in the file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import tokenizers
from tokenizers import pre_tokenizers

from ggufpy._kernels import ffi, lib
from ggufpy.background import wait_for
from ggufpy.errors import TokenizerError
from ggufpy.gguf.metadata import strings_of
from ggufpy.tokenizers.pretokenizers import PRE_TOKENIZERS, PreTokenizer
from ggufpy.tokenizers.tokenizer import Tokenizer
from ggufpy.tokenizers.tokens import Tokens, hash_table
from ggufpy.tokenizers.vocabulary import Defaults, read_vocabulary

_MERGES = "tokenizer.ggml.merges"
_PRE = "tokenizer.ggml.pre"
_LONG = 1 << 18  # bytes: from here on a signal is answered while they are encoded


class ByteLevelTokenizer(Tokenizer):
    """Byte-level BPE: text is cut into words, whose UTF-8 bytes are merged."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        """Build from a file's metadata; raises TokenizerError, warns if it names no pre-tokenizer."""
        program = _program(metadata)
        default = 11 if program.default_bos else None
        vocabulary = read_vocabulary(metadata, Defaults(default, 11, None, program.add_bos, False))
        super().__init__(vocabulary)
        self._merges = Merges(metadata, vocabulary.tokens, program.ignore_merges)
        self._cutter = pre_tokenizer(program)

    def _encode_text(self, text: str, after_special: bool) -> list[int]:
        try:
            words = [word for word, _ in self._cutter.pre_tokenize_str(text)]
        except BaseException as exc:
            if not is_panic(exc):
                raise
            raise TokenizerError(
                f"a text of {len(text)} characters cannot be cut into words ({exc!s:.200}); divide it"
            ) from exc
        return self._merges.encode(words)

    def _text_bytes(self, text: str) -> bytes:
        try:
            return bytes([BYTES[character] for character in text])
        except KeyError:  # a name that is not in the byte alphabet stands for itself
            return text.encode("utf-8", "surrogateescape")


def pre_tokenizer(program: PreTokenizer) -> pre_tokenizers.PreTokenizer:
    """A program as `tokenizers` runs it, with the step to byte-level characters at its end."""
    steps = [pre_tokenizers.Split(tokenizers.Regex(regex), "isolated") for regex in program.steps]
    return pre_tokenizers.Sequence(
        [*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )


def is_panic(error: BaseException) -> bool:
    """Whether Rust panicked: its class is no Exception, and can only be told by its name."""
    return type(error).__name__ == "PanicException"


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


class Merges:
    """The merges as tables that csrc/text/bpe.c works with.

    `tokenizers` has them too, but takes half a second and 100 MB to build its model from 280,000 of them.
    """

    def __init__(self, metadata: Mapping[str, Any], tokens: Tokens, ignore_merges: bool) -> None:
        texts = strings_of(metadata, _MERGES)
        if texts is None:
            raise TokenizerError(f"{_MERGES}: missing or not a list of strings; convert the model again")
        self._tokens, self._ignore_merges = tokens, ignore_merges
        self._merge = np.empty(3 * len(texts), np.int32)
        self._slots, bits = hash_table(len(texts), np.uint32)
        merge = ffi.cast("gg_merge *", ffi.from_buffer(self._merge))
        slots = ffi.from_buffer("uint32_t[]", self._slots)
        self._record = ffi.new("gg_merges *", (tokens.record, merge, slots, bits))
        joined = np.empty(int(np.diff(texts.start).max(initial=0)), np.uint8)
        record = ffi.new("gg_strings *", texts.record())
        bad = lib.gg_index_merges(self._record, record, ffi.from_buffer("uint8_t[]", joined))
        if bad < len(texts):
            raise TokenizerError(f"{_MERGES}: {_problem(bad, texts[bad], tokens)}; convert the model again")

    def encode(self, words: list[str]) -> list[int]:
        """The tokens of words that are written in the byte alphabet, which has no spaces."""
        data = " ".join(words).encode()
        n = len(data)
        if n >= 1 << 31:
            raise TokenizerError(f"a text of {n} bytes is too long to be cut into tokens; divide it")
        out, symbols, heap = np.empty(n, np.int32), np.empty(3 * n, np.int32), np.empty(2 * n, np.uint64)
        abort, count = ffi.new("int32_t *"), ffi.new("size_t *")

        def encode() -> None:  # holds on to all memory, until it ends
            count[0] = lib.gg_encode_words(
                self._record,
                data,
                n,
                self._ignore_merges,
                ffi.from_buffer("int32_t[]", out),
                ffi.cast("gg_symbol *", ffi.from_buffer(symbols)),
                ffi.from_buffer("uint64_t[]", heap),
                abort,
            )

        try:
            if n < _LONG:
                encode()
            else:
                wait_for(encode)
        finally:
            abort[0] = 1
        ids: list[int] = out[: count[0]].tolist()
        return ids


def _problem(number: int, merge: str, tokens: Tokens) -> str:
    """What is wrong with a bad merge."""
    left, _, right = merge.partition(" ")
    if not (left and right):
        return f"merge {number}, {merge!r:.60}, is not two parts with a space between them"
    missing = next(text for text in (left, right, left + right) if tokens.find(text) is None)
    return f"merge {number}, {merge!r:.60}, needs {missing!r:.60}, which is not a token"


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's characters for bytes: printable ones stand for themselves, the others count from U+0100."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(others)}


BYTES = _byte_alphabet()
