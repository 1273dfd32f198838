"""What a tokenizer.json would say for checkpoints that have none: blocks that `tokenizers` reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ggufpy.convert.vocabulary.tokenizer_files import AddedToken
from ggufpy.errors import FormatError
from ggufpy.tokenizers.bpe import BYTES

_LETTERS = {byte: letter for letter, byte in BYTES.items()}
_LONGEST = 4096  # bytes of a token; trained ones have some hundred, and each place in one is looked at

Merges = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class FastForm:
    """A tokenizer.json made of other files; path: the one of them that errors name.

    names: what tokenizer_config.json may leave out.
    """

    path: Path
    tokenizer: dict[str, Any]
    names: Mapping[str, Any] = field(default_factory=dict)


def byte_level(
    vocab: Mapping[str, int],
    merges: Merges,
    steps: Sequence[Mapping[str, Any]],
    added: Mapping[int, AddedToken],
    *,
    nfc: bool = False,
    ignore_merges: bool = False,
) -> dict[str, Any]:
    """Byte-level BPE. vocab, merges: in letters for bytes; steps: of the pre-tokenizer; added: tokens by id.

    Added tokens get places in the vocabulary, since `tokenizers` counts on from its end otherwise.
    """
    everything = {**vocab, **{token.text: id for id, token in added.items()}}
    return {
        "version": "1.0",
        "added_tokens": _added(added),
        "normalizer": {"type": "NFC"} if nfc else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*steps]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": everything, "merges": merges, "ignore_merges": ignore_merges},
    }


def split_steps(regexes: Iterable[str]) -> list[dict[str, Any]]:
    """Steps that cut by expressions, and then write bytes as letters."""
    splits = [
        {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
        for regex in regexes
    ]
    return [*splits, bytes_step(use_regex=False)]


def bytes_step(*, use_regex: bool, add_prefix_space: bool = False) -> dict[str, Any]:
    """The step that writes bytes as letters; use_regex: it cuts as GPT-2 does first."""
    flags = {"add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": use_regex}
    return {"type": "ByteLevel", **flags}


def word_pieces(
    vocab: Mapping[str, int], unknown: str, config: Mapping[str, Any], added: Mapping[int, AddedToken]
) -> dict[str, Any]:
    """WordPiece as BERT's. config: tokenizer_config.json, which says what becomes of letters."""
    normalizer: dict[str, Any] = {"type": "BertNormalizer", "clean_text": True}
    normalizer["handle_chinese_chars"] = config.get("tokenize_chinese_chars", True)
    normalizer["strip_accents"] = config.get("strip_accents")
    normalizer["lowercase"] = config.get("do_lower_case", True)
    model = {"type": "WordPiece", "unk_token": unknown, "continuing_subword_prefix": "##"}
    return {
        "version": "1.0",
        "added_tokens": _added(added),
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": None,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {**model, "max_input_chars_per_word": 100, "vocab": dict(vocab)},
    }


def _added(added: Mapping[int, AddedToken]) -> list[dict[str, Any]]:
    return [
        {"id": id, "content": token.text}
        | {
            flag: getattr(token, flag)
            for flag in ("special", "lstrip", "rstrip", "single_word", "normalized")
        }
        for id, token in sorted(added.items())
    ]


def letters(token: bytes) -> str:
    """Bytes as byte-level BPE writes them."""
    return "".join([_LETTERS[byte] for byte in token])


def recovered(ranks: Mapping[bytes, int], path: Path) -> tuple[dict[str, int], Merges]:
    """A vocabulary of ranks in letters, and the merges in it, which are not written down.

    tiktoken joins any two neighbours that make a token, the one of the lowest rank first. So each way to
    make a token of two others is a merge, in the order of the ranks. Raises FormatError for a vocabulary
    without all bytes, or with an endless token.
    """
    check_bytes(ranks, path)
    texts = {token: letters(token) for token in ranks}
    merges: Merges = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) > _LONGEST:
            problem = f"token {rank} has {len(token)} bytes, more than {_LONGEST}"
            raise FormatError(f"{path}: {problem}; download it again")
        pairs = [(token[:i], token[i:]) for i in range(1, len(token))]
        known = [(ranks[a], ranks[b], a, b) for a, b in pairs if a in ranks and b in ranks]
        merges += [(texts[a], texts[b]) for _, _, a, b in sorted(known)]
    return {texts[token]: rank for token, rank in ranks.items()}, merges


def check_bytes(tokens: Mapping[bytes, int], path: Path) -> None:
    """Raise FormatError if there is a byte that is no token, so that texts with it have no ids."""
    missing = next((byte for byte in range(256) if bytes([byte]) not in tokens), None)
    if missing is not None:
        raise FormatError(f"{path}: no token for byte {missing:#04x}; download it again")
