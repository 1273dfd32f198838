"""Unigram vocabularies from SentencePiece's models, as T5 and XLM-RoBERTa use them.

Keys and scores are those of llama.cpp's converter (conversion/t5.py, conversion/bert.py).
"""

from __future__ import annotations

from typing import Any

from sentencepiece import SentencePieceProcessor

from ggufpy.convert.vocabulary.classes import FAIRSEQ_FILE
from ggufpy.convert.vocabulary.tables import VocabularyTable
from ggufpy.convert.vocabulary.tokenizer_files import TokenizerFiles
from ggufpy.errors import UnsupportedModelError
from ggufpy.tokenizers.special import LSTRIP_KEY
from ggufpy.tokenizers.types import TokenType

# fairseq's first tokens, in place of SentencePiece's three; its last one is <mask>.
_FAIRSEQ = ("<s>", "<pad>", "</s>", "<unk>")
_EXTRA_IDS = 100  # of T5Tokenizer, where its configuration does not say


def read_unigram(files: TokenizerFiles, model: Any) -> VocabularyTable:
    """The vocabulary of a unigram `model`, a ModelProto whose pieces are text.

    Raises UnsupportedModelError for a class that gives the pieces ids in a way that is not known.
    """
    shift = _shift(files)
    n_pieces = len(model.pieces) + shift
    extra = _extra_tokens(files, n_pieces)
    table = VocabularyTable("t5", "default", files.vocab_size(range(n_pieces + len(extra) + shift)))
    for id, piece in enumerate(model.pieces):
        table.put(id + shift, piece.piece, TokenType(piece.type), piece.score)
    if shift:
        for id, text in enumerate(_FAIRSEQ):
            table.put(id, text, TokenType.UNKNOWN if text == "<unk>" else TokenType.CONTROL)
        table.put(n_pieces, "<mask>", TokenType.CONTROL)
        table.own_keys[LSTRIP_KEY] = [n_pieces]
    for id, text in enumerate(extra, n_pieces):
        if id < table.size:
            table.put(id, text, TokenType.CONTROL)
    table.put_added(files.added_tokens())
    normalizer = model.normalizer_spec
    table.add_space_prefix = normalizer.add_dummy_prefix
    table.merge_spaces = normalizer.remove_extra_whitespaces
    table.charsmap = normalizer.precompiled_charsmap
    return table


def _shift(files: TokenizerFiles) -> int:
    """By how much the checkpoint's ids are larger than those of its SentencePiece model."""
    if not (files.folder / FAIRSEQ_FILE).is_file():
        return 0
    if files.tokenizer_class != "XLMRobertaTokenizer":
        problem = f"read by a {files.tokenizer_class}, whose ids are not known"
        remedy = "load it with transformers' AutoTokenizer, and save_pretrained() writes tokenizer.json"
        raise UnsupportedModelError(f"{files.folder / FAIRSEQ_FILE}: {problem}; {remedy}")
    return 1


def own_ids(files: TokenizerFiles, processor: SentencePieceProcessor, ids: list[int]) -> list[int]:
    """The checkpoint's ids for those of its SentencePiece model."""
    shift = _shift(files)
    unknown = _FAIRSEQ.index("<unk>") if shift else processor.unk_id()
    return [unknown if id == processor.unk_id() else id + shift for id in ids]


def _extra_tokens(files: TokenizerFiles, first: int) -> list[str]:
    """T5's <extra_id_N>, which count down, where nothing names them."""
    if files.tokenizer_class != "T5Tokenizer" or first in files.added_tokens():
        return []
    usual = _EXTRA_IDS if files.config.get("model_type") == "t5" else 0
    count = files.tokenizer_config.get("extra_ids", usual)
    if type(count) is not int or not 0 <= count <= 10 * _EXTRA_IDS:
        return []
    return [f"<extra_id_{number}>" for number in reversed(range(count))]
