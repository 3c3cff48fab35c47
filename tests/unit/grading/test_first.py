"""The first grader's ways around math-verify's slowest parts: they say what it says, or nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from math_verify import verify

from harness.grading import first, shortcuts, two_stage
from tests.unit.grading.grading_here import _loaded


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    _loaded()


EQUAL = [
    (r"\frac{x+2}{7}", r"\frac{x}{7}+\frac{2}{7}"),
    ("x^2+2x+1", "(x+1)^2"),
    (r"\frac{2\pi A}{c^2}", r"A\frac{2}{c^2}\pi"),
    ("-12ab+c", "c-b 12 a"),
]
APART = [
    ("15625", r"\frac{e^{2it}}{2+2i}+Ce^{-2t}"),
    (r"\frac{45}{2}", r"\frac{1}{4}n(n+1)"),
    ("x^2+1", "x^2-1"),
    (r"\sqrt{x^2+1}", "x+1"),
    ("2^n", "2^n+1"),
    (r"\sin x+y", r"\cos x+y"),
]
#: Equal for positive numbers, for whole ones, or only after simplification; or no plain formula.
OPEN = [
    (r"\tan^2 y+1", r"\sec^2 y"),
    (r"\sqrt{x^2}+1", "x+1"),
    (r"\ln(x^2)+y", r"2\ln x+y"),
    (r"\sum_{k=1}^{n} k", r"\frac{n(n+1)}{2}"),
    ("x", "y"),
    ("10^{10^{10}}x", "x"),
    (r"\frac{x}{0}", "x+1"),
]


def parsed(text: str) -> list[object]:
    return first._parse(text)


@pytest.mark.parametrize(("gold", "pred"), EQUAL)
def test_what_is_one_sum_of_products_is_right_to_math_verify_too(gold: str, pred: str) -> None:
    assert shortcuts.equal(parsed(gold)[0], parsed(pred)[0])
    assert not shortcuts.apart(parsed(gold)[0], parsed(pred)[0])
    assert verify(parsed(gold), parsed(pred), timeout_seconds=None)


@pytest.mark.parametrize(("gold", "pred"), APART)
def test_what_has_other_values_is_wrong_to_math_verify_too(gold: str, pred: str) -> None:
    assert shortcuts.apart(parsed(gold)[0], parsed(pred)[0])
    assert not shortcuts.equal(parsed(gold)[0], parsed(pred)[0])
    assert not verify(parsed(gold), parsed(pred), timeout_seconds=None)


@pytest.mark.parametrize(("gold", "pred"), OPEN)
def test_the_rest_is_left_to_math_verify(gold: str, pred: str) -> None:
    sides = parsed(gold)[0], parsed(pred)[0]
    assert not shortcuts.equal(*sides) and not shortcuts.apart(*sides)


@pytest.fixture
def in_full(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The grammar with its whole look-ahead, as math-verify has it."""
    from latex2sympy2_extended.latex2sympy2 import PSParser

    two_stage.install()  # a second time changes nothing
    monkeypatch.setattr(PSParser, "math", PSParser.math.__wrapped__)
    assert not hasattr(PSParser.math, "__wrapped__")
    yield monkeypatch


READ = [text for pair in (*EQUAL, *APART, *OPEN) for text in pair] + [
    "185\\", r"1 = \zzz = x = 0", r"\frac{1", "x+", "f(x)=2x", r"(1,2]\cup[3,\infty)", r"\{1,2\}", "1<x<2",
    r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\int_0^1 x\,dx", r"\sqrt[3]{x}^2", "|x|+|y|", r"a_1,a_2",
    r"5\,@ 6", "2x%3",
]  # fmt: skip


def test_two_stages_read_what_one_reads(in_full: pytest.MonkeyPatch) -> None:
    import sympy

    def read() -> list[list[str]]:
        first._parse.cache_clear()
        return [[sympy.srepr(v) if isinstance(v, sympy.Basic) else str(v) for v in parsed(t)] for t in READ]

    with_one = read()
    in_full.undo()
    # Other texts go between, because math-verify remembers its last twenty.
    assert len(READ) > 40 and read() == with_one
