"""tiktoken's rank files: a token in base64 and its rank in each line.

The expressions by which text is cut, and the special tokens, are in the code of the model that such a file
belongs to; they are known for the models below.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ggufpy.convert.vocabulary.fast_form import FastForm, byte_level, recovered, split_steps
from ggufpy.convert.vocabulary.tokenizer_files import AddedToken, TokenizerFiles
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.tokenizers.pretokenizers import PRE_TOKENIZERS

_LINE = re.compile(rb"([A-Za-z0-9+/]+={0,2}) (\d{1,9})\r?")


@dataclass(frozen=True, slots=True)
class _Family:
    """Models that share a code. pre: the name of their pre-tokenizer; special: tokens behind the ranks."""

    pre: str
    nfc: bool = False
    special: Mapping[int, str] = field(default_factory=dict)
    names: Mapping[str, Any] = field(default_factory=dict)


_LLAMA_NAMES = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>", "add_bos_token": True}
_LLAMA3 = {0: "begin_of_text", 1: "end_of_text", 4: "finetune_right_pad_id", 6: "start_header_id"}
_LLAMA3 |= {7: "end_header_id", 8: "eom_id", 9: "eot_id", 10: "python_tag"}
_LLAMA4 = (
    "begin_of_text",
    "end_of_text",
    "fim_prefix",
    "fim_middle",
    "fim_suffix",
    "header_start",
    "header_end",
)
_LLAMA4_LATER = {
    7: "eom",
    8: "eot",
    9: "step",
    16: "python_start",
    17: "python_end",
    18: "finetune_right_pad",
}
_QWEN = ("endoftext", "im_start", "im_end", *(f"extra_{number}" for number in range(205)))
_QWEN_NAMES = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}


def _marked(names: Mapping[int, str]) -> dict[int, str]:
    return {place: f"<|{name}|>" for place, name in names.items()}


_LLAMA_3 = _Family("llama-bpe", special=_marked(_LLAMA3), names=_LLAMA_NAMES)
_LLAMA_4 = _Family("llama4", special=_marked(dict(enumerate(_LLAMA4)) | _LLAMA4_LATER), names=_LLAMA_NAMES)
_QWEN_1 = _Family("qwen2", nfc=True, special=_marked(dict(enumerate(_QWEN))), names=_QWEN_NAMES)
_QWEN_2 = _Family("qwen2", nfc=True, names=_QWEN_NAMES)
_QWEN_35 = _Family("qwen35", nfc=True, names=_QWEN_NAMES)
_KIMI = _Family("kimi-k2")
_GLM = _Family("glm4")

# By the class of the tokenizer, or the model_type.
_FAMILIES = {
    **dict.fromkeys(("llama", "mllama", "mllama_text_model"), _LLAMA_3),
    **dict.fromkeys(("llama4", "llama4_text"), _LLAMA_4),
    **dict.fromkeys(("QWenTokenizer", "qwen"), _QWEN_1),
    **dict.fromkeys(("qwen3_5_text", "qwen3_5_moe_text", "qwen3_5", "qwen3_5_moe"), _QWEN_35),
    **dict.fromkeys(("qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen3_next"), _QWEN_2),
    **dict.fromkeys(("TikTokenTokenizer", "kimi_k2", "kimi_k25", "kimi_linear", "kimi_vl"), _KIMI),
    **dict.fromkeys(("ChatGLM4Tokenizer", "chatglm", "glm", "glm4"), _GLM),
}


def tiktoken_path(folder: Path) -> Path | None:
    """The rank file of a checkpoint, which some call tokenizer.model as SentencePiece's models are."""
    names = (folder / "tokenizer.model", folder / "tiktoken.model", *sorted(folder.glob("*.tiktoken")))
    return next((path for path in names if path.is_file() and _is_ranks(path)), None)


def _is_ranks(path: Path) -> bool:
    with path.open("rb") as file:
        return _LINE.fullmatch(file.readline(1 << 16).rstrip(b"\n")) is not None


def read_tiktoken(path: Path, files: TokenizerFiles) -> FastForm:
    """A rank file; raises FormatError, UnsupportedModelError for a model that is not known."""
    keys = (files.tokenizer_class, str(files.config.get("model_type", "")))
    family = next((_FAMILIES[key] for key in keys if key in _FAMILIES), None)
    if family is None:
        who = " or ".join(filter(None, keys)) or "this model"
        known = "ggufpy knows it for Llama 3 and 4, Qwen, Kimi and GLM-4; add a tokenizer.json"
        raise UnsupportedModelError(f"{path}: how {who} cuts text is not said; {known}")
    ranks = _ranks(path)
    vocab, merges = recovered(ranks, path)
    first = 1 + max(ranks.values())
    named = {first + place: AddedToken(text, special=True) for place, text in family.special.items()}
    steps = split_steps(PRE_TOKENIZERS[family.pre].regexes)
    added = files.added_tokens() or named
    tokenizer = byte_level(vocab, merges, steps, added, nfc=family.nfc, ignore_merges=True)
    return FastForm(path, tokenizer, family.names)


def _ranks(path: Path) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise FormatError(
                f"{path}: line {number}, {line!r:.60}, is not a token and its rank; download again"
            )
        ranks[b64decode(found[1])] = int(found[2])
    if len(set(ranks.values())) < len(ranks):
        raise FormatError(f"{path}: two tokens have the same rank; download it again")
    return ranks
