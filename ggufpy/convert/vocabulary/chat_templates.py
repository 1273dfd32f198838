"""The chat templates of a checkpoint, from wherever it keeps them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ggufpy.checkpoint.json_files import read_json
from ggufpy.convert.vocabulary.tokenizer_files import TokenizerFiles
from ggufpy.errors import FormatError

MORE_TEMPLATES = "additional_chat_templates"  # a folder of a checkpoint
_KEY = "tokenizer.chat_template"


def chat_templates(files: TokenizerFiles) -> dict[str, str | list[str]]:
    """The tokenizer.chat_template* keys: the default, others by name, and the list of these names.

    Templates in files of their own come before those in tokenizer_config.json, as in transformers.
    """
    templates = dict(_templates(files))
    default = templates.pop("default", None)
    result: dict[str, str | list[str]] = {f"{_KEY}.{name}": text for name, text in templates.items()}
    if templates:
        result["tokenizer.chat_templates"] = list(templates)
    if default is not None:
        result[_KEY] = default
    return result


def _templates(files: TokenizerFiles) -> Mapping[str, str]:
    """Name to template; a checkpoint's only template has the name "default"."""
    main = files.folder / "chat_template.jinja"
    others = sorted((files.folder / MORE_TEMPLATES).glob("*.jinja"))
    in_json = files.folder / "chat_template.json"
    if main.is_file() or others:
        paths = ([("default", main)] if main.is_file() else []) + [
            (_name(path.stem), path) for path in others
        ]
        try:
            return {name: path.read_text("utf-8") for name, path in paths}
        except UnicodeDecodeError as exc:
            raise FormatError(f"{files.folder}: a chat template is not UTF-8 text ({exc})") from exc
    if in_json.is_file():
        return _named(read_json(in_json).get("chat_template"), str(in_json))
    return _named(files.tokenizer_config.get("chat_template"), str(files.folder / "tokenizer_config.json"))


def _named(value: Any, where: str) -> dict[str, str]:
    match value:
        case None:
            return {}
        case str():
            return {"default": value}
        case list() if all(map(_is_named, value)):
            return {_name(item["name"]): item["template"] for item in value}
    raise FormatError(f"{where}: chat_template is neither text nor a list of named texts; download it again")


def _is_named(item: Any) -> bool:
    return isinstance(item, dict) and all(isinstance(item.get(key), str) for key in ("name", "template"))


def _name(text: str) -> str:
    """A template's name as it can be part of a key."""
    return re.sub("[^0-9A-Za-z]", "_", text)
