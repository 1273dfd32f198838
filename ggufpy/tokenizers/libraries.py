"""What `tokenizers` is asked for: parts of a tokenizer.json at work, and its panics as errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tokenizers

from ggufpy.errors import TokenizerError

_EMPTY = {"type": "BPE", "vocab": {}, "merges": []}


def is_panic(error: BaseException) -> bool:
    """Whether Rust panicked: its class is no Exception, and can only be told by its name."""
    return type(error).__name__ == "PanicException"


@contextmanager
def errors_of_rust(what: str, remedy: str) -> Iterator[None]:
    """TokenizerError for whatever `tokenizers` raises: Exception itself, or its panics, which are none."""
    try:
        yield
    except BaseException as exc:
        if not isinstance(exc, Exception) and not is_panic(exc):
            raise
        raise TokenizerError(f"{what} ({' '.join(str(exc).split()):.200}); {remedy}") from exc


def parts(**blocks: Any) -> tokenizers.Tokenizer:
    """A tokenizer of these blocks of a tokenizer.json (normalizer, pre_tokenizer) and no tokens.

    Raises TokenizerError for what `tokenizers` cannot read.
    """
    with errors_of_rust(f"{', '.join(blocks)}: not of a tokenizer.json", "convert the model again"):
        return tokenizers.Tokenizer.from_str(json.dumps({"version": "1.0", "model": _EMPTY, **blocks}))


def normalizer(description: str | None, key: str) -> Callable[[str], str]:
    """What a normalizer of a tokenizer.json makes of a text; without one, the text.

    key: whose value it is. Raises TokenizerError for what `tokenizers` cannot read.
    """
    if description is None:
        return lambda text: text
    block = parsed(description, key)
    library = parts(normalizer=block).normalizer
    leaves_ascii = isinstance(block, dict) and block.get("type") in ("NFC", "NFD", "NFKC", "NFKD")

    def normalize(text: str) -> str:
        if leaves_ascii and text.isascii():
            return text
        with errors_of_rust(f"a text of {len(text)} characters cannot be normalized", "divide it"):
            result: str = library.normalize_str(text)
        return result

    return normalize


def parsed(description: str, key: str) -> Any:
    """The JSON in the value of a key; raises TokenizerError."""
    try:
        return json.loads(description)
    except (ValueError, RecursionError) as exc:
        raise TokenizerError(f"{key}: not JSON ({exc!s:.100}); convert the model again") from exc
