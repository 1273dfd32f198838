"""Chat templates."""

from pathlib import Path
from typing import Any

import pytest

from ggufpy.chat.templates import ChatTemplate, special_tokens
from ggufpy.errors import FormatError, TemplateError

USER = {"role": "user", "content": "hello"}
SYSTEM = {"role": "system", "content": "be brief"}


def render(source: str, messages: list[dict[str, Any]], **variables: Any) -> str:
    return ChatTemplate(source, {"bos_token": "<s>"}).render(messages, **variables)


def test_chatml_where_the_file_has_no_template() -> None:
    template = ChatTemplate.from_metadata({})
    assert template.render([SYSTEM, USER]) == (
        "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    )
    assert template.render([USER], add_generation_prompt=False) == "<|im_start|>user\nhello<|im_end|>\n"


def test_named_templates() -> None:
    metadata = {
        "tokenizer.chat_template": "first",
        "tokenizer.chat_template.other": "second {{ messages[0].content }}",
    }
    assert ChatTemplate.from_metadata(metadata).render([USER]) == "first"
    assert ChatTemplate.from_metadata(metadata, "other").render([USER]) == "second hello"
    assert ChatTemplate.from_metadata(metadata, "chatml").render([USER]).startswith("<|im_start|>user")
    with pytest.raises(TemplateError, match="no chat template 'third'; it has other"):
        ChatTemplate.from_metadata(metadata, "third")


def test_special_tokens_by_the_names_templates_use() -> None:
    metadata = {
        "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>"],
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 99,
    }
    assert special_tokens(metadata) == {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}


def test_the_environment_is_that_of_transformers() -> None:
    source = """{{ bos_token }}
{% for message in messages %}
    {% if loop.index == 2 %}{% break %}{% endif %}
    {{- message | tojson }}
    {%- generation %}[{{ strftime_now("%Y") | length }}]{% endgeneration %}

{% endfor %}"""
    expected = '<s>\n{"role": "user", "content": "<é>"}[4]\n'
    assert render(source, [{"role": "user", "content": "<é>"}, USER]) == expected


def test_trim_blocks_and_lstrip_blocks() -> None:
    assert render("a\n  {% if true %}\nb\n  {% endif %}\nc", []) == "a\nb\nc"


def test_tools_and_documents_are_none() -> None:
    assert render("{{ tools is none and documents is none and unheard_of is not defined }}", []) == "True"


def test_text_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert render("{{ messages[0].content }}", [{"role": "user", "content": parts}]) == "one\ntwo"
    with pytest.raises(TemplateError, match="'image_url': only text"):
        render("{{ messages[0].content }}", [{"role": "user", "content": [{"type": "image_url"}]}])


def test_a_template_that_wants_parts_gets_parts() -> None:
    source = "{% for m in messages %}{% for part in m.content %}{{ part.text }}{% endfor %}{% endfor %}"
    assert render(source, [USER]) == "hello"


def test_a_refused_system_message_goes_into_the_first_user_message() -> None:
    source = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for m in messages %}{{ m.role }}: {{ m.content }};{% endfor %}"
    )
    assert render(source, [SYSTEM, USER]) == "user: be brief\n\nhello;"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ raise_exception('roles\nmust alternate') }}", "refuses these messages: roles must alternate$"),
        ("{{ 1 // 0 }}", "failed: integer division"),
        ("{{ messages[7].content.strip() }}", "failed: .*undefined|failed: .*no element"),
        ("{{ ''.__class__.__mro__ }}", "failed: .*unsafe"),
        ("{{ messages.append(1) }}", "failed: .*not safe|failed: .*unsafe"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "failed: .*[Rr]ange"),
    ],
)
def test_a_template_that_fails_says_so_in_one_line(source: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message) as error:
        render(source, [USER])
    assert "\n" not in str(error.value)


def test_a_template_that_does_not_parse_is_the_files_fault() -> None:
    with pytest.raises(FormatError, match=r"chat template: .*endfor"):
        ChatTemplate("{% for m in messages %}")


# They name functions or tools without which they render nothing, in transformers too.
_NEED_TOOLS = {
    "CohereForAI-c4ai-command-r-plus-tool_use",
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use",
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use",
    "fireworks-ai-llama-3-firefunction-v2",
}


def test_the_templates_of_real_models(shared: Path) -> None:
    files = sorted((shared / "conformance" / "templates").glob("*.jinja"))
    assert files
    messages = [
        {"role": role, "content": text}
        for role, text in [("system", "SYS-1"), ("user", "USE-1"), ("assistant", "ASS-1"), ("user", "USE-2")]
    ]
    for file in files:
        if file.stem in _NEED_TOOLS:
            continue
        text = ChatTemplate(file.read_text(), {"bos_token": "<s>", "eos_token": "</s>"}).render(messages)
        assert [m["content"] for m in messages if str(m["content"]) not in text] == [], file.name


TURNS = (
    "{% for m in messages %}{% if m.role == 'user' %}[{{ m.content }}]"
    "{% elif m.role == 'assistant' %}{{ m.content }}{% endif %}{% endfor %}"
)
FIRST = "{% if messages[0].role == 'system' %}<{{ messages[0].content }}>{% endif %}" + TURNS


@pytest.mark.parametrize(
    ("source", "expected"), [(TURNS, "[S1\n\nS2\n\nU1]A1[S3\n\nU2]"), (FIRST, "<S1>[S2\n\nU1]A1[S3\n\nU2]")]
)
@pytest.mark.parametrize("role", ["system", "developer"])
def test_system_messages_are_not_lost(source: str, expected: str, role: str) -> None:
    said = [(role, "S1"), (role, "S2"), ("user", "U1"), ("assistant", "A1"), (role, "S3"), ("user", "U2")]
    messages = [{"role": who, "content": text} for who, text in said]
    assert render(source, messages) == expected
    assert render(source, messages[:-1]).endswith("A1[S3]")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ call.arguments | tojson }}", '{"a": 1}'),
        ("{{ call.arguments }}", '{"a":1}'),
        ("{% if call.arguments is string %}{{ call.arguments }}{% endif %}", '{"a":1}'),
        ("{% for k, v in call.arguments.items() %}{{ k }}={{ v }}{% endfor %}", "a=1"),
    ],
)
def test_arguments_of_tool_calls(source: str, expected: str) -> None:
    calls = [{"type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}]
    messages: list[dict[str, Any]] = [USER, {"role": "assistant", "content": None, "tool_calls": calls}]
    loop = "{% for m in messages %}{% if m.tool_calls %}{% set call = m.tool_calls[0].function %}"
    shown = "{{ messages[0].content }}|" + loop + source + "{% endif %}{% endfor %}"
    assert render(shown, messages) == f"hello|{expected}"
