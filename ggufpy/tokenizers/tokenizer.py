"""What all kinds of tokenizers share: special tokens in text, BOS and EOS, bytes of tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from ggufpy.errors import TokenizerError
from ggufpy.tokenizers.cutting import Cutter
from ggufpy.tokenizers.vocabulary import TokenType, Vocabulary


class Tokenizer(ABC):
    """Text to token ids and back, as llama.cpp does it.

    eog_ids are the tokens at which generation ends. add_bos and add_eos say what encode() adds.
    """

    def __init__(self, vocabulary: Vocabulary, strip_after: frozenset[int] = frozenset()) -> None:
        """Take a checked vocabulary; `strip_after` are the tokens that swallow the spaces behind them."""
        self.n_vocab = len(vocabulary.tokens)
        self.bos_id = vocabulary.bos_id
        self.eos_id = vocabulary.eos_id
        self.eog_ids = vocabulary.eog_ids
        self.add_bos = vocabulary.add_bos
        self.add_eos = vocabulary.add_eos
        self._tokens = vocabulary.tokens
        self._types = vocabulary.types
        special = {TokenType.CONTROL, TokenType.UNKNOWN, TokenType.USER_DEFINED}
        found = [(self._tokens[id], id) for id, type in enumerate(self._types) if type in special]
        found.sort(key=lambda token: -len(token[0].encode("utf-8", "surrogateescape")))
        user_defined = [token for token in found if self._types[token[1]] == TokenType.USER_DEFINED]
        strips = vocabulary.lstrip_ids, vocabulary.rstrip_ids, strip_after
        self._special, self._user_defined = Cutter(found, *strips), Cutter(user_defined, *strips)

    def encode(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """Token ids of `text`.

        add_special: with BOS and EOS where the model wants them. parse_special: the text of a control token
        becomes that token; user-defined tokens always do. Lone surrogates are read as U+FFFD.
        """
        ids = [self.bos_id] if add_special and self.add_bos and self.bos_id is not None else []
        after_special = True
        cutter = self._special if parse_special else self._user_defined
        for part in cutter.parts(_valid(text)):
            if isinstance(part, int):
                ids.append(part)
                after_special = True
            else:
                ids += self._encode_text(part, after_special)
                after_special = False
        if add_special and self.add_eos and self.eos_id is not None:
            ids.append(self.eos_id)
        return ids

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

    @abstractmethod
    def _encode_text(self, text: str, after_special: bool) -> list[int]:
        """Ids of text without special tokens; `after_special`: it starts the whole or follows one."""

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
