"""The files of a checkpoint that say how it reads and writes text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ggufpy.checkpoint.json_files import read_json
from ggufpy.convert.vocabulary.classes import class_of
from ggufpy.errors import FormatError

# Tokens that some checkpoints forgot to mark as special. Source: llama.cpp conversion/base.py.
_LOOKS_SPECIAL = {"<pad>", "<mask>", "<2mass>", "[@BOS@]"}
_BRACKETS = (("<|", "|>"), ("<\uff5c", "\uff5c>"), ("<unused", ">"))

# Rows of a model for which a tokenizer may have no token: each gets an entry in the file.
_MOST_WITHOUT_TOKEN = 1 << 20


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A token that was added to a trained vocabulary; special ones are never part of text.

    lstrip, rstrip: it swallows the white space in front of it, or behind. single_word: no letter or digit may
    touch it. normalized: it is looked for in normalized text.
    """

    text: str
    special: bool
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool = False


@dataclass(frozen=True, slots=True)
class TokenizerFiles:
    """Everything but SentencePiece's models, parsed; files that are not there are empty.

    config is the model's own, with the text model's part of it (`text_config`) laid over. tokenizer is
    tokenizer.json, or what it would say where other files are read; path names it in errors.
    """

    folder: Path
    path: Path
    config: Mapping[str, Any]
    generation_config: Mapping[str, Any]
    tokenizer: Mapping[str, Any]
    tokenizer_config: Mapping[str, Any]
    special_tokens_map: Mapping[str, Any]
    added_tokens_json: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path, config: Mapping[str, Any]) -> TokenizerFiles:
        """Read the JSON files in `folder`, of which config is config.json; raises FormatError."""

        def read(name: str) -> dict[str, Any]:
            path = folder / name
            return read_json(path) if path.is_file() else {}

        return cls(
            folder,
            folder / "tokenizer.json",
            {**config, **(config.get("text_config") or {})},
            read("generation_config.json"),
            read("tokenizer.json"),
            read("tokenizer_config.json"),
            read("special_tokens_map.json"),
            read("added_tokens.json"),
        )

    @property
    def tokenizer_class(self) -> str:
        """The class of transformers that reads these files, without "Fast"; "" if unknown."""
        return class_of(self.folder, self.config, self.tokenizer_config)

    def added_tokens(self) -> dict[int, AddedToken]:
        """The added tokens by id; where the files differ, tokenizer.json is right."""
        try:
            return {_id(id): token for id, token in self._added_tokens()}
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            problem = f"its added tokens are malformed ({exc!r:.100})"
            raise FormatError(f"{self.folder}: {problem}; download it again") from exc

    def _added_tokens(self) -> Iterator[tuple[Any, AddedToken]]:
        special = set(self._special_texts())
        for text, id in self.added_tokens_json.items():
            yield id, AddedToken(text, text in special or _looks_special(text))
        for id, token in self.tokenizer_config.get("added_tokens_decoder", {}).items():
            yield id, _added(token)
        for token in self.tokenizer.get("added_tokens", []):
            yield token["id"], _added(token)

    def _special_texts(self) -> Iterator[str]:
        for value in self.special_tokens_map.values():
            for item in value if isinstance(value, list) else [value]:
                text = item.get("content") if isinstance(item, dict) else item
                if isinstance(text, str):
                    yield text

    def special_text(self, name: str) -> str | None:
        """The text of the token that plays a part: "bos", "eos", "unk", ..."""
        for source in (self.tokenizer_config, self.special_tokens_map):
            value = source.get(f"{name}_token")
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str):
                return text
        return None

    def vocab_size(self, trained: Iterable[int]) -> int:
        """How many tokens the model has rows for; enough for all if its configuration does not say."""
        ids = {*trained, *self.added_tokens()}
        given = self.config.get("vocab_size")
        size = 1 + max(ids, default=0) if given is None else given
        if isinstance(size, bool) or not isinstance(size, int) or not 0 < size < 2**31:
            raise FormatError(f"{self.folder / 'config.json'}: vocab_size is {size!r:.60}, not a count")
        if size > len(ids) + _MOST_WITHOUT_TOKEN:
            what = "the largest id of a token" if given is None else "vocab_size"
            raise FormatError(f"{self.folder}: {what} is {size}, but there are only {len(ids)} tokens")
        return size


def _id(value: Any) -> int:
    """The id of an added token, which is a key in some files."""
    if type(value) is int or (isinstance(value, str) and value.isascii() and value.isdigit()):
        id = int(value)
        if 0 <= id < 2**31:  # Python gives multiples of 2^61 - 1 one hash
            return id
    raise TypeError(f"id {value!r:.60}")


def _added(token: Mapping[str, Any]) -> AddedToken:
    text = token["content"]
    if not isinstance(text, str):
        raise TypeError(f"content {text!r:.60}")
    special = bool(token.get("special", False)) or _looks_special(text)
    flags = {name: token.get(name) is True for name in ("lstrip", "rstrip", "single_word", "normalized")}
    return AddedToken(text, special, **flags)


def _looks_special(text: str) -> bool:
    return text in _LOOKS_SPECIAL or any(
        text.startswith(left) and text.endswith(right) for left, right in _BRACKETS
    )
