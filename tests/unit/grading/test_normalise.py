"""One writing for one answer: strings, numbers, and the rules above the computer algebra."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.grading import rules
from harness.grading.normalise import clean, key
from harness.grading.numbers import number, same


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        (r"1\,000", "1000"),
        ("1 000", "1000"),
        ("1{,}000", "1000"),
        (r"11,\! 111,\! 111,\! 100", "11111111100"),
        ("1,234,567", "1234567"),
        ("(2,120)", "(2,120)"),
        ("1,2,3", "1,2,3"),
        (r"\tfrac12", r"\frac{1}{2}"),
        (r"\sqrt3", r"\sqrt{3}"),
        (r"15\mbox{ cm}^2", "15"),
        (r"90^\circ", "90"),
        (r"\$36", "36"),
        ("$x+1$.", "x+1"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"( 3, \frac{\pi}{2} )"),
        ("28 percent", "28%".replace("%", " %")),
        (r"\begin{pmatrix} 0 & 1 \\ 2 & 3 \end{pmatrix}", r"\begin{pmatrix} 0 & 1 \\ 2 & 3 \end{pmatrix}"),
        ("5!", "5!"),
        ("−5", "-5"),
        ("\ufeff5\x00", "5"),
        (r"\boxed{5}", "5"),
        (r"10 \text{ and } 20", "10, 20"),
        ("np.arcsin(10/13)", r"\arcsin(10/13)"),
    ],
)
def test_clean(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        (r"\text{Even}", "even", True),
        ("(B)", r"\text{(B)}", True),
        ("T", "t", False),
        (r"\pi c", r"\pic", False),
        ("x_{1}", "x_1", True),
        ("{{5}}", "5", True),
    ],
)
def test_keys(a: str, b: str, equal: bool) -> None:
    assert (key(clean(a)) == key(clean(b))) == equal


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", Fraction(12)),
        ("-0.5", Fraction(-1, 2)),
        ("1.85e5", Fraction(185000)),
        (r"1.85 \times 10^{5}", Fraction(185000)),
        (r"10^{-3}", Fraction(1, 1000)),
        (r"\frac{3}{4}", Fraction(3, 4)),
        ("3/4", Fraction(3, 4)),
        (r"2\frac{3}{4}", Fraction(11, 4)),
        ("(5)", Fraction(5)),
        ("1/0", None),
        (r"\frac{1}{0}", None),
        ("10^{99999}", None),
        ("x", None),
        ("", None),
        ("5" * 500, None),
    ],
)
def test_exact_values(text: str, value: Fraction | None) -> None:
    found = number(text)
    assert (found.value if found else None) == value


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        ("1/12", "0.0833333333333333", True),
        ("1/3", "0.333", False),
        ("1/3", "0.333333", True),
        ("12345678901234567890", "12345678901234567891", False),
        ("16386.16", "16386.17", False),
        ("1e-20", "1e-21", False),
        ("100000", "100000.4", False),
        ("28%", "28", True),
        ("28%", "0.28", True),
        ("28%", "0.29", False),
    ],
)
def test_equal_numbers(a: str, b: str, equal: bool) -> None:
    left, right = number(a), number(b)
    assert left is not None and right is not None
    assert same(left, right) == same(right, left) == equal


@given(st.fractions(max_denominator=10**6), st.fractions(max_denominator=10**6))
def test_exact_numbers_are_equal_only_when_they_are(a: Fraction, b: Fraction) -> None:
    left, right = number(str(a)), number(rf"\frac{{{b.numerator}}}{{{b.denominator}}}")
    assert left is not None and right is not None
    assert same(left, right) == (a == b)


@pytest.mark.parametrize(
    ("gold", "answer", "verdict"),
    [
        ("120, 102", "102,120", None),
        ("102120", "102,120", "right"),
        ("f(x)=x+1", "f(x) = x + 1", "right"),
        ("x=5", "5", "right"),
        ("5", "x=5", "right"),
        ("52_8", "52", "wrong"),
        ("52_8", "52_{8}", "right"),
        ("2.74", "2,74", "right"),
        ("x+y=1", "1", "wrong"),
        ("6", "6 m", "right"),
        ("6m", "6 m", "right"),
        ("x+1", "1+x", None),
        ("5", "", "unparsed"),
    ],
)
def test_rules_above_the_computer_algebra(gold: str, answer: str, verdict: str | None) -> None:
    assert rules.decided(*rules.cleaned(rules.reference(gold), answer)) == verdict


@pytest.mark.parametrize(
    ("gold", "reference"),
    [
        ("5", "5"),
        (r"so \boxed{1} and \boxed{2}", "1, 2"),
        (r"\boxed{1} " + "no " * 5 + r"\boxed{2}", "2"),
        ("We add the two numbers that were found above, and so we see that the answer is $7$.", "7"),
    ],
)
def test_references_as_data_sets_write_them(gold: str, reference: str) -> None:
    assert rules.reference(gold) == reference


LATEX = st.text(alphabet=st.sampled_from(list(r"\{}()[]^_,.;=+-*/!%$ 0123456789abcxyz")), max_size=80)


@given(LATEX | st.text(max_size=80), LATEX)
def test_no_text_raises_and_everything_equals_itself(text: str, other: str) -> None:
    a, b = rules.cleaned(text, text)
    assert rules.decided(a, b) in ("right", "unparsed")
    rules.decided(*rules.cleaned(text, other))


@pytest.mark.parametrize("text", ["{" * 1500, "\\frac" * 300, "1,000" * 300, "\\text{" * 250, " and " * 300])
def test_cleaning_the_longest_answers_is_quick(text: str) -> None:
    start = time.process_time()
    rules.decided(*rules.cleaned("5", text))
    assert time.process_time() - start < 0.5
