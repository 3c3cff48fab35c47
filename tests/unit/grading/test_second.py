"""The second grader's reader and comparison, and that it cannot be made to compute without end."""

from __future__ import annotations

import time

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.grading.normalise import clean
from harness.grading.second import judge
from harness.grading.second.compare import canonical
from harness.grading.second.reader import read
from harness.grading.second.tokens import Unreadable
from harness.grading.second.values import NumberValue


def verdict(gold: str, pred: str) -> str:
    return str(judge(gold=clean(gold), pred=clean(pred))["status"])


@pytest.mark.parametrize(
    ("gold", "pred"),
    [
        (r"\frac{x+2}{7}", r"\frac{x}{7}+\frac27"),
        (r"\tan^2 y+1", r"\sec^2(y)"),
        (r"2\sqrt{3}", r"\sqrt{12}"),
        ("6 - 5i", "-5i+6"),
        (r"\frac{1}{12}", "0.0833333333333333"),
        (r"1\frac{1}{2}", "1.5"),
        (r"x \in [-2,7]", "[-2,7]"),
        (r"x \le 3", r"(-\infty, 3]"),
        ("0<f(x)<1", "(0,1)"),
        ("3, 1, 2", r"\{1,2,3\}"),
        (r"\pm 2021", "-2021, 2021"),
        (r"\frac{-1 \pm \sqrt{13}}{4}", r"\frac{-1-\sqrt{13}}{4}, \frac{-1+\sqrt{13}}{4}"),
        (r"(1,\pm 2)", "(1,2),(1,-2)"),
        (r"x=\pm\sqrt{2}", r"\{-\sqrt{2},\sqrt{2}\}"),
        ("p=5,q=2;p=7,q=2", "(5,2),(7,2)"),
        ("x^2+y^2=1", "1-x^2-y^2=0"),
        ("-x>-1", "x<1"),
        (r"(0,9)\cup(9,36)", r"(9,36)\cup(0,9)"),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\left[\begin{array}{cc}1&2\\3&4\end{array}\right]"),
        (r"\binom{5}{2}", "10"),
        ("7!/16", "315"),
        (r"\lfloor\sqrt{n-1}\rfloor", r"\lfloor (n-1)^{1/2} \rfloor"),
        (r"I(0) e^{-\frac{t}{RC}}", r"\frac{I(0)}{e^{t/(RC)}}"),
        (r"\log_2 8", "3"),
        (r"\sqrt[3]{-8}", "-2"),
        (r"\text{Navin}", r"\text{navin}"),
        ("|x-1|", "|1-x|"),
        (r"\frac{d x}{d t}", r"\frac{dx}{dt}"),
        ("28%", "0.28"),
    ],
)
def test_equal_answers(gold: str, pred: str) -> None:
    assert verdict(gold, pred) == "right"


@pytest.mark.parametrize(
    ("gold", "pred"),
    [
        ("x^2+1", "x^2-1"),
        ("(1,2)", "(2,1)"),
        ("[0,1)", "[0,1]"),
        ("(1,2)", r"\{1,2\}"),
        ("|x|", "x"),
        (r"\sqrt{x^2+1}", "x+1"),
        (r"\frac{1}{2004!}", r"\frac{1}{2006!}"),
        ("x<1", "x<=1"),
        ("x>5", "x<5"),
        ("f(x)", "f(y)"),
        ("a_1", "a_2"),
        ("I(0) t", "0"),
        (r"\frac{1}{3}", "0.333"),
        ("1,2", "1,2,3"),
        (r"\text{east}", r"\text{west}"),
        ("x^2+y^2=1", "x^2+y^2=2"),
        (r"\begin{pmatrix}1&2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
        (r"\pi", "3.14"),
    ],
)
def test_different_answers(gold: str, pred: str) -> None:
    assert verdict(gold, pred) == "wrong"


@pytest.mark.parametrize(
    "text",
    [
        "10^{10^{10}}",
        "9^{9^{9^{9}}}",
        "10000000!",
        "7!!!!!!!!!!",
        r"\binom{1000000000}{500000000}",
        r"1.5^{1000000000}",
        r"0.1^{-10000000}",
        "(x+1)^{1000000}",
        r"2^{2^{2^{2^{2^{2}}}}}",
        "x^{" * 50 + "x" + "}" * 50,
        r"\sqrt{2+" * 100 + "2" + "}" * 100,
        "(" * 700 + "5" + ")" * 700,
        r"\left(1+\frac{1}{10^{9}}\right)^{10^{18}}",
        "().__class__.__bases__[0].__subclasses__()",
        '__import__("os").system("true")',
        r"\def\a{\a\a}\a",
        r"\frac{1}{0}",
        r"\log 0",
        r"\frac{}{}",
        "",
        "^",
        "五",
        "\ud800",
    ],
)
def test_what_it_does_not_read_it_refuses_at_once(text: str) -> None:
    start = time.process_time()
    with pytest.raises(Unreadable):
        read(clean(text))
    assert time.process_time() - start < 0.5


LETTERS = st.sampled_from([sympy.Symbol("x"), sympy.Symbol("y"), sympy.pi, sympy.sqrt(2)])
NUMBERS = st.fractions(min_value=-20, max_value=20, max_denominator=12).map(
    lambda f: sympy.Rational(f.numerator, f.denominator)
)


@st.composite
def expressions(draw: st.DrawFn, depth: int = 3) -> sympy.Expr:
    if depth == 0 or draw(st.booleans()):
        return draw(LETTERS | NUMBERS)
    a, b = draw(expressions(depth - 1)), draw(expressions(depth - 1))
    how = draw(st.sampled_from(["+", "-", "*", "/", "^"]))
    if how == "^":
        return a ** draw(st.integers(0, 3))
    if how == "/":
        return a / (b**2 + 1)
    return a + b if how == "+" else a - b if how == "-" else a * b


@settings(max_examples=60, deadline=None)
@given(expressions())
def test_latex_of_sympy_is_read_back(expression: sympy.Expr) -> None:
    text = clean(sympy.latex(expression))
    value = read(text)
    assert isinstance(value, NumberValue)
    assert judge(gold=text, pred=clean(sympy.latex(sympy.expand(expression))))["status"] == "right"
    assert judge(gold=text, pred=clean(sympy.latex(expression + 1)))["status"] == "wrong"


SIGNS = list(r"\{}()[]^_,;=<+-*/!|%&.' 0123xyei")
COMMANDS = [
    r"\frac", r"\sqrt", r"\binom", r"\sin", r"\ln", r"\log", r"\arctan", r"\exp", r"\cdot", r"\pi",
    r"\infty", r"\pm", r"\lfloor", r"\rfloor", r"\le", r"\sum_{k=1}^{3}", "!!", "{2}", "{x}", "^n", "^x",
    "^{-1}", "2e-1", "3.5", "1000",
]  # fmt: skip
PIECES = st.one_of(st.sampled_from(SIGNS), st.sampled_from(COMMANDS), st.sampled_from(COMMANDS))
GOLDS = st.sampled_from(["5", "x^n", "(-1)^n", r"\frac{1}{3}", "1,2", "[0,1]"])


@settings(max_examples=400, deadline=None)
@given(GOLDS, st.lists(PIECES, max_size=9).map("".join))
def test_no_text_raises_or_takes_long(gold: str, text: str) -> None:
    start = time.process_time()
    said = judge(gold=gold, pred=text)
    assert said["status"] in ("right", "wrong", "unparsed") and "error" not in said
    assert time.process_time() - start < 2.5  # what a worker may use


@pytest.mark.parametrize(
    "text",
    [
        r"1\sin{x}!!",
        r"\frac2e-1!{2}",
        "x^n",
        "2k^n^n",
        r"-\sqrt\sin\sin100xi^n",
        r"\sqrt{(x/100)^{1000-n}}",
        r"12^{0.1234567}",
        r"\binom{\sqrt{x}}{1012}",
        r"\binom{n}{59049003.5}",
        r"\binom{n}{10^{9}}",
        r"\lfloor\sqrt[0.003]{10^{x}}\rfloor",
        r"\sqrt[n]{\ln^{-1}(b^{2024})}",
        r"2^{10^{9}n}",
        r"(10^{6}n)!+2^n",
        r"e^{e^{e^{e^{x}}}}",
        r"10^{3000}\cdot10^{3000}+n!!",
    ],
)
def test_what_is_hard_to_work_out_is_settled_at_once(text: str) -> None:
    start = time.process_time()
    for gold in ("5", r"\frac{x}{7}+2^n", text):
        assert "error" not in judge(gold=gold, pred=text)
        other = "wrong" if gold == text else "right"
        assert judge(gold=gold, pred=text)["status"] != other
    assert time.process_time() - start < 1.5


@pytest.mark.parametrize(
    ("gold", "pred", "status"),
    [
        ("2^{n+1}", r"2\cdot 2^n", "right"),
        ("x^{2n}", "(x^n)^2", "right"),
        (r"\frac{3^n-1}{2}", r"\frac{3^{n+1}-3}{6}", "right"),
        ("n2^{n-1}", r"\frac{n}{2}2^n", "right"),
        (r"2^n\ln(n^2)", r"2^{n+1}\ln n", "right"),
        ("a^{m}b^{n}", "b^na^m", "right"),
        ("x^{1000}+x", "x(x^{999}+1)", "right"),
        (r"\lfloor\sqrt{2}+\sqrt{3}\rfloor", "3", "right"),
        ("(x+1)^2-x^2-2x-1", "0", "right"),
        ("2^{n+1}-2^n-2^n", "0", "right"),
        ("(-1)^n", "1", "wrong"),
        ("(-1)^n", "-1", "wrong"),
        ("(-1)^{2n}", "(-1)^n", "wrong"),
        ("(-1)^{n+1}", "(-1)^n", "wrong"),
        ("2^{|n|}", "2^n", "wrong"),
        ("2^m", "2^n", "wrong"),
        ("2^n", "n^2", "wrong"),
        ("e^{-100x}", "0", "wrong"),
        ("x^n", "x", "wrong"),
        ("0", r"\frac{2}{10^{400}}\cdot 2^n", "wrong"),
    ],
)
def test_letters_in_exponents(gold: str, pred: str, status: str) -> None:
    assert judge(gold=gold, pred=pred)["status"] == status


def test_one_letter_in_an_exponent_has_no_other_letters_canonical_form() -> None:
    letters = "abcdfghjklmnopqrstuvwxyzABCDEFGHJKLMNOPQRSTUVWXYZ"
    assert len({canonical(read(f"2^{letter}")) for letter in letters}) == len(letters)


@pytest.mark.parametrize("text", ["n!!", "(n+1)!!", "2x!!+1", r"\frac{n!!}{2}"])
def test_a_double_factorial_of_a_letter_is_itself_and_no_other(text: str) -> None:
    assert judge(gold=text, pred=text)["status"] == "right"
    assert judge(gold=text, pred="5")["status"] != "right" != judge(gold=text, pred=text + "+1")["status"]
    assert judge(gold=text, pred=text)["canonical"] != judge(gold=text, pred=text + "+1")["canonical"]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (r"\frac{2}{4}", "0.5"),
        (r"\sqrt{8}", r"2\sqrt{2}"),
        ("(x+1)^2", "x^2+2x+1"),
        ("1,2", r"\{2,1\}"),
        ("x=5", "5"),
        ("[0,1)", "[0, 1)"),
    ],
)
def test_equal_answers_have_one_canonical_form(a: str, b: str) -> None:
    assert canonical(read(clean(a))) == canonical(read(clean(b)))


def test_different_answers_have_different_canonical_forms() -> None:
    texts = ["1", "2", "x", "x+1", r"\sqrt{2}", "(1,2)", "(2,1)", "1,2", "[1,2]", "[1,2)", r"\text{yes}"]
    assert len({canonical(read(clean(text))) for text in texts}) == len(texts)
