"""Reads ``kinds.txt`` and ``templates.txt``: kinds of answers that graders get wrong, right and spoilt."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.unit.grading.corpus.build import BOXED, Case
from tests.unit.grading.corpus.reader import read, split
from tests.unit.grading.corpus.values import Word

HERE = Path(__file__).parent
LONG = " + ".join(f"{k} x_{{{k}}}" for k in range(1, 201))


def kinds() -> list[Case]:
    """Every case of the tables, in their order, and the long answers."""
    cases: list[Case] = []
    for kind, type_, place, _, lines in _sections("kinds.txt"):
        for line in lines:
            cases += _row(line, kind, type_, place, len(cases))
    for kind, type_, place, of, lines in _sections("templates.txt"):
        for gold, good, bad in _answers(lines[0]):
            for template in lines[1:]:
                cases += _filled(template, gold, (good, bad), kind, type_, place, of, len(cases))
    return cases + list(_long())


def _sections(name: str) -> Iterator[tuple[str, str, str, int, list[str]]]:
    """Kind, type of answer, place, the part that is the answer (0: all), lines."""
    for section in re.split(r"\n\[(?=[a-z])", (HERE / name).read_text(encoding="utf-8"))[1:]:
        head, *lines = section.splitlines()
        kind, type_, place, *of = head.rstrip("]").split()
        yield kind, type_, place, int(of[0][3:]) if of else 0, [line for line in lines if line]


def _row(line: str, kind: str, type_: str, place: str, turn: int) -> Iterator[Case]:
    gold, answers = line.split(" => ")
    right, wrong = answers.split(" !! ")
    gold_text, gold_meaning = _reading(gold, type_)
    for expected, texts in ((True, right), (False, wrong)):
        for n, text in enumerate(texts.split(" ;; ")):
            answer, meaning = _reading(text, type_)
            response = _placed(answer, place, turn + n)
            yield Case(kind, gold_text, answer, response, expected, gold_meaning, meaning, "kind")


def _reading(text: str, type_: str) -> tuple[str, Any]:
    """The answer, and what it means: ``answer @ reading`` or ``answer @ type: reading``."""
    answer, _, reading = text.partition(" @ ")
    named = re.fullmatch(r"([a-z]+): (.*)", reading)
    if named:
        type_, reading = named.groups()
    return answer.strip(), read(reading or answer, type_)


def _answers(line: str) -> Iterator[tuple[str, str, str]]:
    """Reference, right answer, wrong answer."""
    for entry in line.removeprefix("answers: ").split(" ;; "):
        good, bad = entry.rsplit(" | ", 1)
        gold, tilde, parts = good.partition(" ~ ")
        yield gold.strip(), (parts if tilde else good).strip(), bad.strip()


def _filled(
    template: str, gold: str, both: tuple[str, str], kind: str, type_: str, place: str, of: int, turn: int
) -> Iterator[Case]:
    for expected, answer in zip((True, False), both, strict=True):
        parts = split(answer)
        filled = template.replace("⏎", "\n").replace("<a>", answer)
        for n, part in enumerate(parts, 1):
            filled = filled.replace(f"<{n}>", part)
        meaning = read(parts[of - 1] if of else answer, type_)
        yield Case(
            kind, gold, filled, _placed(filled, place, turn), expected, read(gold, type_), meaning, "kind"
        )


def _placed(answer: str, place: str, turn: int) -> str:
    return answer if place == "raw" else BOXED[turn % len(BOXED)].replace("<a>", answer)


def _long() -> Iterator[Case]:
    """Beyond 1,500 characters only equal text is right."""
    for n in range(4):
        gold = f"{LONG} + {n + 2}"
        texts = [(gold, True)] * 3 + [
            (f"{LONG} + {n + 9}", False),
            (gold.replace("7 x_{7}", "8 x_{7}", 1), False),
        ]
        for k, (text, expected) in enumerate(texts):
            response = _placed(text, "box", k)
            yield Case("long-answers", gold, text, response, expected, Word(gold), Word(text), "kind")
