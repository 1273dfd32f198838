"""Which tokens begin, end, pad and fill in, and whether the model wants the first two added to a text.

The order in which sources count is llama.cpp's (gguf-py/gguf/vocab.py, SpecialVocab), except that what a
checkpoint adds to a text is found by encoding one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers

from ggufpy.convert.vocabulary.tokenizer_files import TokenizerFiles
from ggufpy.convert.vocabulary.tokenizer_json import errors_of_tokenizers
from ggufpy.errors import TokenizerError
from ggufpy.gguf.values import Value
from ggufpy.tokenizers.special import BY_TEXT, END_KEY, END_OF_GENERATION

# The part a token plays in a checkpoint: in the keys of GGUF.
_PARTS = {"bos": "bos", "eos": "eos", "unk": "unknown", "sep": "seperator", "pad": "padding", "mask": "mask"}

# Classes of transformers 4 that put BOS and EOS as tokenizer_config.json says, whatever the post-processor
# does: models that name them were trained so, DeepSeek's for instance.
_FLAGS_COUNT = (
    "LlamaTokenizer",
    "LlamaTokenizerFast",
    "CodeLlamaTokenizer",
    "CodeLlamaTokenizerFast",
    "GemmaTokenizer",
    "GemmaTokenizerFast",
    "CohereTokenizerFast",
)


def special_tokens(
    files: TokenizerFiles, encoder: tokenizers.Tokenizer | None, tokens: list[str], adds_bos: bool
) -> dict[str, Value]:
    """The tokenizer.ggml.*_token_id and add_*_token keys.

    encoder is the checkpoint's tokenizer.json at work, if it has one; adds_bos is what readers of the file
    will do if it does not say. Raises TokenizerError where nothing names a token that ends a text, as readers
    would take one of their own.
    """
    by_text = {text: id for id, text in enumerate(tokens)}
    ids = _ids(files, by_text)
    ends = _ends(files, ids, by_text)
    flags = _flags(files)
    if encoder and files.tokenizer.get("post_processor"):
        with errors_of_tokenizers(files):
            seen = _seen(encoder, ids, flags)
        flags = seen | (flags if _flags_count(files) else {})
    elif encoder and adds_bos:
        flags.setdefault("bos", False)
    for part, texts in BY_TEXT.items():
        id = next((by_text[text] for text in texts if text in by_text), None)
        if id is not None and id != ids["eos"]:
            ids[part] = id
    others = _other_ends(ids, ends, by_text)
    result: dict[str, Value] = {f"tokenizer.ggml.{part}_token_id": id for part, id in ids.items()}
    result |= {f"tokenizer.ggml.add_{part}_token": value for part, value in flags.items()}
    return result | ({END_KEY: others} if others else {})


def check_template(files: TokenizerFiles, tokens: Sequence[str], templates: Mapping[str, Any]) -> None:
    """Refuse chat templates that write tokens for which the model has no row, as these fall apart."""
    texts = [text for text in templates.values() if isinstance(text, str)]
    for id, token in files.added_tokens().items():
        if id >= len(tokens) and token.special and any(token.text in text for text in texts):
            raise TokenizerError(_no_row(files, "the chat template's token", token.text, id, len(tokens)))


def _no_row(files: TokenizerFiles, what: str, text: str, id: int, size: int) -> str:
    remedy = "resize the model's embedding, or take the tokenizer of the model as it was trained"
    return f"{files.folder}: {what} {text!r:.60} is {id}, and the model has {size} tokens; {remedy}"


def _ids(files: TokenizerFiles, by_text: Mapping[str, int]) -> dict[str, int]:
    ids: dict[str, int] = {}
    for name, part in _PARTS.items():
        text = files.special_text(name)
        if text is not None and text in by_text:
            ids[part] = by_text[text]
    for source in (files.config, files.generation_config):
        for name, part in _PARTS.items():
            for id in _listed(source.get(f"{name}_token_id")):
                if 0 <= id < len(by_text):
                    ids.setdefault(part, id)
                    break
    return ids


def _ends(files: TokenizerFiles, ids: dict[str, int], by_text: Mapping[str, int]) -> list[int]:
    """All that the checkpoint names as ends of a text, of which `ids` gets one; raises TokenizerError."""
    text, size = files.special_text("eos"), len(by_text)
    beyond = (id for id, token in files.added_tokens().items() if token.text == text and id >= size)
    for id in beyond:
        if text is not None and text not in by_text:
            raise TokenizerError(_no_row(files, "the end-of-text token", text, id, size))
    given = files.generation_config.get("eos_token_id")
    named = _listed(files.config.get("eos_token_id") if given is None else given)
    ends = [id for id in named if 0 <= id < size]
    if "eos" not in ids:
        ids["eos"] = next((by_text[text] for text in END_OF_GENERATION if text in by_text), -1)
    if ids["eos"] < 0:
        found = f"eos_token_id {named[0]} is not one of {size} tokens" if named else "no eos_token is named"
        remedy = "name the token that ends a text as eos_token in tokenizer_config.json"
        raise TokenizerError(f"{files.folder}: {found}, so texts would not end where they should; {remedy}")
    return ends


def _other_ends(ids: dict[str, int], ends: Sequence[int], by_text: Mapping[str, int]) -> list[int]:
    """Ends for which no key of GGUF is left, once `ids` has what fits into its keys for them."""
    known = {by_text[text] for text in END_OF_GENERATION if text in by_text}
    others = []
    for id in dict.fromkeys(ends):
        if id in known or id in (ids["eos"], ids.get("eot"), ids.get("eom")):
            continue
        part = next((part for part in ("eot", "eom") if part not in ids), None)
        if part is None:
            others.append(id)
        else:
            ids[part] = id
    return others


def _listed(value: Any) -> list[int]:
    """The ids in a setting that is one, a list of them, or neither."""
    return [id for id in (value if isinstance(value, list) else [value]) if type(id) is int]


def _flags_count(files: TokenizerFiles) -> bool:
    return files.tokenizer_config.get("tokenizer_class") in _FLAGS_COUNT


def _flags(files: TokenizerFiles) -> dict[str, bool]:
    values = {part: files.tokenizer_config.get(f"add_{part}_token") for part in ("bos", "eos")}
    return {part: value for part, value in values.items() if isinstance(value, bool)}


def _seen(encoder: tokenizers.Tokenizer, ids: dict[str, int], flags: Mapping[str, bool]) -> dict[str, bool]:
    """What the post-processor adds to a text; a token in front that nothing names is the BOS token."""
    plain = encoder.encode("a", add_special_tokens=False).ids
    full = encoder.encode("a").ids
    first, last = full[:1] != plain[:1], full[-1:] != plain[-1:]
    if first:
        ids.setdefault("bos", full[0])
    seen = {"bos": first and full[0] == ids["bos"]}
    if last or "eos" in flags:
        seen["eos"] = last and full[-1] == ids.get("eos")
    return seen
