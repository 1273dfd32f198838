"""Which of GGUF's named pre-tokenizers a checkpoint uses, read off the rules in its tokenizer.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tokenizers import models

from ggufpy.convert.vocabulary.tokenizer_files import TokenizerFiles
from ggufpy.errors import UnsupportedModelError
from ggufpy.tokenizers.pretokenizers import DIGIT, DIGITS, GPT2, PRE_TOKENIZERS, PUNCTUATION, names_of


def pre_tokenizer_name(
    files: TokenizerFiles, vocab: Mapping[str, int], merges: Sequence[tuple[str, str]]
) -> str:
    """The value for `tokenizer.ggml.pre`; raises UnsupportedModelError where no known one does the same."""
    steps = _steps(files.tokenizer.get("pre_tokenizer"))
    regexes = [regex for step in steps for regex in _regexes(files, step)]
    names = list(names_of(regexes))
    if not names:
        raise UnsupportedModelError(
            f"{files.path}: none of the pre-tokenizers that GGUF has names for cuts text by {regexes!r}; "
            "open an issue with this line, so that ggufpy/tokenizers/pretokenizers.py gets it"
        )
    ignore_merges = bool(files.tokenizer["model"].get("ignore_merges"))
    for name in names:
        if PRE_TOKENIZERS[name].ignore_merges == ignore_merges:
            return name
    if not _merges_make_all(vocab, merges):
        raise UnsupportedModelError(
            f"{files.path}: ignore_merges is {ignore_merges}, unlike in GGUF's pre-tokenizers that cut by "
            f"{regexes!r} ({', '.join(names)}); open an issue with this line"
        )
    return names[0]


def _steps(block: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """The steps of a tokenizer.json block, without nesting."""
    if block and block.get("type") == "Sequence":
        for step in block.get("pretokenizers", []):
            yield from _steps(step)
    elif block:
        yield block


def _regexes(files: TokenizerFiles, step: Mapping[str, Any]) -> list[str]:
    """The expressions by which a step cuts its input."""
    match {"invert": False, **step}:
        case {"type": "Split", "pattern": {"Regex": str(regex)}, "behavior": "Isolated", "invert": False}:
            return [regex]
        case {"type": "Split", "pattern": {"Regex": str(regex)}, "behavior": "Removed", "invert": True}:
            return [regex]
        case {"type": "Digits"}:
            return [DIGIT if step.get("individual_digits") else DIGITS]
        case {"type": "Punctuation", "behavior": "Contiguous"}:
            return [PUNCTUATION]
        case {"type": "ByteLevel"} if not step.get("add_prefix_space"):
            return [GPT2] if step.get("use_regex", True) else []
    raise UnsupportedModelError(
        f"{files.path}: its pre-tokenizer has a step that GGUF cannot express, {step!r:.300}; "
        "open an issue with this line"
    )


def _merges_make_all(vocab: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> bool:
    """Whether merging alone makes every token, so that it does not matter if words skip the merges."""
    model = models.BPE(dict(vocab), list(merges))
    return all(len(model.tokenize(token)) == 1 for token in vocab)
