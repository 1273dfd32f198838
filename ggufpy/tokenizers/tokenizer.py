"""What all kinds of tokenizers share: special tokens in text, what is added to it, bytes of tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

from ggufpy.errors import TokenizerError
from ggufpy.tokenizers.added import AddedToken, Splitter
from ggufpy.tokenizers.types import TokenType
from ggufpy.tokenizers.vocabulary import Vocabulary


class Tokenizer(ABC):
    """Text to token ids and back, as the checkpoint does it where the file says how, else as llama.cpp does.

    eog_ids are the tokens at which generation ends. add_bos and add_eos say what encode() adds.
    """

    def __init__(self, vocabulary: Vocabulary, normalize: Callable[[str], str]) -> None:
        """Take a checked vocabulary; normalize: text without added tokens, before it is cut into words."""
        self.n_vocab = len(vocabulary.tokens)
        self.bos_id = vocabulary.bos_id
        self.eos_id = vocabulary.eos_id
        self.eog_ids = vocabulary.eog_ids
        self.add_bos = vocabulary.add_bos
        self.add_eos = vocabulary.add_eos
        self._tokens = vocabulary.tokens
        self._types: list[int] = vocabulary.types.tolist()
        self._vocabulary = vocabulary
        self._normalize = normalize
        self._made: dict[bool, tuple[Splitter, Splitter]] = {}

    def encode(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """Token ids of `text`.

        add_special: with the tokens that the model wants around it. parse_special: the text of a control
        token becomes that token; user-defined tokens always do. Lone surrogates are read as U+FFFD.
        """
        ids = [self.bos_id] if add_special and self.add_bos and self.bos_id is not None else []
        raw, normalized = self._splitters(parse_special)
        is_first = True
        for part in raw.split(_valid(text)):
            ids += [part] if isinstance(part, int) else self._encode_part(part, is_first, normalized)
            is_first = False
        if add_special and self.add_eos and self._vocabulary.last_id is not None:
            ids.append(self._vocabulary.last_id)
        return ids

    def _encode_part(self, text: str, is_first: bool, normalized: Splitter) -> list[int]:
        """Ids of text between added tokens; is_first: it starts the whole."""
        ids = []
        for part in normalized.split(self._normalize(text)):
            ids += [part] if isinstance(part, int) else self._encode_text(part, is_first)
            is_first = False
        return ids

    def _splitters(self, parse_special: bool) -> tuple[Splitter, Splitter]:
        """What finds added tokens in a text as it is, and in what is left of it when it is normalized."""
        if parse_special not in self._made:
            types = {TokenType.USER_DEFINED}
            types |= {TokenType.CONTROL, TokenType.UNKNOWN} if parse_special else set()
            self._made[parse_special] = (
                Splitter(self._added(types, normalized=False)),
                Splitter(self._added(types, normalized=True)),
            )
        return self._made[parse_special]

    def _added(self, types: set[TokenType], *, normalized: bool) -> list[AddedToken]:
        """Tokens of these types that are looked for in text before it is normalized, or after."""
        v = self._vocabulary
        return [
            AddedToken(
                self._pattern(v.tokens[id]) if normalized else v.tokens[id],
                id,
                id in v.lstrip_ids,
                id in v.rstrip_ids,
                id in v.single_word_ids,
            )
            for id in (*v.ids_of_types(types), *v.added_ids)
            if (id in v.normalized_ids) == normalized
        ]

    def token_bytes(self, token: int, *, special: bool = False) -> bytes:
        """The bytes a token stands for, which may be part of a character.

        Control and unknown tokens have bytes, those of their names, only with `special`.
        Raises TokenizerError for an id outside the vocabulary.
        """
        if not 0 <= token < self.n_vocab:
            raise TokenizerError(f"token {token} is outside the vocabulary of {self.n_vocab} tokens")
        text, type = self._tokens[token], self._types[token]
        if type == TokenType.NORMAL:
            return self._text_bytes(text)
        if type == TokenType.BYTE:
            return bytes([int(text[3:5], 16)])
        if type == TokenType.USER_DEFINED or (special and type in (TokenType.CONTROL, TokenType.UNKNOWN)):
            return text.encode("utf-8", "surrogateescape")
        return b""

    def decode(self, tokens: Iterable[int], *, special: bool = False) -> bytes:
        """The bytes of a whole text: encode()'s inverse, but for control tokens, which need `special`."""
        return b"".join([self.token_bytes(token, special=special) for token in tokens])

    def _pattern(self, text: str) -> str:
        """The text of an added token as it stands in normalized text."""
        return self._normalize(text)

    @abstractmethod
    def _encode_text(self, text: str, is_first: bool) -> list[int]:
        """Ids of normalized text without added tokens; `is_first`: it starts the whole."""

    @abstractmethod
    def _text_bytes(self, text: str) -> bytes:
        """The bytes that an ordinary token of this text stands for."""


def _valid(text: str) -> str:
    """Replace what UTF-8 cannot carry: surrogates are joined to characters, or become U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
