"""Which files hold the vocabulary of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ggufpy.convert.vocabulary.classes import with_defaults
from ggufpy.convert.vocabulary.fast_form import FastForm
from ggufpy.convert.vocabulary.rwkv import rwkv_path
from ggufpy.convert.vocabulary.sentencepiece_model import sentencepiece_path
from ggufpy.convert.vocabulary.tekken import read_tekken
from ggufpy.convert.vocabulary.tiktoken_ranks import read_tiktoken, tiktoken_path
from ggufpy.convert.vocabulary.tokenizer_files import TokenizerFiles
from ggufpy.convert.vocabulary.word_files import read_merges, read_vocab_txt
from ggufpy.errors import FormatError


def open_files(folder: Path, config: Mapping[str, Any]) -> TokenizerFiles:
    """The files of a checkpoint, of which config is config.json.

    Without tokenizer.json, other files say what it would, and the tokenizer's class what they need not.
    Raises FormatError, UnsupportedModelError.
    """
    files = TokenizerFiles.open(folder, config)
    if files.tokenizer:
        return files
    files = replace(files, tokenizer_config=with_defaults(files.tokenizer_class, files.tokenizer_config))
    form = _form(files)
    if form is None:
        return files
    named = {**form.names, **files.tokenizer_config}
    return replace(files, path=form.path, tokenizer=form.tokenizer, tokenizer_config=named)


def _form(files: TokenizerFiles) -> FastForm | None:
    """What the first says that there is of these, if SentencePiece and RWKV have none."""
    folder, ranks = files.folder, tiktoken_path(files.folder)
    if sentencepiece_path(files) not in (None, ranks) or rwkv_path(folder):
        return None
    if (folder / "tekken.json").is_file():
        return read_tekken(folder / "tekken.json")
    if ranks is not None:
        return read_tiktoken(ranks, files)
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return read_merges(files)
    if (folder / "vocab.txt").is_file():
        return read_vocab_txt(files)
    return None


def no_tokenizer(folder: Path) -> FormatError:
    """The error for a checkpoint that has none."""
    known = "tokenizer.json, tokenizer.model, tekken.json, vocab.json with merges.txt, ..."
    remedy = "copy the tokenizer's files from the model that it was trained from"
    return FormatError(f"{folder}: no tokenizer there, as {known}; {remedy}")
