"""Language models that are meant to rank texts: how they are recognized, and asked.

Source: llama.cpp's converter, conversion/qwen.py, whose template this is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ggufpy.architectures import RERANKER_TOKENS
from ggufpy.checkpoint.checkpoint import Checkpoint
from ggufpy.errors import FormatError

TEMPLATE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the "
    'Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n<Instruct>: Given a web search query, retrieve relevant passages that answer the "
    "query\n<Query>: {query}\n<Document>: {document}<|im_end|>\n"
    "<|im_start|>assistant\n<think>\n\n</think>\n\n"
)
_NAME = "qwen3-reranker"
_ANSWERS = ("yes", "no")
_NAMES = "tokenizer.chat_templates"


def is_reranker(checkpoint: Checkpoint) -> bool:
    """Whether the model says that it is one: nothing else in it does."""
    card = checkpoint.folder / "README.md"
    text = card.read_text("utf-8", "replace") if card.is_file() else ""
    names = (checkpoint.name, str(checkpoint.config.get("_name_or_path")))
    return f"# {_NAME}" in text.lower() or any(_NAME in name.lower() for name in names)


def answers(checkpoint: Checkpoint, tokens: Sequence[str]) -> dict[str, Any]:
    """What is added to a reranker's configuration: the ids of yes and no. Raises FormatError."""
    if checkpoint.config.get("architectures") != ["Qwen3ForCausalLM"] or not is_reranker(checkpoint):
        return {}
    if not set(_ANSWERS) <= set(tokens):
        raise FormatError(f"{checkpoint.folder}: a reranker whose vocabulary has no tokens 'yes' and 'no'")
    return {RERANKER_TOKENS: [tokens.index(answer) for answer in _ANSWERS]}


def template_keys(checkpoint: Checkpoint, vocabulary: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of the template that a reranker is asked by, beside others of its vocabulary."""
    if not is_reranker(checkpoint):
        return {}
    names = [*vocabulary.get(_NAMES, []), "rerank"]
    return {"tokenizer.chat_template.rerank": TEMPLATE, _NAMES: names}
