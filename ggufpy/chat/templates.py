"""Chat templates: a file's own Jinja template, in a sandbox that is set up as in transformers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, NoReturn, TypeGuard

from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser

from ggufpy.chat.limits import SOURCE_CHARACTERS, LimitedEnvironment, limited
from ggufpy.errors import FormatError, TemplateError
from ggufpy.gguf.metadata import strings_of

Message = Mapping[str, Any]

# For files without a template of their own, and for chat_format="chatml".
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + (message['content'] or '') + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


_KEY = "tokenizer.chat_template"
_PROBE = {"role": "user", "content": "ggufpy-probe"}
_SYSTEM = {"role": "system", "content": "ggufpy-system"}


class ChatTemplate:
    """Turns messages into the text that a model was trained to answer.

    source: the Jinja template. variables: what it may name besides the messages (bos_token, eos_token, ...).
    Raises FormatError if the template does not compile.
    """

    def __init__(self, source: str, variables: Mapping[str, str] | None = None) -> None:
        self._variables = dict(variables or {})
        try:
            if len(source) > SOURCE_CHARACTERS:
                raise TemplateError(f"has {len(source):,} characters, the limit is {SOURCE_CHARACTERS:,}")
            with limited():
                self._template = _environment().from_string(source)
        except Exception as exc:  # jinja2's own errors, and Python's: what it generates is compiled
            raise FormatError(f"chat template: {_one_line(exc)}; the model can still complete text") from exc
        self._wants_parts = self._ignores_strings()

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any], name: str | None = None) -> ChatTemplate:
        """The template of a GGUF file: the one called `name`, by default the unnamed one, else ChatML.

        Raises FormatError if it does not parse, TemplateError if the file has no template of that name.
        """
        variables = special_tokens(metadata)
        if name == "chatml":
            return cls(CHATML, variables)
        source = metadata.get(f"{_KEY}.{name}" if name else _KEY)
        if source is None and name:
            names = [key.removeprefix(f"{_KEY}.") for key in metadata if key.startswith(f"{_KEY}.")]
            raise TemplateError(
                f"the file has no chat template '{name}'; it has {', '.join(names) or 'none'}; "
                "'chatml' is always there"
            )
        return cls(source if _is_template(source) else CHATML, variables)

    def render(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = True, **variables: Any
    ) -> str:
        """The text of `messages`, each with a "role" and a "content" (a string, or a list of text parts).

        Role "developer" is read as "system". A system message that the template would refuse or lose goes to
        the front of the next user message. Arguments of tool calls are parsed for templates that want
        objects.
        Raises TemplateError if the template refuses the messages or fails, and for what are no messages.
        """
        messages = _checked(messages)
        texts: list[dict[str, Any]] = []
        for message in messages:
            role = "system" if message.get("role") == "developer" else message.get("role")
            texts.append({**message, "role": role, "content": _text(message.get("content"))})
        if any(message.get("tool_calls") for message in texts) and self._wants_objects:
            texts = [_with_parsed_arguments(message) for message in texts]
        return self._render(self._with_all_shown(texts), add_generation_prompt, variables)

    def _render(
        self, messages: list[dict[str, Any]], add_generation_prompt: bool, variables: Mapping[str, Any]
    ) -> str:
        if self._wants_parts:
            messages = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]
        values = {"tools": None, "documents": None, **self._variables, **variables}
        try:
            with limited():
                return self._template.render(
                    messages=messages, add_generation_prompt=add_generation_prompt, **values
                )
        except TemplateError:
            raise
        except Exception as exc:  # a template is a program: it can fail in any way
            raise TemplateError(f"the chat template failed: {_one_line(exc)}") from exc

    def _ignores_strings(self) -> bool:
        """Whether the template shows content only as a list of parts (some for vision models do)."""
        self._wants_parts = False
        if "ggufpy-probe" in self._try([_PROBE]):
            return False
        self._wants_parts = True
        return "ggufpy-probe" in self._try([_PROBE])

    # Each of these is asked of the template once, when a conversation has such a message.

    @cached_property
    def _loses_first(self) -> bool:
        return self._loses([_SYSTEM, _PROBE])

    @cached_property
    def _loses_second(self) -> bool:
        return self._loses([{**_SYSTEM, "content": "ggufpy-first"}, _SYSTEM, _PROBE])

    @cached_property
    def _loses_later(self) -> bool:
        return self._loses([_PROBE, {"role": "assistant", "content": "ggufpy-answer"}, _SYSTEM, _PROBE])

    def _loses(self, messages: list[dict[str, Any]]) -> bool:
        """Whether the system message does not come out, of a template that otherwise works."""
        return "ggufpy-system" not in self._try(messages) and "ggufpy-probe" in self._try([_PROBE])

    def _with_all_shown(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The messages, with system messages that the template loses in front of the next user message."""
        shown: list[dict[str, Any]] = []
        moved: list[str] = []
        for number, message in enumerate(messages):
            role = message["role"]
            if role == "system" and self._is_lost(number, messages):
                moved.append(str(message["content"]))
            elif role == "user" and moved:
                shown.append({**message, "content": "\n\n".join([*moved, str(message["content"])])})
                moved = []
            else:
                shown.append(message)
        return [*shown, {"role": "user", "content": "\n\n".join(moved)}] if moved else shown

    def _is_lost(self, number: int, messages: list[dict[str, Any]]) -> bool:
        if number == 0:
            return self._loses_first
        at_the_front = all(message["role"] == "system" for message in messages[:number])
        return self._loses_second if at_the_front else self._loses_later

    @cached_property
    def _wants_objects(self) -> bool:
        """Whether arguments of tool calls come out well as objects; else they are left as strings of JSON."""
        function = {"name": "f", "arguments": {"ggufpy-key": "ggufpy-value"}}
        calls = [{"id": "ggufpy000", "type": "function", "function": function}]
        text = self._try([_PROBE, {"role": "assistant", "content": "", "tool_calls": calls}])
        return "ggufpy-key" in text and "{'ggufpy-key'" not in text

    def _try(self, messages: list[dict[str, Any]]) -> str:
        try:
            return self._render(messages, True, {})
        except TemplateError:
            return ""


def has_template(metadata: Mapping[str, Any]) -> bool:
    """Whether a file has a template that is used where none is named."""
    return _is_template(metadata.get(_KEY))


def special_tokens(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Texts of the special tokens that templates name: bos_token, eos_token, unk_token, ..."""
    tokens = strings_of(metadata, "tokenizer.ggml.tokens") or ()
    keys = {
        "bos": "bos",
        "eos": "eos",
        "unknown": "unk",
        "padding": "pad",
        "seperator": "sep",
        "mask": "mask",
    }
    found = {name: metadata.get(f"tokenizer.ggml.{key}_token_id") for key, name in keys.items()}
    return {
        f"{name}_token": tokens[token]
        for name, token in found.items()
        if isinstance(token, int) and 0 <= token < len(tokens)
    }


class _GenerationTag(Extension):
    """`{% generation %}...{% endgeneration %}`: marks answers for training, which is nothing to us."""

    tags = {"generation"}  # noqa: RUF012 (jinja2's own declaration)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> LimitedEnvironment:
    environment = LimitedEnvironment(
        {"tojson": _tojson}, trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
    )
    globals_: dict[str, Callable[..., Any]] = {"raise_exception": _refuse, "strftime_now": _now}
    environment.globals.update(globals_)
    return environment


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes HTML, which no model has been trained on.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _refuse(message: str) -> NoReturn:
    raise TemplateError(f"the chat template refuses these messages: {_one_line(message)}")


def _now(format: str) -> str:
    return datetime.now().strftime(format)


def _checked(messages: Any) -> list[Message]:
    """The messages as a list, whatever gives them. Raises TemplateError for what are none."""
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Iterable):
        kind = type(messages).__name__
        raise TemplateError(f'messages are a {kind}: must be a list of {{"role": ..., "content": ...}}')
    checked = list(messages)
    for number, message in enumerate(checked):
        if not isinstance(message, Mapping):
            raise TemplateError(f"message {number} is {message!r:.60}: must be a mapping")
        role = message.get("role")
        if not isinstance(role, str):
            raise TemplateError(f"message {number} has the role {role!r:.60}: must be a string")
    return checked


def _text(content: Any) -> Any:
    """Content as a string: text parts are joined. Raises TemplateError for parts that are not text."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise TemplateError(f"message content is {content!r:.60}: must be a string or a list of parts")
    parts: list[str] = []
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise TemplateError(f"message content of type {kind!r}: only text can be read")
        parts.append(part["text"])
    return "\n".join(parts)


def _with_parsed_arguments(message: dict[str, Any]) -> dict[str, Any]:
    """The message, with arguments of tool calls as objects where they are JSON objects."""
    calls = message.get("tool_calls")
    return (
        {**message, "tool_calls": [_parsed(call) for call in calls]} if isinstance(calls, list) else message
    )


def _parsed(call: Any) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    if not (isinstance(function, dict) and isinstance(function.get("arguments"), str)):
        return call
    try:
        arguments = json.loads(function["arguments"])
    except (ValueError, RecursionError):
        return call
    return {**call, "function": {**function, "arguments": arguments}} if isinstance(arguments, dict) else call


def _is_template(source: object) -> TypeGuard[str]:
    return isinstance(source, str) and source != ""


def _one_line(what: object) -> str:
    return " ".join(str(what).split()) or type(what).__name__
