"""Vocabularies from SentencePiece's models: BPE, and unigram."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor

from ggufpy.convert.vocabulary.classes import FAIRSEQ_FILE
from ggufpy.convert.vocabulary.tables import VocabularyTable
from ggufpy.convert.vocabulary.tokenizer_files import TokenizerFiles
from ggufpy.convert.vocabulary.unigram import read_unigram
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.tokenizers.charsmap import SCHEMA
from ggufpy.tokenizers.escaped import SPACE
from ggufpy.tokenizers.types import TokenType

_FILES = ("tokenizer.model", "spiece.model", FAIRSEQ_FILE)


def sentencepiece_path(files: TokenizerFiles) -> Path | None:
    """The checkpoint's SentencePiece model, by name; Mistral's own end in a version."""
    paths = [*(files.folder / name for name in _FILES), *sorted(files.folder.glob("tokenizer.model.v*"))]
    return next((path for path in paths if path.is_file()), None)


def open_sentencepiece(files: TokenizerFiles) -> SentencePieceProcessor | None:
    """The checkpoint's SentencePiece model, if it has one.

    Some checkpoints keep other things under that name: none where another file is read, else a FormatError.
    """
    path = sentencepiece_path(files)
    if path is None:
        return None
    try:
        return SentencePieceProcessor(model_proto=path.read_bytes())
    except (RuntimeError, UnicodeDecodeError) as exc:  # the second: what is wrong has a text that is none
        if files.tokenizer:
            return None
        raise FormatError(
            f"{path}: not a SentencePiece model, and no tokenizer.json; download it again"
        ) from exc


def _proto(processor: SentencePieceProcessor) -> Any:
    """The model as protobuf has it."""
    return SCHEMA.ModelProto.FromString(processor.serialized_model_proto())


def piece_scores(processor: SentencePieceProcessor | None) -> dict[str, float]:
    """The score of each piece; none without a model."""
    return {piece.piece: piece.score for piece in _proto(processor).pieces} if processor else {}


def with_prefix(processor: SentencePieceProcessor, add_space_prefix: bool) -> SentencePieceProcessor:
    """The same model, but for the space in front of a text."""
    model = _proto(processor)
    model.normalizer_spec.add_dummy_prefix = add_space_prefix
    return SentencePieceProcessor(model_proto=model.SerializeToString())


def read_sentencepiece(files: TokenizerFiles, processor: SentencePieceProcessor) -> VocabularyTable:
    """The vocabulary in a model; raises FormatError, UnsupportedModelError if it is of words or letters."""
    path, model = sentencepiece_path(files), _proto(processor)
    for id, piece in enumerate(model.pieces):
        if not isinstance(piece.piece, str):  # what protobuf gives for bytes that are not UTF-8
            problem = f"piece {id} is not UTF-8: {piece.piece!r:.60}"
            raise FormatError(f"{path}: {problem}; download it again")
    kinds = SCHEMA.TrainerSpec
    match model.trainer_spec.model_type:
        case kinds.BPE:
            return _bpe(files, model)
        case kinds.UNIGRAM:
            return read_unigram(files, model)
        case other:
            kind = kinds.ModelType.Name(other)
            problem = f"a SentencePiece model of kind {kind}; ggufpy converts BPE and UNIGRAM"
            raise UnsupportedModelError(f"{path}: {problem}")


def _bpe(files: TokenizerFiles, model: Any) -> VocabularyTable:
    table = VocabularyTable("llama", "default", files.vocab_size(range(len(model.pieces))))
    for id, piece in enumerate(model.pieces):
        text, type = piece.piece, TokenType(piece.type)
        if type == TokenType.USER_DEFINED:
            # Readers cut these out of the raw text, except white space, which merging makes anyway.
            type = TokenType.USER_DEFINED if text.strip(SPACE) else TokenType.NORMAL
            text = text.replace(SPACE, " ") if type == TokenType.USER_DEFINED else text
        table.put(id, text, type, piece.score)
    table.put_added(files.added_tokens(), unescaped=True)
    table.add_space_prefix = model.normalizer_spec.add_dummy_prefix
    return table
