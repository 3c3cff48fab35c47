"""Chat templates that refuse, drop or change what they are given; each mistake in one line."""

from __future__ import annotations

from typing import Any

import pytest

from harness.problems import templates
from harness.problems.templates import TODAY, render_chat
from harness.util.errors import UserError
from tests.helpers.tiny import build_tokenizer

REFUSES = "{% if messages[0].role == 'system' %}{{ raise_exception('no system, please') }}{% endif %}"
TURNS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
DROPS = "{% for m in messages if m.role == 'user' %}<|user|>{{ m.content }}{% endfor %}"
MERGES = (
    "{% if messages[0].role == 'system' %}{% set first = messages[0].content | trim ~ '\\n\\n' %}"
    "{% set rest = messages[1:] %}{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}<|{{ m.role }}|>{{ first if loop.first }}{{ m.content | trim }}{% endfor %}"
)


def told(template: Any) -> Any:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("name", ["system-boxed", "think-boxed"])
@pytest.mark.parametrize(("chat", "reason"), [(REFUSES + TURNS, "no system, please"), (DROPS, "leaves out")])
def test_a_chat_template_without_system_turn_is_told_with_a_remedy(name: str, chat: str, reason: str) -> None:
    with pytest.raises(UserError) as error:
        templates.find(name).check(told(chat))
    line = str(error.value)
    assert f"template '{name}'" in line and reason in line and "\n" not in line
    assert line.endswith("use template=chat-boxed, which has no system turn")
    templates.find("chat-boxed").check(told(chat))


def test_a_system_turn_within_the_users_is_none_that_is_left_out() -> None:
    template = templates.find("system-boxed")
    template.check(told(MERGES))
    assert f"{template.system}\n\nQ" in template.render(" Q\n", told(MERGES))


@pytest.mark.parametrize(
    ("chat", "reason"),
    [
        ("{{ messages[7].content + 1 }}", "refuses it: "),
        ("{% for m in messages %}{{ m.content + 1 }}{% endfor %}", 'can only concatenate str (not "int")'),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{% for m in messages %}", "refuses it: "),
        ({"tools": TURNS}, "multiple chat templates"),
        ("{% for m in messages %}{{ m.content[:10] }}{% endfor %}", "leaves out what the"),
    ],
)
@pytest.mark.parametrize("name", ["chat-boxed", "system-boxed", "dapo"])
def test_whatever_a_chat_template_does_is_one_line(name: str, chat: Any, reason: str) -> None:
    with pytest.raises(UserError) as error:
        templates.find(name).check(told(chat))
    line = str(error.value)
    assert f"template '{name}'" in line and reason in line and "\n" not in line
    assert line.endswith("use template=plain, which needs no chat template")


def test_a_question_that_is_left_out_is_noticed_when_it_is_rendered() -> None:
    chat = "{% for m in messages %}{{ m.content if 'secret' not in m.content }}{% endfor %}"
    template = templates.find("chat-boxed")
    template.check(told(chat))
    with pytest.raises(UserError, match="leaves out what the user turn says"):
        template.render("a secret question", told(chat))


def test_a_chat_template_that_draws_its_words_is_refused() -> None:
    with pytest.raises(UserError, match="differently each time"):
        templates.find("chat-boxed").check(told("{{ range(10**5) | random }}" + TURNS))


@pytest.mark.parametrize(
    ("call", "day"),
    [
        ("strftime_now('%d %b %Y')", "%d %b %Y"),
        ('strftime_now("%Y-%m-%d")', "%Y-%m-%d"),
        ("strftime_now('%B %-d, %Y at %H:%M:%S')", "%B %-d, %Y at %H:%M:%S"),
        ("strftime_now('%d' ~ ' ' ~ '%A')", "%d %A"),
        ("(strftime_now(form) if strftime_now is defined else 'never')", "%j"),
    ],
)
def test_today_is_always_the_same_day(call: str, day: str) -> None:
    chat = "{% set form = '%j' %}  {% macro now() %}{{ " + call + " }}{% endmacro %}[{{ now() }}] " + TURNS
    plain = chat.replace(call, repr(TODAY.strftime(day)))
    turns = [{"role": "user", "content": "at %d past"}]
    assert render_chat(told(chat), turns) == render_chat(told(plain), turns)
    assert f"[{TODAY.strftime(day)}]" in render_chat(told(chat), turns)


@pytest.mark.parametrize("head", ["", "\n", "\n\n", "  ", " \n {%- if true %}x{% endif %}\n"])
def test_the_frozen_clock_changes_nothing_else(head: str) -> None:
    chat = head + TURNS
    turns = [{"role": "user", "content": "Q"}]
    with_clock = render_chat(told(chat + "{# strftime_now #}"), turns)
    assert with_clock == render_chat(told(chat), turns)
