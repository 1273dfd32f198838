"""The tokens of a checkpoint as GGUF lists them: by id, with types and scores, and without gaps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ggufpy.convert.vocabulary.tokenizer_files import AddedToken
from ggufpy.errors import TokenizerError
from ggufpy.gguf.values import Value
from ggufpy.tokenizers.escaped import SPACE
from ggufpy.tokenizers.types import TokenType

# Scores of tokens that were added to a trained vocabulary, and of ids without a token. Source: llama.cpp.
ADDED_SCORE = -1000.0
_PADDING_SCORE = -10000.0


@dataclass(slots=True)
class VocabularyTable:
    """Columns of a vocabulary, as long as the model's embedding has rows; ids without a token are padding.

    kind and pre are the values of tokenizer.ggml.model and tokenizer.ggml.pre. charsmap, merge_spaces: of
    SentencePiece's normalizer, for unigram models. own_keys: what only ggufpy reads, for what GGUF cannot
    say.
    """

    kind: str
    pre: str
    size: int
    tokens: list[str] = field(init=False)
    types: list[int] = field(init=False)
    scores: list[float] = field(init=False)
    merges: list[str] = field(default_factory=list)
    add_space_prefix: bool = False
    merge_spaces: bool = False
    charsmap: bytes = b""
    unknown_id: int | None = None
    own_keys: dict[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Fill all rows with padding."""
        self.tokens = [f"[PAD{id}]" for id in range(self.size)]
        self.types = [int(TokenType.UNUSED)] * self.size
        self.scores = [_PADDING_SCORE] * self.size

    def put(self, id: int, text: str, type: TokenType, score: float = 0.0) -> None:
        """Fill the row of a trained token; raises TokenizerError if the model has none for it."""
        if not 0 <= id < self.size:
            raise TokenizerError(
                f"token {id}, {text!r:.60}, has no row in a model of {self.size} tokens; "
                "is config.json of another model than the tokenizer?"
            )
        self.tokens[id], self.types[id], self.scores[id] = text, int(type), score

    def put_added(self, added: Mapping[int, AddedToken], *, unescaped: bool = False) -> None:
        """Put added tokens over what is there; an unknown token stays one.

        Those that the model has no row for are left out: it can neither read nor write them.
        unescaped: U+2581 is a space in them.
        """
        for id, token in added.items():
            if not 0 <= id < self.size or self.types[id] == TokenType.UNKNOWN:
                continue
            if token.special:
                self.put(id, token.text, TokenType.CONTROL, ADDED_SCORE)
            else:
                text = token.text.replace(SPACE, " ") if unescaped else token.text
                self.put(id, text, TokenType.USER_DEFINED, ADDED_SCORE)
