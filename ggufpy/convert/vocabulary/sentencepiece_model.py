"""Vocabularies from tokenizer.model: SentencePiece BPE."""

from __future__ import annotations

from sentencepiece import SentencePieceProcessor

from ggufpy.convert.vocabulary.tables import VocabularyTable
from ggufpy.convert.vocabulary.tokenizer_files import TokenizerFiles
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.tokenizers.charsmap import SCHEMA
from ggufpy.tokenizers.types import TokenType

_SPACE = "\u2581"


def open_sentencepiece(files: TokenizerFiles) -> SentencePieceProcessor | None:
    """The checkpoint's SentencePiece model, if it has one.

    Some checkpoints keep a tiktoken file under that name, next to a tokenizer.json that counts then; without
    one it is a FormatError.
    """
    path = files.folder / "tokenizer.model"
    if not path.is_file():
        return None
    try:
        return SentencePieceProcessor(model_proto=path.read_bytes())
    except (RuntimeError, UnicodeDecodeError) as exc:  # the second: what is wrong has a text that is none
        if files.tokenizer:
            return None
        raise FormatError(
            f"{path}: not a SentencePiece model, and no tokenizer.json; download it again"
        ) from exc


def with_prefix(processor: SentencePieceProcessor, add_space_prefix: bool) -> SentencePieceProcessor:
    """The same model, but for the space in front of a text."""
    model = SCHEMA.ModelProto.FromString(processor.serialized_model_proto())
    model.normalizer_spec.add_dummy_prefix = add_space_prefix
    return SentencePieceProcessor(model_proto=model.SerializeToString())


def read_sentencepiece(files: TokenizerFiles, processor: SentencePieceProcessor) -> VocabularyTable:
    """The vocabulary in tokenizer.model; raises UnsupportedModelError if it is not BPE, FormatError."""
    path = files.folder / "tokenizer.model"
    model = SCHEMA.ModelProto.FromString(processor.serialized_model_proto())
    kinds = SCHEMA.TrainerSpec
    if model.trainer_spec.model_type != kinds.BPE:
        kind = kinds.ModelType.Name(model.trainer_spec.model_type)
        raise UnsupportedModelError(f"{path}: a SentencePiece model of kind {kind}; ggufpy converts BPE")
    table = VocabularyTable("llama", "default", files.vocab_size(range(len(model.pieces))))
    for id, piece in enumerate(model.pieces):
        text, type = piece.piece, TokenType(piece.type)
        if not isinstance(text, str):  # what protobuf gives for bytes that are not UTF-8
            raise FormatError(f"{path}: piece {id} is not UTF-8: {text!r:.60}; download it again")
        if type == TokenType.USER_DEFINED:
            # Readers cut these out of the raw text, except white space, which merging makes anyway.
            type = TokenType.USER_DEFINED if text.strip(_SPACE) else TokenType.NORMAL
            text = text.replace(_SPACE, " ") if type == TokenType.USER_DEFINED else text
        table.put(id, text, type, piece.score)
    table.put_added(files.added_tokens())
    table.add_space_prefix = model.normalizer_spec.add_dummy_prefix
    return table
