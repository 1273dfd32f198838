"""`tokenizer.ggml.model` "llama": SentencePiece's BPE, from the pieces and scores in the file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2

from ggufpy.errors import TokenizerError
from ggufpy.tokenizers.tokenizer import Tokenizer
from ggufpy.tokenizers.vocabulary import Defaults, TokenType, Vocabulary, read_vocabulary

DEFAULTS = Defaults(bos=1, eos=2, unknown=0, add_bos=True, add_space_prefix=True)
_SPACE = "\u2581"

# Its classes are made at run time, which mypy does not see.
SCHEMA: Any = sentencepiece_model_pb2


class SentencePieceTokenizer(Tokenizer):
    """SentencePiece BPE with the space that starts a text, and each stretch behind a special token."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        """Build from a file's metadata; raises TokenizerError."""
        vocabulary = read_vocabulary(metadata, DEFAULTS)
        super().__init__(vocabulary, _strip_after(metadata, vocabulary))
        self._prefix = " " if vocabulary.add_space_prefix else ""
        self._processor = _processor(vocabulary)

    def _encode_text(self, text: str, after_special: bool) -> list[int]:
        ids: list[int] = self._processor.EncodeAsIds(self._prefix + text if after_special else text)
        if self._processor.vocab_size() == self.n_vocab:
            return ids
        return [id if id < self.n_vocab else self._processor.unk_id() for id in ids]

    def _text_bytes(self, text: str) -> bytes:
        return text.replace(_SPACE, " ").encode("utf-8", "surrogateescape")

    def decode(self, tokens: Iterable[int], *, special: bool = False) -> bytes:
        """The bytes of a whole text, without the space that encode() put in front."""
        tokens = list(tokens)
        head = 1 if tokens and tokens[0] == self.bos_id else 0
        body = super().decode(tokens[head:], special=special)
        return super().decode(tokens[:head], special=special) + body.removeprefix(self._prefix.encode())


def _strip_after(metadata: Mapping[str, Any], vocabulary: Vocabulary) -> frozenset[int]:
    """Phi-3's added tokens swallow the spaces behind them; its files say so only by the model's name."""
    name = str(metadata.get("general.name", "")).lower()
    if "phi-3" not in name and "phi3" not in name:
        return frozenset()
    kept = {vocabulary.tokens.find(text) for text in ("<unk>", "<s>", "<|endoftext|>")}
    special = (TokenType.CONTROL, TokenType.UNKNOWN, TokenType.USER_DEFINED)
    return frozenset(id for id, type in enumerate(vocabulary.types) if type in special and id not in kept)


def _processor(vocabulary: Vocabulary) -> SentencePieceProcessor:
    """Rebuild the SentencePiece model that the vocabulary came from."""
    types = _piece_types(vocabulary)
    proto = SCHEMA.ModelProto()
    proto.trainer_spec.model_type = SCHEMA.TrainerSpec.BPE
    proto.trainer_spec.byte_fallback = TokenType.BYTE in types
    proto.trainer_spec.unk_id = types.index(TokenType.UNKNOWN)
    proto.normalizer_spec.name = "identity"
    proto.normalizer_spec.add_dummy_prefix = False
    proto.normalizer_spec.remove_extra_whitespaces = False
    try:
        for text, score, type in zip(vocabulary.tokens, vocabulary.scores, types, strict=True):
            proto.pieces.add(piece=text, score=score, type=type)
        for text in _missing_bytes(vocabulary, types):
            proto.pieces.add(piece=text, type=TokenType.BYTE)
        return SentencePieceProcessor(model_proto=proto.SerializeToString())
    except (RuntimeError, ValueError, TypeError, OverflowError) as exc:
        problem = " ".join(str(exc).split())
        raise TokenizerError(
            f"tokenizer.ggml.tokens: not a SentencePiece vocabulary ({problem:.200})"
        ) from exc


def _piece_types(vocabulary: Vocabulary) -> list[int]:
    """Types as SentencePiece wants them: one unknown token; no bytes where one is a token of another type."""
    types = [type or TokenType.UNUSED for type in vocabulary.types]
    unknown = vocabulary.unknown_id
    if unknown is None or types[unknown] not in (TokenType.UNKNOWN, TokenType.CONTROL):
        raise TokenizerError(
            "tokenizer.ggml.unknown_token_id: not an unknown or control token; convert again"
        )
    bytes_usable = all(vocabulary.tokens.find(text) is None for text in _missing_bytes(vocabulary, types))
    for id, type in enumerate(types):
        if type == TokenType.UNKNOWN or (type == TokenType.BYTE and not bytes_usable):
            types[id] = TokenType.CONTROL
    types[unknown] = TokenType.UNKNOWN
    return types


def _missing_bytes(vocabulary: Vocabulary, types: list[int]) -> list[str]:
    """Byte tokens that SentencePiece needs beside others, and the vocabulary lacks: Gemma's tab is itself."""
    there = {vocabulary.tokens[id] for id, type in enumerate(types) if type == TokenType.BYTE}
    return [text for byte in range(256) if (text := f"<0x{byte:02X}>") not in there] if there else []
