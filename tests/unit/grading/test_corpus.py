"""The corpus itself: enough of everything, every verdict confirmed, nothing twice, its reader right."""

from __future__ import annotations

import os
from collections import Counter, defaultdict

import pytest
import sympy as sp

from tests.unit.grading.corpus.build import Case
from tests.unit.grading.corpus.corpus import cases, real_cases
from tests.unit.grading.corpus.reader import read
from tests.unit.grading.corpus.real import DRAWN, structured
from tests.unit.grading.corpus.references import TYPES, references
from tests.unit.grading.corpus.values import (
    Based,
    Clock,
    Grid,
    Number,
    Ratio,
    Region,
    Relation,
    Rounded,
    Series,
    Word,
    same,
)

x, y, n = sp.symbols("x y n")
half, third = sp.Rational(1, 2), sp.Rational(1, 3)

KINDS = """
mixed-number-plain stated-answer-with-noun fraction-before-full-stop degrees-in-functions unit-after-letter
choice-letter-with-value greek-gamma words-that-change-the-value list-with-repetition set-is-not-tuple
complex-number-forms number-and-unit-inside-text counted-noun-in-box repeating-decimal latex-dress
plus-minus-inside inequalities-and-unions gsm8k-marker unicode-mathematics several-stated-answers
empty-set-and-all-reals three-term-ratio qualifier-after-formula approximately prose-in-box compound-unit
digits-joined-over-blank number-base plus-infinity angle-bracket-vectors mixed-percent
word-with-stop-or-article pi-as-word chinese-text decimal-for-root-or-pi left-side-not-readable another-unit
index-of-a-sum letters-in-another-order bare-latex-answer chat-mark-behind-the-answer
factors-in-another-order several-boxes order decimals small-numbers thousands left-hand-sides relations
upper-and-lower-case long-answers percent unit scientific base-n
""".split()

#: What the reader has to make of a text, written down by hand.
READINGS = [
    (r"-\frac{35}{9}", "number", Number(-sp.Rational(35, 9))),
    (r"3\frac12", "number", Number(sp.Rational(7, 2))),
    ("3 1/2", "number", Number(sp.Rational(7, 2))),
    ("31/2", "number", Number(sp.Rational(31, 2))),
    (r"2\sqrt3+\frac{\pi}{2}", "number", Number(2 * sp.sqrt(3) + sp.pi / 2)),
    (r"\sqrt[3]{-8x}", "number", Number((-8 * x) ** third)),
    (r"4\sin^2 30^\circ", "number", Number(sp.Integer(1))),
    (r"\cos 20x", "number", Number(sp.cos(20 * x))),
    ("1,234,000", "number", Number(sp.Integer(1234000))),
    ("6.5e-3", "number", Number(sp.Rational(65, 10000))),
    (r"6.5\times 10^{-3}", "number", Number(sp.Rational(65, 10000))),
    (r"12.5\%", "number", Number(sp.Rational(25, 2), "%")),
    (r"36^{\circ}", "number", Number(sp.Integer(36), "degree")),
    (r"\$7.25", "number", Number(sp.Rational(29, 4), "dollar")),
    ("5 [cm^2]", "number", Number(sp.Integer(5), "cm^2")),
    (r"2^{n+1}-3x^2y", "number", Number(2 ** (n + 1) - 3 * x**2 * y)),
    ("1-12i", "number", Number(1 - 12 * sp.I)),
    (r"5!\div 2³", "number", Number(sp.Integer(15))),
    (r"\left(-1, \frac{1}{2}\right)", "tuple", Series("(", (Number(sp.Integer(-1)), Number(half)))),
    (r"\{2, 1\}", "set", Series("{", (Number(sp.Integer(2)), Number(sp.Integer(1))))),
    ("1, 1", "list", Series(",", (Number(sp.Integer(1)), Number(sp.Integer(1))))),
    (
        r"(-\infty,2]\cup(3,5)",
        "region",
        Region(sp.Union(sp.Interval(-sp.oo, 2), sp.Interval.open(3, 5))),
    ),
    (
        r"2<x\le 3 \text{ or } 7 \leq x",
        "region",
        Region(sp.Union(sp.Interval.Lopen(2, 3), sp.Interval(7, sp.oo))),
    ),
    ("y = 2x-3", "equation", Relation(y - 2 * x + 3)),
    (r"\begin{pmatrix} 4 & -1 \\ 7 & \frac12 \end{pmatrix}", "matrix", Grid(((4, -1), (7, half)))),
    (r"\begin{bmatrix}1\\2\\3\end{bmatrix}", "matrix", Grid(((1,), (2,), (3,)))),
    (r"\text{(E)}", "word", Word("e")),
    ("4210_{5}", "base", Based("4210", 5)),
    ("2:3:5", "ratio", Ratio((4, 6, 10))),
    (r"4:30 \text{ p.m.}", "time", Clock(16 * 60 + 30)),
]

DIFFERENT = [
    ("number", "3", "4"),
    ("number", "10 [cm]", "10 [m]"),
    ("number", r"x^2", r"x^3"),
    ("tuple", "(1,2)", "(2,1)"),
    ("list", "1,1,2", "1,2,2"),
    ("set", r"\{1,2\}", "(1,2)"),
    ("region", "[1,2]", "[1,2)"),
    ("equation", "y=2x", "y=3x"),
    ("matrix", r"\begin{pmatrix}1&2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
    ("ratio", "3:4:5", "3:5:4"),
    ("word", "east", "seat"),
    ("base", "52_8", "52_9"),
    ("time", "4:30 am", "4:30 pm"),
]


@pytest.fixture(scope="module")
def corpus() -> list[Case]:
    return cases()


@pytest.fixture(scope="module")
def real() -> list[Case]:
    if not os.environ.get("ENTROBENCH_DATA"):
        pytest.skip("ENTROBENCH_DATA is not set, so the references of the real sets are not tried")
    return real_cases()


@pytest.mark.parametrize("text, type_, value", READINGS)
def test_the_reader_reads(text: str, type_: str, value: object) -> None:
    assert same(value, read(text, type_))


@pytest.mark.parametrize("type_, one, other", DIFFERENT)
def test_other_meanings_differ(type_: str, one: str, other: str) -> None:
    assert same(read(one, type_), read(one, type_))
    assert not same(read(one, type_), read(other, type_))


def test_decimals_stand_for_numbers_with_six_digits() -> None:
    assert same(Number(sp.pi), Rounded("3.14159"))
    assert not same(Number(sp.pi), Rounded("3.14160"))
    assert not same(Number(sp.pi), Rounded("3.1416"))


def test_there_is_enough_of_everything(corpus: list[Case]) -> None:
    assert len(corpus) >= 1500 and len(references()) >= 60
    assert {type_ for type_, _ in references()} == set(TYPES)
    counts = Counter((case.tag, case.expected) for case in corpus)
    short = {
        t: (counts[t, True], counts[t, False])
        for t in [*KINDS, *TYPES]
        if counts[t, True] < 10 or counts[t, False] < 5
    }
    assert not short


def test_every_reference_has_ten_right_and_five_wrong_answers(corpus: list[Case]) -> None:
    counts = Counter((c.tag, str(c.gold_meaning), c.expected) for c in corpus if c.group == "own")
    assert all(count >= (10 if expected else 5) for (*_, expected), count in counts.items())


def test_every_verdict_is_confirmed(corpus: list[Case]) -> None:
    assert [(c.gold, c.answer, c.expected) for c in corpus if not c.confirmed] == []


def test_no_case_is_there_twice_or_both_right_and_wrong(corpus: list[Case]) -> None:
    check_once(corpus)


def test_the_corpus_is_always_the_same(corpus: list[Case]) -> None:
    assert [c.conformance() for c in cases()] == [c.conformance() for c in corpus]


def test_the_real_sets(real: list[Case]) -> None:
    found = defaultdict(set)
    for case in real:
        found[case.group].add(case.gold)
    assert set(found) == set(DRAWN)
    assert sum(len(golds) for golds in found.values()) >= 150
    assert [(c.gold, c.answer, c.expected) for c in real if not c.confirmed] == []
    check_once(real)


def test_doubtful_references_are_left_out() -> None:
    for gold in ("(-2,1)", r"x^{\prime}+c", r"\lfloor n/2\rfloor", "f(n)=n^2", "E_{1},E_{2}", "(1,2),(3,4)"):
        assert structured(gold, "Find the interval.") is None
    assert structured("$6764$,$10945$") == ("list", "6764, 10945")


def check_once(chosen: list[Case]) -> None:
    pairs = [(c.gold, c.response) for c in chosen]
    assert len(pairs) == len(set(pairs))
    verdicts = defaultdict(set)
    for case in chosen:
        verdicts[case.gold, case.answer].add(case.expected)
    assert all(len(seen) == 1 for seen in verdicts.values())
