"""Chat templates that do not end, or make much of little; harmless ones are not bothered."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ggufpy.chat import limits
from ggufpy.chat.templates import ChatTemplate
from ggufpy.errors import FormatError, GgufpyError, TemplateError

MESSAGES = [{"role": "user", "content": "Hello"}]

ENDLESS = [
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{{ i }}{% endfor %}{% endfor %}",
    "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "{% set n = namespace(x=1) %}{% for i in range(99999) %}{% set n.x = n.x * 3 %}{% endfor %}",
    "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
]
LARGE = [
    "{{ 'x' * 1000000000000 }}",
    "{{ 1000000000000 * 'x' }}",
    "{{ ([0] * 1000000000000)|length }}",
    "{{ 9 ** 999999999 }}",
    "{{ ((9 ** 9) ** 99) ** 99 }}",
    "{{ 'x'|center(1000000000000) }}",
    "{{ 'x'.ljust(1000000000000) }}",
    "{{ 'x'.zfill(1000000000000) }}",
    "{{ ('x' * 1000000).replace('x', 'y' * 1000000) }}",
    "{{ ('x' * 1000000)|replace('x', 'y' * 1000000) }}",
    "{{ ('x' * 1000000).join(['a'] * 1000000) }}",
    "{{ (['a'] * 1000000)|join('x' * 1000000) }}",
    "{{ '%1000000000000d' % 1 }}",
    "{{ '%*d' % (1000000000000, 1) }}",
    "{{ '{:>1000000000000}'.format(1) }}",
    "{{ '{:>{}}'.format(1, 1000000000000) }}",
    "{{ ('{0}' * 100000).format('x' * 1000000) }}",
    "{{ '%1000000000000d'|format(1) }}",
    "{{ messages|tojson(indent=1000000000000) }}",
    "{{ messages|tojson(indent=1001) }}",
    "{{ 'x\ny'|indent(1000000000000) }}",
    "{{ 1.5|round(1000000000000) }}",
    "{{ lipsum(n=1000000000) }}",
    "{% set n = namespace(s='x') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    "{% set n = namespace(s='x') %}{% for i in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}",
    "{% set n = namespace(s='x') %}{% for i in range(99) %}{% set t %}{{ n.s }}{{ n.s }}{% endset %}"
    "{% set n.s = t %}{% endfor %}",
    "{% set n = namespace(s=[1]) %}{% for i in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}",
    "{{ ['x' * 1000000] * 1000000 | join }}",
]


@pytest.fixture(autouse=True)
def low_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kinds of limits are tested, not how long it takes to reach them."""
    monkeypatch.setattr(limits, "STEPS", 100_000)
    monkeypatch.setattr(limits, "CHARACTERS", 1 << 24)


@pytest.mark.parametrize("source", ENDLESS + LARGE)
def test_beyond_the_limits(source: str) -> None:
    template = ChatTemplate(source)
    start = time.process_time()
    with pytest.raises(TemplateError, match="chat template"):
        template.render(MESSAGES)
    assert time.process_time() - start < 30  # and not for hours


def test_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    template = ChatTemplate(ENDLESS[0])
    monkeypatch.setattr(limits, "SECONDS", 0.05)
    monkeypatch.setattr(limits, "STEPS", 10**12)
    with pytest.raises(TemplateError, match=r"takes more than 0\.05 seconds"):
        template.render(MESSAGES)


@pytest.mark.parametrize(
    "source",
    [
        "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
        "{% if x %}" * 200 + "{% endif %}" * 200,
        "{% for x in y %}" * 30 + "{% endfor %}" * 30,
        "{% for x in messages %}{{ x }}",
        "{{ 1 +",
        "{% set loop = 1 %}{% for x in y %}{{ loop.index }}{% set loop.x = 1 %}{% endfor %}",
        "{{ f(" + ", ".join(f"a{i}=1" for i in range(3)) + ", a1=2) }}",
        "x" * (limits.SOURCE_CHARACTERS + 1),
    ],
)
def test_what_does_not_compile(source: str) -> None:
    try:
        ChatTemplate(source).render(MESSAGES)
    except FormatError as exc:
        assert str(exc).startswith("chat template: ")
        assert "\n" not in str(exc)
    except TemplateError:
        pass  # it compiles, and fails in our own words


PIECES = [*"{}%|~+*()[]'.,:= \n", "for", "in", "if", "set", "x", "9", "end"]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_any_text(text: str) -> None:
    for source in (text, "{{ " + text + " }}", "{% " + text + " %}"):
        try:
            ChatTemplate(source).render(MESSAGES)
        except GgufpyError as exc:
            assert "\n" not in str(exc)


def test_long_conversations_have_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    messages = [
        {"role": role, "content": "word " * 200} for _ in range(500) for role in ("user", "assistant")
    ]
    text = ChatTemplate.from_metadata({}).render(messages)
    assert text.count("<|im_start|>") == 1001
