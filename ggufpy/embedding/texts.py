"""How texts, and pairs of a query and a document, become tokens that are embedded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ggufpy.tokenizers import Tokenizer


@dataclass(frozen=True, slots=True)
class Text:
    """tokens: of the text. second: where the second of a pair begins; None for one text."""

    tokens: Sequence[int]
    second: int | None = None


class Reader:
    """Texts as the vocabulary of a file has them; metadata: of the file."""

    def __init__(self, tokenizer: Tokenizer, metadata: Mapping[str, Any]) -> None:
        self._tokenizer, self._metadata = tokenizer, metadata

    def text(self, text: str, *, parse_special: bool = False) -> Text:
        """A text, with the tokens that the vocabulary puts around it."""
        return Text(self._tokenizer.encode(text, add_special=True, parse_special=parse_special))

    def pair(self, query: str, document: str) -> Text:
        """A query and a document as one text: by the model's template, or as the vocabulary separates two.

        Source: llama.cpp tools/server/server-common.cpp, format_prompt_rerank; where a vocabulary ends texts
        by a separator, so do pairs, as in transformers.
        """
        template = self._metadata.get("tokenizer.chat_template.rerank")
        if isinstance(template, str):
            parts = {"{query}": query, "{document}": document}
            prompt = re.sub(r"\{query\}|\{document\}", lambda found: parts[found[0]], template)
            return Text(self._tokenizer.encode(prompt, add_special=False, parse_special=True))
        before, after = self._around
        first, second = (self._tokenizer.encode(text, add_special=False) for text in (query, document))
        first = [*before, *first, *after, *self._separator]
        return Text([*first, *second, *after], second=len(first))

    def shortened(self, text: Text, most: int) -> Text:
        """The first `most` tokens of a text, or fewer, with those that the vocabulary puts behind it."""
        if len(text.tokens) <= most:
            return text
        _, after = self._around
        is_closed = list(text.tokens[len(text.tokens) - len(after) :]) == after
        after = after if is_closed and len(after) < most else []
        return replace(text, tokens=[*text.tokens[: most - len(after)], *after])

    @cached_property
    def _around(self) -> tuple[list[int], list[int]]:
        """What the vocabulary puts in front of a text, and behind it."""
        plain, full = (self._tokenizer.encode("a", add_special=added) for added in (False, True))
        start = next(i for i in range(len(full)) if full[i : i + len(plain)] == plain)
        return full[:start], full[start + len(plain) :]

    @property
    def _separator(self) -> list[int]:
        """What stands between two texts besides the end of the first."""
        said = self._metadata
        separates = said.get("tokenizer.ggml.add_sep_token") and said.get("tokenizer.ggml.add_eos_token")
        id = said.get("tokenizer.ggml.seperator_token_id")  # spelt so
        return [id] if separates and isinstance(id, int) else []
