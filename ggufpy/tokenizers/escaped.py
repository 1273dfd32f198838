"""What tokenizers share that write a space as U+2581."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ggufpy.tokenizers.tokenizer import Tokenizer
from ggufpy.tokenizers.vocabulary import Vocabulary

SPACE = "\u2581"


class EscapedTokenizer(Tokenizer):
    """A tokenizer in whose ordinary tokens U+2581 is a space."""

    def __init__(self, vocabulary: Vocabulary, normalize: Callable[[str], str]) -> None:
        """As Tokenizer's; the vocabulary says whether encode() puts a space in front of a text."""
        super().__init__(vocabulary, normalize)
        self._prefix = b" " if vocabulary.add_space_prefix else b""

    def _text_bytes(self, text: str) -> bytes:
        return text.replace(SPACE, " ").encode("utf-8", "surrogateescape")

    def decode(self, tokens: Iterable[int], *, special: bool = False) -> bytes:
        """The bytes of a whole text, without the space that encode() put in front."""
        tokens = list(tokens)
        head = 1 if tokens and tokens[0] == self.bos_id else 0
        body = super().decode(tokens[head:], special=special)
        return super().decode(tokens[:head], special=special) + body.removeprefix(self._prefix)
