"""Tiny checkpoints with every JSON file that a checkpoint may have, and what can be wrong in each place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file
from tiny_checkpoints import Model
from tiny_tokenizers import byte_level_json, sentencepiece_model, spaces_json, write_checkpoint

# What stands in for any value; text, as some of it no parser gives.
NESTED = "[" * 2000 + "]" * 2000
VALUES = (
    *(
        "null",
        "true",
        "-1",
        "0",
        "1e400",
        "-1e400",
        "NaN",
        str(2**31),
        str(2**63),
        str(2**64),
        "1e300",
        "0.5",
    ),
    *('""', '"' + "x" * 1000 + '"', '"\\ud800"', "[]", "{}", "[[]]", "[null]", '{"a": 1}', NESTED),
)

SPECIALS = {"bos_token": "<s>", "eos_token": {"content": "</s>", "special": True}}
TEMPLATES = [{"name": "default", "template": "{{ x }}"}, {"name": "tool_use", "template": "{{ y }}"}]
# Ids of <s> and </s> in each.
ENDS = {"bytes": (400, 401), "spaces": (1, 2), "model": (1, 2)}
TOKENIZERS: dict[str, Any] = {
    "bytes": byte_level_json(),
    "spaces": spaces_json(),
    "model": sentencepiece_model(),
}

Path_ = tuple[str | int, ...]


def write(folder: Path, model: Model, tokenizer: str) -> dict[str, Any]:
    """A checkpoint; returns its JSON files, by name."""
    vocabulary = TOKENIZERS[tokenizer]
    more = {
        "generation_config": {
            "eos_token_id": [2, 3],
            "temperature": 0.6,
            "top_k": 40,
            "repetition_penalty": 1.1,
        },
        "special_tokens_map": {**SPECIALS, "additional_special_tokens": ["<s>"]},
        "added_tokens": {"<s>": ENDS[tokenizer][0]},
    }
    added = {str(ENDS[tokenizer][1]): {"content": "</s>", "special": True, "lstrip": False}}
    config = {**SPECIALS, "chat_template": TEMPLATES, "added_tokens_decoder": added, "add_bos_token": True}
    config["tokenizer_class"] = "LlamaTokenizerFast"
    write_checkpoint(folder, vocabulary, config, **{name: json.dumps(data) for name, data in more.items()})
    weights = model.weights()
    (folder / "config.json").write_text(json.dumps({"_name_or_path": "Org/Tiny-1B", **model.config}))
    save_file(weights, folder / "model-00001-of-00001.safetensors", {"format": "pt"})
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, "model-00001-of-00001.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return {path.name: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def places(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    """Every place in a JSON value; of long lists and objects the first, one within and the last."""
    yield path
    keys: list[Any] = (
        list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    )
    for key in keys if len(keys) < 40 else [keys[0], keys[len(keys) // 2], keys[-1]]:
        yield from places(value[key], (*path, key))


def replaced(value: Any, path: Path_, text: str) -> str:
    """JSON text of `value` with `text` in one place."""
    if not path:
        return text
    copy = deepcopy(value)
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = "\x00here"
    return json.dumps(copy).replace(json.dumps("\x00here"), text)
