"""The proof of a converted vocabulary: it encodes texts as the checkpoint's own tokenizer does."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor

from ggufpy.checkpoint.json_files import read_json
from ggufpy.convert.vocabulary.other_files import no_tokenizer, open_files
from ggufpy.convert.vocabulary.rwkv import longest_first, rwkv_path, rwkv_text, rwkv_tokens
from ggufpy.convert.vocabulary.sample_texts import SAMPLES
from ggufpy.convert.vocabulary.sentencepiece_model import open_sentencepiece, with_prefix
from ggufpy.convert.vocabulary.tokenizer_files import TokenizerFiles
from ggufpy.convert.vocabulary.tokenizer_json import errors_of_tokenizers, open_encoder
from ggufpy.convert.vocabulary.unigram import own_ids
from ggufpy.errors import TokenizerError
from ggufpy.gguf.values import Typed
from ggufpy.tokenizers import Tokenizer, load_tokenizer
from ggufpy.tokenizers.types import TokenType

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

    Raises TokenizerError that shows the first text on which the two differ, or that two tokens have.
    """
    plain: dict[str, Any] = {
        key: value.value if isinstance(value, Typed) else value for key, value in metadata.items()
    }
    _check_texts(folder, plain["tokenizer.ggml.tokens"])
    for each in comparisons(folder, plain):
        if each.found.ids != each.wanted.ids:
            raise TokenizerError(
                f"{folder}: its tokenizer turns {each.text!r:.300} into {each.wanted.ids}, the converted one "
                f"into {each.found.ids}; open an issue with this line"
            )


def _check_texts(folder: Path, tokens: Sequence[str]) -> None:
    ids: dict[str, int] = {}
    for id, text in enumerate(tokens):
        if text and ids.setdefault(text, id) != id:
            problem = f"{text!r:.60} is both token {ids[text]} and token {id}"
            remedy = "correct added_tokens.json and added_tokens_decoder, or download it again"
            raise TokenizerError(f"{folder}: {problem}; {remedy}")


def comparisons(folder: Path, metadata: Mapping[str, Any], more: Sequence[str] = ()) -> Iterator[Comparison]:
    """Encode texts with the checkpoint's tokenizer and with the one that a file of this metadata has.

    metadata: plain values. The texts are prose, code, numbers, many scripts and white spaces, mixtures of the
    vocabulary's tokens, `more`, and the added tokens.
    """
    tokenizer = load_tokenizer(metadata)
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    config = folder / "config.json"  # which Mistral's and Meta's own checkpoints do without
    model = {"model_type": metadata.get("general.architecture")}
    files = open_files(folder, read_json(config) if config.is_file() else model)
    for text, wanted in _expectations(files, metadata, [*SAMPLES, *_mixes(tokenizer, metadata), *more]):
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
    n_tokens = len(metadata["tokenizer.ggml.tokens"])
    types: list[int] = metadata.get("tokenizer.ggml.token_type", [])
    return types[:n_tokens] or [TokenType.NORMAL] * n_tokens


def _expectations(
    files: TokenizerFiles, metadata: Mapping[str, Any], texts: list[str]
) -> Iterator[tuple[str, Encoding]]:
    """Texts as the checkpoint's tokenizer encodes them; added tokens stand among the texts."""
    n_vocab = len(metadata["tokenizer.ggml.tokens"])
    added = {id: token for id, token in files.added_tokens().items() if id < n_vocab}
    if files.tokenizer:
        encoder = open_encoder(files)
        known = encoder.get_added_tokens_decoder().keys() & added.keys()
        texts += [text.replace("{}", added[id].text) for id in sorted(known) for text in _AROUND]
        for text in texts:
            with errors_of_tokenizers(files):
                found = encoder.encode(text, add_special_tokens=False)
            yield text, Encoding(found.ids, found.tokens)
        return
    if processor := open_sentencepiece(files):
        yield from _sentencepiece_expectations(files, processor, metadata, texts)
        yield from (
            (token.text, Encoding([id], [token.text])) for id, token in added.items() if token.special
        )
        return
    if path := rwkv_path(files.folder):
        tokens = rwkv_tokens(path)
        names = {id: rwkv_text(token) for token, id in tokens.items()}
        for text in texts:
            ids = longest_first(tokens, text)
            yield text, Encoding(ids, [names[id] for id in ids])
        return
    raise no_tokenizer(files.folder)


def _sentencepiece_expectations(
    files: TokenizerFiles, processor: SentencePieceProcessor, metadata: Mapping[str, Any], texts: list[str]
) -> Iterator[tuple[str, Encoding]]:
    """What the model says, which knows neither added tokens nor those that text cannot have."""
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
        pieces = [processor.IdToPiece(id) for id in ids]
        yield text, Encoding(own_ids(files, processor, ids), pieces)
