"""Forms of single numbers and expressions: right ones write the same value, wrong ones another.

A form is a text and its reading: what :func:`reader.read` is given to confirm the verdict, where that is not
the text itself.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import sympy as sp

from tests.unit.grading.corpus.reader import formula


class Form(NamedTuple):
    text: str
    reading: str = ""


Forms = tuple[list[Form], list[Form]]


def forms(*texts: str) -> list[Form]:
    return [Form(text) for text in texts]


def latex(value: Any) -> str:
    return str(sp.latex(value)).replace("\\left(", "(").replace("\\right)", ")")


def plain(value: Any) -> str:
    """As a programmer writes it: ``2*sqrt(3)``, ``x^2+1``."""
    text = str(value).replace("**", "^").replace(" ", "")
    return text if sp.Symbol("E") in value.free_symbols else re.sub(r"\bE\b", "e", text)


def integer(text: str) -> Forms:
    n = int(formula(text.replace(",", "")))
    right = forms(str(n), f"{n}.0", f"\\mathbf{{{n}}}", f"\\frac{{{2 * n}}}{{2}}", f"{{{n}}}", f"\\,{n}\\,")
    right += [Form(f"x = {n}", str(n)), Form(f"n = {n}", str(n))]
    if abs(n) >= 1000:
        right += forms(f"{n:,}", f"{n:,}".replace(",", "{,}"), f"{n:,}".replace(",", "\\,"))
    digits = str(abs(n))
    swapped = digits[:-2] + digits[-1] + digits[-2] if len(digits) > 1 else digits + digits
    swapped = swapped if int(swapped) != n else str(n + 7)
    wrong = forms(str(n + 1), str(n - 1), str(-n if n else 10), swapped, str(10 * n if n else 100))
    if abs(n) >= 1000:
        wrong += forms(f"{n + 1000:,}", f"{n:,}".rpartition(",")[0])
    return right, wrong


def decimal(text: str) -> Forms:
    value = formula(text.replace(",", ""))
    shown = decimals(value)
    right = forms(
        shown,
        shown + ("0" if "." in shown else ".0"),
        f"\\frac{{{value.p}}}{{{value.q}}}",
        f"{value.p}/{value.q}",
    )
    right += [
        Form(f"x = {shown}", shown),
        Form(f"\\mathbf{{{shown}}}"),
        Form(f"\\dfrac{{{value.p}}}{{{value.q}}}"),
    ]
    right += forms(f"\\frac{{{3 * value.p}}}{{{3 * value.q}}}")
    moved = value * 10
    step = sp.Rational(1, 10 ** len(shown.partition(".")[2]))
    return right, forms(
        *(decimals(v) for v in (moved, value / 10, value + step, -value, value + 1, value - step))
    )


def decimals(value: Any) -> str:
    """A number with finitely many decimals, exactly."""
    for places in range(12):
        if (value * 10**places).is_integer:
            return f"{float(value):.{places}f}"
    raise ValueError(f"{value} has no finite decimal")


def fraction(text: str) -> Forms:
    value = sp.Rational(formula(text))
    p, q, sign = abs(value.p), value.q, "-" if value < 0 else ""
    right = forms(f"{sign}\\frac{{{p}}}{{{q}}}", f"{sign}\\dfrac{{{p}}}{{{q}}}", f"{sign}{p}/{q}")
    right += forms(
        f"{sign}\\frac{{{2 * p}}}{{{2 * q}}}", f"{sign}{p}\\div {q}", f"\\frac{{{sign}{p}}}{{{q}}}"
    )
    right += [Form(f"x = {sign}\\frac{{{p}}}{{{q}}}", f"{sign}{p}/{q}"), Form(f"{sign}\\tfrac{{{p}}}{{{q}}}")]
    right[-1] = Form(right[-1].text, right[0].text)
    if p < 10 and q < 10:
        right.append(Form(f"{sign}\\frac{p}{q}"))
    if p > q and not sign:
        right.append(Form(f"{p // q}\\frac{{{p % q}}}{{{q}}}"))
    if sp.factorint(q).keys() <= {2, 5}:
        right.append(Form(sign + decimals(sp.Rational(p, q))))
    others = (1 / value, -value, sp.Rational(p + 1, q), sp.Rational(p, q + 1), value + 1, 2 * value)
    return right, [Form(latex(v)) for v in others]


def mixed(text: str) -> Forms:
    value = sp.Rational(formula(text))
    p, q = value.p, value.q
    w, r = divmod(p, q)
    right = forms(
        f"{w}\\frac{{{r}}}{{{q}}}", f"{w} \\frac{{{r}}}{{{q}}}", f"{w} {r}/{q}", f"\\frac{{{p}}}{{{q}}}"
    )
    right += forms(
        f"{p}/{q}", f"{w} + \\frac{{{r}}}{{{q}}}", f"{w}\\dfrac{{{r}}}{{{q}}}", f"\\dfrac{{{p}}}{{{q}}}"
    )
    wrong = forms(
        f"{w + 1}\\frac{{{r}}}{{{q}}}", f"{w}{r}/{q}", f"\\frac{{{w * r}}}{{{q}}}", f"{r}\\frac{{{w}}}{{{q}}}"
    )
    return right, wrong + forms(f"{w} {r}/{q + 1}", f"\\frac{{{q}}}{{{p}}}")


def percent(text: str) -> Forms:
    n = formula(text.strip("\\%"))
    shown = decimals(n)
    right = forms(f"{shown}\\%", f"{shown}%", shown, decimals(n / 100))
    right += [Form(f"{shown}\\text{{ percent}}", f"{shown}\\%"), Form(f"\\text{{{shown}\\%}}", f"{shown}\\%")]
    right += [Form(f"{shown}\\,\\%"), Form(f"x = {shown}\\%", f"{shown}\\%"), Form(latex(n / 100))]
    return right, forms(*(f"{decimals(v)}\\%" for v in (n + 1, 10 * n, n / 10, 100 - n + 3, -n, n + 2)))


def money(text: str) -> Forms:
    n = formula(text.strip("\\$").replace(",", ""))
    shown, cents = decimals(n), f"{float(n):.2f}"
    right = forms(f"\\${shown}", shown, f"\\${cents}", f"${shown}", cents)
    right += [Form(f"{shown} \\text{{ dollars}}", f"{shown} [dollar]"), Form(f"\\text{{\\${shown}}}", shown)]
    right.append(Form(f"{cents}\\text{{ dollars}}", f"{shown} [dollar]"))
    wrong = [Form(f"{shown} \\text{{ cents}}", f"{shown} [cent]")]
    return right, wrong + forms(*(f"\\${decimals(v)}" for v in (n + 1, 10 * n, n / 10, n - 1, n + 10)))


def angle(text: str) -> Forms:
    n = formula(text.split("^")[0])
    right = forms(f"{n}^\\circ", f"{n}^{{\\circ}}", f"{n}°", str(n), f"{n} \\text{{ degrees}}")
    right += [Form(f"\\angle ABC = {n}^\\circ", f"{n}^\\circ"), Form(f"{n}\\,^\\circ")]
    right.append(Form(f"\\theta = {n}^{{\\circ}}", f"{n}^\\circ"))
    others = (n + 1, 180 - n + (2 * n == 180), -n, 10 * n, n - 5)
    return right, [Form(f"{v}^\\circ") for v in others]


def quantity(text: str) -> Forms:
    """``12 [cm^2]``: the number, and a unit of the table :data:`UNITS`."""
    number, unit = text.rstrip("]").split(" [")
    first, words, other = UNITS[unit]
    n = decimals(formula(number))
    read_as = f"{n} [{unit}]"
    written = (
        f"\\text{{ {first}}}",
        f"~\\mathrm{{{first}}}",
        f"\\ \\text{{{words}}}",
        f"\\,\\mathrm{{{first}}}",
    )
    right = [Form(n + u, read_as) for u in (*written, f"\\text{{ {words}}}", f" {words}")] + [Form(n)]
    right += [Form(f"\\text{{{n} {words}}}", read_as), Form(f"d = {n}\\text{{ {first}}}", read_as)]
    wrong = [Form(f"{n}\\text{{ {other}}}", f"{n} [{other}]")]
    for v in (formula(number) + 1, 10 * formula(number), formula(number) - 1, formula(number) / 10):
        wrong.append(Form(f"{decimals(v)}\\text{{ {first}}}", f"{decimals(v)} [{unit}]"))
    return right, wrong


UNITS = {
    "cm": ("cm", "centimeters", "m"),
    "m^2": ("m^2", "square meters", "m^3"),
    "km/h": ("km/h", "kilometers per hour", "m/s"),
    "minute": ("minutes", "minutes", "hours"),
    "gram": ("g", "grams", "kg"),
    "volt": ("V", "volts", "mV"),
}


def constant(text: str) -> Forms:
    """Roots, multiples of pi, exponentials."""
    value = formula(text)
    right = forms(
        text, latex(value), plain(value), latex(sp.radsimp(value)), text.replace("\\frac", "\\dfrac")
    )
    right += [Form(f"x = {text}", text), Form(f"{{{text}}}"), Form(f"\\left({text}\\right)")]
    right.append(Form(text.replace("\\pi", "π").replace("\\sqrt", "\\sqrt ")))
    square = sp.nsimplify(sp.simplify(value**2))
    if value.is_positive and square.is_Rational and value.is_irrational:
        right.append(Form(f"\\sqrt{{{latex(square)}}}"))
    right.append(Form(f"\\frac{{{latex(sp.expand(2 * value))}}}{{2}}"))
    others = [value + 1, -value, 2 * value, sp.expand(value + sp.Rational(1, 2)), value / 3]
    roots = list(value.atoms(sp.Pow))
    if roots and roots[0].base.is_Integer:
        others.insert(0, value.subs(roots[0], (roots[0].base + 1) ** roots[0].exp))
    if value.has(sp.pi):
        others[:0] = [value.subs(sp.pi, 1), value.subs(sp.pi, sp.pi**2)]
    return right, [Form(latex(v)) for v in others]


def complex_number(text: str) -> Forms:
    value = sp.expand(formula(text))
    a, b = value.as_real_imag()
    size = "" if abs(b) == 1 else latex(abs(b))
    sign = "-" if b < 0 else "+"
    right = forms(
        text, f"{latex(a)} {sign} {size}i", f"{'-' if b < 0 else ''}{size}i + {latex(a)}".replace("+ -", "- ")
    )
    right += forms(
        f"{latex(a)}{sign}i{size}".replace("ii", "i") if size else text,
        f"{{{text}}}",
        plain(value).replace("I", "i"),
    )
    right += [
        Form(f"z = {text}", text),
        Form(f"{latex(a)} {sign} {size}\\mathrm{{i}}", text),
        Form(f"\\left({text}\\right)"),
    ]
    others = (a - b * sp.I, b + a * sp.I, -value, value + 1, value + sp.I)
    return right, [Form(latex(v)) for v in others if sp.simplify(v - value) != 0]


def expression(text: str) -> Forms:
    value = formula(text)
    letters = sorted(value.free_symbols, key=str)
    right = forms(
        text, latex(sp.expand(value)), latex(sp.factor(value)), plain(value), plain(sp.expand(value))
    )
    right += forms(
        str(sp.latex(sp.expand(value), order="rev-lex")), f"{{{text}}}", text.replace("\\frac", "\\dfrac")
    )
    right += [Form(f"f({letters[0]}) = {text}", text), Form(f"\\left({text}\\right)")]
    others = [
        value + 1,
        -value,
        2 * value,
        value.subs(letters[0], letters[0] + 1),
        value - 2,
        value * letters[0],
    ]
    return right, [Form(latex(sp.expand(v))) for v in others]


def scientific(text: str) -> Forms:
    """``3.2e5``."""
    m, e = text.split("e")
    exponent = int(e)
    right = forms(
        text, f"{m} \\times 10^{{{exponent}}}", f"{m}\\cdot 10^{{{exponent}}}", f"{m}*10^{{{exponent}}}"
    )
    right += [Form(f"{m}\\,\\times\\,10^{{{exponent}}}"), Form(f"E = {m} \\times 10^{{{exponent}}}", text)]
    value = formula(text)
    right.append(Form(f"{m} \\times 10^{exponent}" if 0 <= exponent < 10 else f"{m} × 10^{{{exponent}}}"))
    right += [Form(f"{int(value):,}")] if value.is_integer and value < 10**9 else []
    right += [Form(decimals(value))] if abs(exponent) < 8 else []
    moved = [f"{m} \\times 10^{{{exponent + 1}}}", f"{m}e{exponent - 1}", f"-{m} \\times 10^{{{exponent}}}"]
    return right, forms(*moved, f"{m} \\times 10^{{{-exponent}}}", f"{decimals(formula(m) + 1)}e{exponent}")
