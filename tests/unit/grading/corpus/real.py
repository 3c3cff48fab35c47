"""References of the real sets, structured: the type of an answer from its text, and a draw by a fixed seed.

Only references are taken whose type is certain and which the corpus's reader reads; the others are left out.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import sympy as sp

from tests.unit.grading.corpus.build import Case, of_reference
from tests.unit.grading.corpus.reader import Unreadable, read, split
from tests.unit.grading.corpus.references import TYPES

SEED = 15
#: How many references are drawn of a set, types in turn.
DRAWN = {
    "aime24": 15,
    "aime25": 15,
    "amc23": 15,
    "amc22_23": 15,
    "gsm8k_test": 20,
    "math500": 60,
    "minerva_math": 35,
    "olympiadbench": 45,
}

#: Types that a pattern settles, in this order.
PATTERNS = (
    ("integer", r"-?\d+"),
    ("big-integer", r"\d{1,3}(,(\\!)? ?\d{3})+"),
    ("decimal", r"-?\d+\.\d+"),
    ("scientific", r"\d(\.\d+)?e-?\d+"),
    ("percent", r"\d+(\.\d+)?\\?%"),
    ("money", r"\\\$\d+(\.\d\d)?"),
    ("angle", r"\d+\^(\\circ|\{\\circ\})"),
    ("fraction", r"-?\\[dt]?frac ?(\d|\{\d+\}) ?(\d|\{\d+\})|-?\d+/\d+"),
    ("mixed-number", r"\d+ ?\\[dt]?frac ?(\d|\{\d+\})(\d|\{\d+\})"),
    ("base-n", r"\d+_\{?[2356789]\}?"),
    ("choice", r"\\text\{\([A-E]\)\}"),
    ("word", r"\\text\{[A-Za-z]{3,}\}"),
    ("matrix", r"\\begin\{pmatrix\}.*\\end\{pmatrix\}"),
)


def of_sets(folder: Path) -> list[Case]:
    """Cases of every drawn reference of the sets in ``folder``."""
    cases: list[Case] = []
    for name, count in DRAWN.items():
        for turn, (type_, text, gold) in enumerate(drawn(folder / f"{name}.jsonl.gz", count)):
            cases += of_reference(type_, text, gold, name, turn)
    return cases


def drawn(path: Path, count: int) -> list[tuple[str, str, str]]:
    """Type, text and reference of ``count`` rows: the types in turn, so that rare ones are there."""
    of_type: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for gold, problem in sorted(_rows(path)):
        found = structured(gold, problem)
        if found:
            of_type[found[0]].append((*found, gold))
    draw = random.Random(SEED)
    queues = [draw.sample(queue, len(queue)) for _, queue in sorted(of_type.items())]
    turns = [queue[n] for n in range(count) for queue in queues if n < len(queue)]
    return turns[:count]


def _rows(path: Path) -> Iterator[tuple[str, str]]:
    """Every reference once, with its first problem."""
    seen = set()
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if row["answer"] not in seen:
                seen.add(row["answer"])
                yield row["answer"], row["problem"]


def structured(gold: str, problem: str = "") -> tuple[str, str] | None:
    """Type and readable text of a reference; None where either is in doubt."""
    text = gold.replace("$,$", ", ").strip()
    text = text.strip("$") if not text.startswith("\\$") else text
    type_ = next((name for name, pattern in PATTERNS if re.fullmatch(pattern, text, re.S)), None)
    type_ = type_ or _composed(text, problem)
    if type_ is None:
        return None
    text = re.sub(r",(\\!)? ?(?=\d{3})", "", text) if type_ == "big-integer" else text
    text = re.sub(r"\\[dt]frac", r"\\frac", text)
    try:
        read(text, TYPES[type_][1])
    except (Unreadable, ValueError, TypeError, ZeroDivisionError):
        return None
    return type_, text


def _composed(text: str, problem: str) -> str | None:
    if re.search(
        r"\\(in|prime|floor|l?ceil|text|operatorname|dot)|_|\\pm|[A-Za-z]\([a-z0-9]\)|\.\.|!|\|", text
    ):
        return None
    if "\\cup" in text or "\\infty" in text or re.fullmatch(r"\[.*[\])]|\(.*\]", text):
        return "interval" if len(split(text)) == 1 or "\\cup" in text else None
    parts = split(text)
    if len(parts) > 1:
        return "list" if all(_constant(p) for p in parts) and len(set(parts)) == len(parts) else None
    inner = split(text[1:-1]) if text.startswith("(") and text.endswith(")") else []
    if len(inner) > 1:
        doubtful = len(inner) == 2 and re.search("interval|inequalit|range|values", problem)
        return "tuple" if all(_constant(p) for p in inner) and not doubtful and len(set(inner)) > 1 else None
    return _equation(text) if "=" in text else _formula(text)


def _equation(text: str) -> str | None:
    sides = text.split("=")
    letters = re.findall(r"[a-z]", text)
    plain = re.fullmatch(r"[-+ 0-9a-z^{}=]+", text)
    return "equation" if len(sides) == 2 and plain and len(set(letters)) > 1 and "(" not in text else None


def _constant(text: str) -> bool:
    try:
        return not read(text).value.free_symbols
    except (Unreadable, ValueError, TypeError):
        return False


def _formula(text: str) -> str | None:
    """Constants with roots or pi, complex numbers, expressions in plain letters."""
    if re.search(r"\\(?!frac|sqrt|pi|cdot|left|right|cos|sin|ln|exp)[a-z]", text):
        return None
    try:
        value = read(text).value
    except (Unreadable, ValueError, TypeError):
        return None
    if value.free_symbols:
        return None if value.has(sp.I) else "expression"
    if value.has(sp.I):
        return "complex"
    if value.is_Rational:
        return None
    return "pi-multiple" if value.has(sp.pi) else "root"
