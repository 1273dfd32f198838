"""How byte-level BPE cuts texts: by one of GGUF's named pre-tokenizers, or as its tokenizer.json says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tokenizers import models

from ggufpy.convert.vocabulary.sample_texts import SAMPLES
from ggufpy.convert.vocabulary.tokenizer_files import TokenizerFiles
from ggufpy.gguf.values import Value
from ggufpy.tokenizers.bpe import text_bytes
from ggufpy.tokenizers.cutting import Cutter, Described, Program
from ggufpy.tokenizers.pretokenizers import DIGIT, DIGITS, GPT2, PRE_TOKENIZERS, PUNCTUATION, names_of
from ggufpy.tokenizers.special import IGNORE_MERGES_KEY, PRE_TOKENIZER_KEY

_LISTS = ("normalizers", "pretokenizers", "decoders")
NO_STEPS: Mapping[str, Any] = {"type": "Sequence", "pretokenizers": []}

# Falcon cuts by it what is in the alphabet of bytes already, where these digits stand for themselves.
_THREE_DIGITS = "[0-9][0-9][0-9]"


def pre_tokenizer_keys(
    files: TokenizerFiles, vocab: Mapping[str, int], merges: Sequence[tuple[str, str]]
) -> tuple[str, dict[str, Value]]:
    """The value for `tokenizer.ggml.pre`, and our own keys for what this name does not say.

    Where no name of GGUF does the same, it is that of the program which cuts sample texts most alike.
    """
    block = files.tokenizer.get("pre_tokenizer") or NO_STEPS
    keys: dict[str, Value] = {}
    names = _names(block)
    if not names:
        keys[PRE_TOKENIZER_KEY] = json.dumps(block, ensure_ascii=False)
        cutting = {"type": "Sequence", "pretokenizers": [_without_prefix(step) for step in steps_of(block)]}
        names = _names(cutting) or _nearest(Described(json.dumps(cutting)))
    wanted = bool(files.tokenizer["model"].get("ignore_merges"))
    for name in names:
        if PRE_TOKENIZERS[name].ignore_merges == wanted:
            return name, keys
    if not _merges_make_all(vocab, merges):
        keys[IGNORE_MERGES_KEY] = wanted
    return names[0], keys


def writes_bytes(block: Any) -> bool:
    """Whether a step of a tokenizer.json block writes text in GPT-2's alphabet of bytes."""
    return any(step.get("type") == "ByteLevel" for step in steps_of(block))


def steps_of(block: Any) -> Iterator[Mapping[str, Any]]:
    """The steps of a tokenizer.json block, without nesting."""
    if isinstance(block, dict) and block.get("type") == "Sequence":
        for step in next((block[name] for name in _LISTS if name in block), []):
            yield from steps_of(step)
    elif isinstance(block, dict):
        yield block


def _without_prefix(step: Mapping[str, Any]) -> dict[str, Any]:
    """The step, but for the space that it puts in front of each word."""
    return {**step, **({"add_prefix_space": False} if "add_prefix_space" in step else {})}


def _names(block: Mapping[str, Any]) -> list[str]:
    """The names that GGUF has for what a pre_tokenizer does, none if it has none."""
    regexes: list[str] = []
    n_bytes = 0
    for step in steps_of(block):
        found = _regexes(step)
        if found is None or (n_bytes and found != [_THREE_DIGITS]):
            return []
        n_bytes += step.get("type") == "ByteLevel"
        regexes += found
    return list(names_of(regexes)) if n_bytes else []


def _regexes(step: Mapping[str, Any]) -> list[str] | None:
    """The expressions by which a step cuts its input; None for what expressions do not say."""
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
    return None


def _nearest(cutter: Cutter) -> list[str]:
    """The names of the program that cuts sample texts most alike, the usual one first."""
    wanted = [_words(cutter, text, is_bytes=True) for text in SAMPLES]
    best, most = [], -1.0
    programs = {program.regexes: program for name, program in PRE_TOKENIZERS.items() if name != "default"}
    for regexes, program in programs.items():
        other = Program(program)
        likeness = sum(map(_likeness, wanted, (_words(other, text) for text in SAMPLES)))
        if likeness > most:
            best, most = list(names_of(regexes)), likeness
    return best


def _words(cutter: Cutter, text: str, *, is_bytes: bool = False) -> Counter[bytes]:
    """How often each word is among those of a text; is_bytes: it comes in the alphabet of bytes."""
    words = cutter.cut(text, True)
    split = filter(None, words.data.split(bytes([words.separator])))
    return Counter(text_bytes(word.decode()) if is_bytes else word for word in split)


def _likeness(one: Counter[bytes], other: Counter[bytes]) -> float:
    """1 for the same words, 0 if none is in both."""
    return 2 * (one & other).total() / (one.total() + other.total())


def _merges_make_all(vocab: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> bool:
    """Whether merging alone makes every token, so that it does not matter if words skip the merges."""
    model = models.BPE(dict(vocab), list(merges))
    return all(len(model.tokenize(token)) == 1 for token in vocab)
