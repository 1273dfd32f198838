"""WordPiece vocabularies of encoders, from tokenizer.json."""

from __future__ import annotations

from typing import Any

from ggufpy.convert.vocabulary.tables import VocabularyTable
from ggufpy.convert.vocabulary.tokenizer_files import TokenizerFiles
from ggufpy.errors import TokenizerError, UnsupportedModelError
from ggufpy.gguf.values import Value
from ggufpy.tokenizers.types import TokenType

_BEGIN = "\u2581"
_CONTINUES = "##"

# What readers of the file do: settings of tokenizer.json's parts, and the values that they may have.
_READ: dict[str, dict[str, tuple[Any, ...]]] = {
    "normalizer": {
        "type": ("BertNormalizer",),
        "clean_text": (True,),
        "handle_chinese_chars": (True,),
        "strip_accents": (None, True),
        "lowercase": (True,),
    },
    "pre_tokenizer": {"type": ("BertPreTokenizer",)},
    "model": {"continuing_subword_prefix": (_CONTINUES,), "max_input_chars_per_word": (100,)},
}
_PARTS = {"unk": "unknown", "sep": "seperator", "pad": "padding", "cls": "cls", "mask": "mask"}


def read_word_pieces(files: TokenizerFiles) -> VocabularyTable:
    """The vocabulary, as llama.cpp's converter writes it: U+2581 in front of what begins a word.

    Raises UnsupportedModelError for settings that GGUF cannot say, as large letters.
    """
    for part, settings in _READ.items():
        given = files.tokenizer.get(part)
        for name, values in settings.items():
            value = given.get(name) if isinstance(given, dict) else None
            if value not in values:
                problem = f"a WordPiece tokenizer with {part} {name} {value!r:.40}"
                raise UnsupportedModelError(f"{files.path}: {problem}, which GGUF cannot express")
    vocab: dict[str, int] = files.tokenizer["model"]["vocab"]
    table = VocabularyTable("bert", "bert-bge", files.vocab_size(vocab.values()))
    for text, id in vocab.items():
        piece = text.removeprefix(_CONTINUES) if text.startswith(_CONTINUES) else _BEGIN + text
        table.put(id, piece, TokenType.NORMAL)
    table.put_added(files.added_tokens())
    return table


def word_piece_tokens(files: TokenizerFiles, tokens: list[str]) -> dict[str, Value]:
    """The keys of the tokens that begin and end texts, and of others.

    Raises TokenizerError if the vocabulary lacks one of the first two.
    """
    ids = {text: id for id, text in enumerate(tokens)}
    result: dict[str, Value] = {}
    for name, part in _PARTS.items():
        text = files.special_text(name) or f"[{name.upper()}]"
        if text in ids:
            result[f"tokenizer.ggml.{part}_token_id"] = ids[text]
        elif part in ("cls", "seperator", "unknown"):
            raise TokenizerError(f"{files.folder}: {text} is not in the vocabulary; name {name}_token")
    return result
