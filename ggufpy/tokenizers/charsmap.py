"""SentencePiece's normalizer: characters replaced by a compiled map, and what becomes of spaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sentencepiece import SentencePieceNormalizer, sentencepiece_model_pb2

from ggufpy.errors import TokenizerError

# Its classes are made at run time, which mypy does not see.
SCHEMA: Any = sentencepiece_model_pb2

_LONGEST = 256  # bytes that a character may become; the most in Unicode's NFKC is 33


def sentencepiece_normalizer(
    charsmap: bytes, *, add_prefix: bool, merge_spaces: bool, key: str
) -> Callable[[str], str]:
    """What SentencePiece makes of a text before it is cut: spaces are written as U+2581.

    charsmap: the value of `key`, as SentencePiece compiles it; empty: none. add_prefix: a space is put in
    front. merge_spaces: neighbouring spaces become one, and those at the ends none. Raises TokenizerError for
    a map that is damaged, or makes much of little.
    """
    spec = SCHEMA.NormalizerSpec(
        name="",
        precompiled_charsmap=charsmap,
        add_dummy_prefix=add_prefix,
        remove_extra_whitespaces=merge_spaces,
        escape_whitespaces=True,
    )
    model = SCHEMA.ModelProto(normalizer_spec=spec)
    try:
        library = SentencePieceNormalizer(model_proto=model.SerializeToString())
    except (RuntimeError, ValueError, TypeError) as exc:
        problem = " ".join(str(exc).split())
        raise TokenizerError(f"{key}: not SentencePiece's ({problem:.100}); convert the model again") from exc
    if charsmap and max(map(len, _replacements(charsmap))) > _LONGEST:
        problem = f"replaces a character by more than {_LONGEST} bytes"
        raise TokenizerError(f"{key}: {problem}, which no model does; convert the model again")

    def normalize(text: str) -> str:
        result: str = library.Normalize(text)
        return result

    return normalize


def _replacements(charsmap: bytes) -> list[bytes]:
    """The texts in a sound map: a trie of as many bytes as a u32 says, then these, ended by zeros."""
    return charsmap[4 + int.from_bytes(charsmap[:4], "little") :].split(b"\0")
