"""The vocabularies of transformers' older tokenizers: vocab.json with merges.txt, and vocab.txt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ggufpy.checkpoint.json_files import read_json
from ggufpy.convert.vocabulary.classes import BERT_CLASSES
from ggufpy.convert.vocabulary.fast_form import (
    FastForm,
    Merges,
    byte_level,
    bytes_step,
    split_steps,
    word_pieces,
)
from ggufpy.convert.vocabulary.tokenizer_files import AddedToken, TokenizerFiles
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.tokenizers.pretokenizers import QWEN2

_PARTS = ("unk", "sep", "pad", "cls", "mask", "bos", "eos")


def _gpt2_steps(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [bytes_step(use_regex=True, add_prefix_space=config.get("add_prefix_space") is True)]


# Classes that read vocab.json and merges.txt: the steps of their pre-tokenizers.
_STEPS: dict[str, Callable[[Mapping[str, Any]], list[dict[str, Any]]]] = {
    "GPT2Tokenizer": _gpt2_steps,
    "CodeGenTokenizer": _gpt2_steps,
    "RobertaTokenizer": _gpt2_steps,
    "Qwen2Tokenizer": lambda config: split_steps([QWEN2]),
}


def read_merges(files: TokenizerFiles) -> FastForm:
    """vocab.json and merges.txt; raises FormatError, UnsupportedModelError for a class that is not known."""
    path, name = files.folder / "vocab.json", files.tokenizer_class
    if name not in _STEPS:
        raise _unknown_class(path, name, _STEPS)
    vocab = read_json(path)
    if not all(type(id) is int and 0 <= id < 1 << 31 for id in vocab.values()):
        raise FormatError(f"{path}: some ids are not numbers; download it again")
    steps = _STEPS[name](files.tokenizer_config)
    merges, nfc = _merges(files.folder / "merges.txt"), name == "Qwen2Tokenizer"
    return FastForm(path, byte_level(vocab, merges, steps, _added(files, vocab), nfc=nfc))


def _unknown_class(path: Path, name: str, known: Iterable[str]) -> UnsupportedModelError:
    problem = f"how {name or 'a tokenizer without a class'} cuts text is not said"
    remedy = f"ggufpy knows it for {', '.join(known)}; add a tokenizer.json, or name one of them"
    return UnsupportedModelError(f"{path}: {problem}; {remedy}")


def _merges(path: Path) -> Merges:
    merges = []
    for number, line in enumerate(_lines(path), 1):
        left, _, right = line.partition(" ")
        if not line or line.startswith("#version"):
            continue
        if not left or not right or " " in right:
            raise FormatError(f"{path}: line {number}, {line!r:.60}, is not two parts; download it again")
        merges.append((left, right))
    return merges


def read_vocab_txt(files: TokenizerFiles) -> FastForm:
    """BERT's vocab.txt: a token in each line, whose number is the id. Errors are those of `read_merges`."""
    path = files.folder / "vocab.txt"
    if files.tokenizer_class not in BERT_CLASSES:
        raise _unknown_class(path, files.tokenizer_class, BERT_CLASSES)
    lines = _lines(path)
    if lines and not lines[-1]:
        del lines[-1]
    vocab = {text: id for id, text in enumerate(lines)}
    unknown = files.special_text("unk") or ""
    if unknown not in vocab:
        raise FormatError(f"{path}: no line is {unknown!r:.60}, the unknown token; download it again")
    return FastForm(path, word_pieces(vocab, unknown, files.tokenizer_config, _added(files, vocab)))


def _added(files: TokenizerFiles, vocab: Mapping[str, int]) -> dict[int, AddedToken]:
    """The added tokens, among which a class counts all that have a name."""
    texts = {part: files.special_text(part) for part in _PARTS}
    is_roberta = files.tokenizer_class == "RobertaTokenizer"
    named = {
        vocab[text]: AddedToken(text, special=True, lstrip=is_roberta and part == "mask")
        for part, text in texts.items()
        if text is not None and text in vocab
    }
    return {**named, **files.added_tokens()}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").split("\n")
    except UnicodeDecodeError as exc:
        raise FormatError(f"{path}: not UTF-8 ({exc}); download it again") from exc
