"""The proof of a converted vocabulary: it encodes texts as the checkpoint's own tokenizer does."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor

from ggufpy.convert.vocabulary.sentencepiece_model import open_sentencepiece, with_prefix
from ggufpy.convert.vocabulary.tokenizer_files import TokenizerFiles
from ggufpy.convert.vocabulary.tokenizer_json import errors_of_tokenizers, is_nfc, open_encoder
from ggufpy.errors import FormatError, TokenizerError
from ggufpy.gguf.values import Typed
from ggufpy.tokenizers import Tokenizer, load_tokenizer
from ggufpy.tokenizers.types import TokenType

_SAMPLES = (
    "Hello, world!",
    " leading space",
    "trailing space ",
    "two  spaces, three   spaces,    four\tand\t\ttabs",
    "one\nline\n\nand\n\n\nmore \n with \n  spaces\r\nand\r\n\r\nreturns \r",
    "I'm sure they'll say it's what we've done; don't you'd, HE'S, I'M, WE'LL, can't 'quote'",
    "1 12 123 1234 12345 1234567890 3.14159 1,000,000 -42 0x1F 1e-9 50% $9.99",
    "camelCase PascalCase HTTPServer snake_case kebab-case UPPER lower MiXeD",
    "def f(x: int) -> str:\n    return f\"{x!r:>10}\"  # comment\n\n\nif __name__ == '__main__':\n\tf(1)\n",
    '#include <stdio.h>\nint main(void) { printf("%d\\n", a[i] ^ ~b | c & d); /* ok */ return 0; }',
    '{"key": [1, 2.5, null, true], "path": "C:\\\\dir\\\\file", "url": "https://example.org/?q=a&b=c#d"}',
    "<p class='x'>&amp;&nbsp;</p> [link](http://a.b) **bold** `code` ~~x~~ | a | b |",
    "!!! ??? ... --- ___ === +++ *** /// \\\\\\ (((a))) [[b]] {{c}} <<d>> @@ ## $$ %% ^^ && ``",
    "\u00c0\u00c9\u00ee\u00f5\u00fc \u00df \u00f1 \u00e7 \u0152uvre na\u00efve fa\u00e7ade \u0130stanbul",
    "e\u0301 n\u0303 u\u0308 a\u030a\u0323 combining, \u00e9 \u00f1 composed",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! "
    "\u0395\u03bb\u03bb\u03b7\u03bd\u03b9\u03ba\u03ac \u03a3\u0391\u03a3",
    "\u4f60\u597d\uff0c\u4e16\u754c\uff01"
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8\u3002\ud55c\uad6d\uc5b4 \ubb38\uc7a5",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645"
    " \u05e9\u05dc\u05d5\u05dd \u0661\u0662\u0663",
    "\u0928\u092e\u0938\u094d\u0924\u0947"
    " \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35 \u1200\u1208\u1210 \u10d0\u10d1\u10d2",
    "\U0001f999 \U0001f468\u200d\U0001f469\u200d\U0001f467"
    " \U0001f1e9\U0001f1ea \U0001f44d\U0001f3fd \u2764\ufe0f \U0001d54f\U00020000",
    "\u00bd \u00b2 \u2167 \u2460 \ufb01 \u2122 \u2026 \u2014 \u2018q\u2019 \u201cq\u201d \u20ac \u00a9",
    "\u00a0nbsp\u2003em\u3000wide\u200bzero\ufeffbom\u0085nel\u2028line\x00nul\x7fdel",
    "a" * 100 + " " * 50 + "\n" * 20 + "=" * 80 + "ab" * 60,
)
# Added tokens in text, and in white space, which some of them swallow.
_AROUND = ("a{}b 1", "a  {}\n\nb \n {} c")
_MIXES = 200
_MIX_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Encoding:
    """The ids of a text, and how their vocabulary writes each of them."""

    ids: list[int]
    pieces: list[str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A text as the checkpoint's tokenizer encodes it, and as the converted one does."""

    text: str
    wanted: Encoding
    found: Encoding


def check_vocabulary(folder: Path, metadata: Mapping[str, Any]) -> None:
    """Hold the tokenizer that a file of this metadata has against that of the checkpoint in `folder`.

    Raises TokenizerError that shows the first text on which the two differ.
    """
    plain = {key: value.value if isinstance(value, Typed) else value for key, value in metadata.items()}
    for each in comparisons(folder, plain):
        if each.found.ids != each.wanted.ids:
            raise TokenizerError(
                f"{folder}: its tokenizer turns {each.text!r:.300} into {each.wanted.ids}, the converted one "
                f"into {each.found.ids}; open an issue with this line"
            )


def comparisons(folder: Path, metadata: Mapping[str, Any], more: Sequence[str] = ()) -> Iterator[Comparison]:
    """Encode texts with the checkpoint's tokenizer and with the one that a file of this metadata has.

    metadata: plain values. The texts are prose, code, numbers, many scripts and white spaces, mixtures of the
    vocabulary's tokens, `more`, and the added tokens. GGUF does not say that a tokenizer composes characters
    first (NFC): one that does is given composed ones.
    """
    tokenizer = load_tokenizer(metadata)
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    files = TokenizerFiles.open(folder, {})
    for text, wanted in _expectations(files, metadata, [*_SAMPLES, *_mixes(tokenizer, metadata), *more]):
        ids = tokenizer.encode(text, add_special=False, parse_special=True)
        yield Comparison(text, wanted, Encoding(ids, [tokens[id] for id in ids]))


def _mixes(tokenizer: Tokenizer, metadata: Mapping[str, Any]) -> Iterator[str]:
    """Random sequences of ordinary tokens, always the same for a vocabulary."""
    ordinary = [id for id, type in enumerate(_types(metadata)) if type == TokenType.NORMAL]
    choose = random.Random(0)
    for _ in range(_MIXES if ordinary else 0):
        yield tokenizer.decode(choose.choices(ordinary, k=_MIX_TOKENS)).decode("utf-8", "replace")


def _types(metadata: Mapping[str, Any]) -> list[int]:
    """Of all tokens, which a file need not say."""
    types: list[int] = metadata.get("tokenizer.ggml.token_type", [])
    return types or [TokenType.NORMAL] * len(metadata["tokenizer.ggml.tokens"])


def _expectations(
    files: TokenizerFiles, metadata: Mapping[str, Any], texts: list[str]
) -> Iterator[tuple[str, Encoding]]:
    """Texts as the checkpoint's tokenizer encodes them; added tokens stand among the texts."""
    n_vocab = len(metadata["tokenizer.ggml.tokens"])
    added = {id: token for id, token in files.added_tokens().items() if id < n_vocab}
    processor = open_sentencepiece(files)
    if processor:
        yield from _sentencepiece_expectations(processor, metadata, texts)
        yield from (
            (token.text, Encoding([id], [token.text])) for id, token in added.items() if token.special
        )
        return
    if not files.tokenizer:
        raise FormatError(f"{files.folder}: no tokenizer there; name the folder of a checkpoint that has one")
    encoder = open_encoder(files)
    composed = is_nfc(files.tokenizer.get("normalizer"))
    if metadata["tokenizer.ggml.model"] == "llama":
        # Readers differ in whether text behind an added token starts with a space, so it stands alone.
        texts += [token.text for token in added.values() if token.special]
    else:
        texts += [text.replace("{}", token.text) for token in added.values() for text in _AROUND]
    for text in texts:
        if composed:
            text = unicodedata.normalize("NFC", text)
        with errors_of_tokenizers(files):
            found = encoder.encode(text, add_special_tokens=False)
        yield text, Encoding(found.ids, found.tokens)


def _sentencepiece_expectations(
    processor: SentencePieceProcessor, metadata: Mapping[str, Any], texts: list[str]
) -> Iterator[tuple[str, Encoding]]:
    """What tokenizer.model says, which knows neither added tokens nor those that text cannot have."""
    prefix = metadata.get("tokenizer.ggml.add_space_prefix", True)
    processor = with_prefix(processor, prefix)
    special = (TokenType.CONTROL, TokenType.UNKNOWN, TokenType.USER_DEFINED)
    tokens, types = metadata["tokenizer.ggml.tokens"], _types(metadata)
    names = [text for text, type in zip(tokens, types, strict=True) if type in special]
    texts = [text for text in texts if not any(name in text for name in names)]
    if not prefix:
        defined = zip(tokens, types, range(processor.vocab_size()), strict=False)
        texts += [f"a{text}b 1" for text, type, _ in defined if type == TokenType.USER_DEFINED]
    for text in texts:
        ids = processor.EncodeAsIds(text)
        yield text, Encoding(ids, [processor.IdToPiece(id) for id in ids])
