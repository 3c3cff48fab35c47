"""Forms of everything that is no single number: lists, sets, regions, matrices, words, times, …"""

from __future__ import annotations

import re
from typing import Any

import sympy as sp

from tests.unit.grading.corpus.numbers import Form, Forms, forms, latex, plain
from tests.unit.grading.corpus.reader import formula, read, split

#: Words of the same kind; the next in a row is a wrong answer. Each stands beside one of the same letters.
WORDS = (
    ("even", "odd", "neve"),
    ("red", "blue", "der"),
    ("Dora", "Emil", "Road"),
    ("north", "south", "thorn"),
    ("yes", "no", "sey"),
    ("true", "false", "ture"),
    ("listen", "hear", "silent"),
    ("ellipse", "parabola", "hyperbola"),
    ("Evelyn", "Carla", "Naomi"),
)


def _inside(text: str) -> list[str]:
    inner = re.fullmatch(r"\\\{(.*)\\\}|\((.*)\)", text.strip())
    return split(inner[1] or inner[2] if inner else text)


def tuple_(text: str) -> Forms:
    items = _inside(text)
    names = ",".join("xyzwuv"[: len(items)])
    joined, spaced = ",".join(items), ", ".join(items)
    right = forms(f"({joined})", f"({spaced})", f"\\left({spaced}\\right)", f"\\left( {joined} \\right)")
    right += forms("(" + ",\\ ".join(items) + ")", f"\\big({spaced}\\big)", f"(\\,{spaced}\\,)")
    right += [Form(f"({names}) = ({spaced})", text), Form(f"({', '.join(plain(formula(i)) for i in items)})")]
    right.append(Form(f"({spaced.replace(chr(92) + 'frac', chr(92) + 'dfrac')})"))
    turned = [*items[1:], items[0]]
    more = latex(formula(items[0]) + 1)
    lists = (turned, [more, *items[1:]], items[:-1], [*items, items[-1]], [latex(-formula(i)) for i in items])
    wrong = [Form("(" + ", ".join(x) + ")") for x in lists if len(x) > 1]
    return right, [*wrong, Form("(" + ", ".join([*items[:-1], latex(formula(items[-1]) - 1)]) + ")")]


def list_(text: str) -> Forms:
    items = _inside(text)
    back = items[::-1]
    right = forms(",".join(items), ", ".join(items), ", ".join(back))
    right += [Form(" \\text{ and } ".join([", ".join(items[:-1]), items[-1]]), text)]
    right += [
        Form(", ".join(back[:-1]) + " \\text{ or } " + back[-1], text),
        Form("x = " + ", ".join(items), text),
    ]
    right += [Form(" \\text{ or } ".join(f"x = {i}" for i in items), text), Form(",\\ ".join(items))]
    right += [
        Form(", ".join(plain(formula(i)) for i in items)),
        Form(", ".join(f"x = {i}" for i in back), text),
    ]
    return right, [Form(", ".join(x)) for x in _spoilt(items)]


def set_(text: str) -> Forms:
    items = _inside(text)
    right = [Form("\\{" + ", ".join(x) + "\\}") for x in (items, items[::-1], [*items[1:], items[0]])]
    right += [Form("\\left\\{" + ", ".join(items) + "\\right\\}"), Form("\\{" + ",".join(items) + "\\}")]
    right += [
        Form("S = \\{" + ", ".join(items) + "\\}", text),
        Form("\\left\\{ " + ",".join(items[::-1]) + " \\right\\}"),
    ]
    right += [Form("\\{\\," + ", ".join(items) + "\\,\\}"), Form("\\{" + ",\\ ".join(items) + "\\}")]
    wrong = [Form("\\{" + ", ".join(x) + "\\}") for x in _spoilt(items) if len({*x}) == len(x)]
    more = [Form("\\{" + ", ".join([*items[:-1], latex(formula(items[-1]) + n)]) + "\\}") for n in (20, 21)]
    return right, [*wrong, *more, Form("(" + ", ".join(items[::-1]) + ")")]


def _spoilt(items: list[str]) -> list[list[str]]:
    """One missing, one doubled, one changed, one more, the signs turned."""
    changed = latex(formula(items[0]) + 37)
    lists = [
        [*items, items[0]],
        [changed, *items[1:]],
        [*items, changed],
        [*items[:-1], latex(formula(items[-1]) - 41)],
    ]
    return [*lists, items[1:]] if len(items) > 1 else lists


def region(text: str) -> Forms:
    value = read(text, "region").points
    pieces = list(value.args) if isinstance(value, sp.Union) else [value]
    shown = " \\cup ".join(_interval(p) for p in pieces)
    conditions = " \\text{ or } ".join(_condition(p) for p in pieces)
    right = [
        Form(text),
        Form(shown),
        Form(shown.replace("(", "\\left(").replace(")", "\\right)").replace("\\frac", "\\dfrac")),
    ]
    right = right[:2] if "[" in shown or "]" in shown else right
    right += [Form(conditions), Form(shown.replace(", ", ",")), Form(f"x \\in {shown}", shown)]
    right += [
        Form(f"\\{{x \\mid {conditions}\\}}", conditions),
        Form(f"\\{{x : {conditions}\\}}", conditions),
    ]
    right += [Form(conditions.replace("\\le", "\\leq").replace("\\ge", "\\geq"))]
    right += [
        Form(" \\cup ".join(_interval(p) for p in pieces[::-1]))
        if len(pieces) > 1
        else Form(f"{{{shown}}}", shown)
    ]
    return right, [Form(_shown(v)) for v in _other_regions(pieces)]


def _other_regions(pieces: list[Any]) -> list[Any]:
    """Another bracket, a moved bound, the rest of the line, a piece less or more."""
    first, rest = pieces[0], pieces[1:]
    low, high, left, right = first.start, first.end, first.left_open, first.right_open
    bracket = sp.Interval(
        low, high, left if low == -sp.oo else not left, right if low != -sp.oo else not right
    )
    moved = sp.Interval(low - 1, high + 1 if high != sp.oo else high, left, right)
    if low == -sp.oo:
        moved = sp.Interval(low, high - 1, left, right)
    whole = sp.Union(first, *rest)
    others = [sp.Union(bracket, *rest), sp.Union(moved, *rest), sp.Complement(sp.S.Reals, whole)]
    others += [sp.Union(*rest)] if rest else []
    mirrored = sp.Union(*(sp.Interval(-p.end, -p.start, p.right_open, p.left_open) for p in pieces))
    others += [
        mirrored,
        sp.Union(whole, sp.Interval(50, 51)),
        sp.Union(moved, bracket, sp.Interval.open(-90, -80)),
    ]
    return [v for v in others if v not in (sp.S.EmptySet, whole)]


def _shown(value: Any) -> str:
    pieces = value.args if isinstance(value, sp.Union) else [value]
    return " \\cup ".join(_interval(p) for p in pieces)


def _interval(p: Any) -> str:
    if isinstance(p, sp.FiniteSet):
        return f"[{latex(p.args[0])}, {latex(p.args[0])}]"
    return f"{'(' if p.left_open else '['}{latex(p.start)}, {latex(p.end)}{')' if p.right_open else ']'}"


def _condition(p: Any) -> str:
    below, above = "<" if p.left_open else "\\le", "<" if p.right_open else "\\le"
    if p.start == -sp.oo:
        return f"x {above} {latex(p.end)}"
    if p.end == sp.oo:
        return f"x {'>' if p.left_open else chr(92) + 'ge'} {latex(p.start)}"
    return f"{latex(p.start)} {below} x {above} {latex(p.end)}"


def equation(text: str) -> Forms:
    left, right = (formula(side) for side in text.split("="))
    difference = sp.expand(left - right)
    sides = [
        (right, left),
        (2 * left, 2 * right),
        (difference, 0),
        (-left, -right),
        (left + 1, right + 1),
        (0, difference),
    ]
    good = [Form(text), *(Form(f"{latex(sp.expand(a))} = {latex(sp.expand(b))}") for a, b in sides)]
    good += [
        Form(f"{plain(left)} = {plain(right)}"),
        Form(text.replace("=", " = ")),
        Form(text.replace(" ", "")),
    ]
    letter = sorted(difference.free_symbols, key=str)[0]
    bad = [
        (left, right + 1),
        (left + letter, right),
        (left, right - 2),
        (left, right + 3 * letter),
        (left - 5, right),
    ]
    return good, [Form(f"{latex(sp.expand(a))} = {latex(sp.expand(b))}") for a, b in bad]


def matrix(text: str) -> Forms:
    rows = [list(r) for r in read(text, "matrix").rows]

    def write(rows: list[list[Any]], kind: str = "pmatrix", gap: str = " ", frac: str = "\\frac") -> str:
        body = f"{gap}\\\\{gap}".join(f"{gap}&{gap}".join(latex(c) for c in row) for row in rows)
        return f"\\begin{{{kind}}}{gap}{body.replace(chr(92) + 'frac', frac)}{gap}\\end{{{kind}}}"

    right = forms(text, write(rows), write(rows, "bmatrix"), write(rows, gap=""), write(rows, gap="  "))
    right += [
        Form(f"A = {write(rows)}", text),
        Form(write(rows, gap="\n")),
        Form(write(rows, "bmatrix", gap="")),
    ]
    right += [Form(f"\\mathbf{{v}} = {write(rows)}", text), Form(write(rows, frac="\\dfrac"))]
    changed = [[rows[0][0] + 1, *rows[0][1:]], *rows[1:]]
    last = [*rows[:-1], [*rows[-1][:-1], rows[-1][-1] - 1]]
    others = [
        changed,
        last,
        [[-c for c in row] for row in rows],
        rows[::-1],
        [list(c) for c in zip(*rows, strict=True)],
    ]
    others += [[[2 * c for c in row] for row in rows], [*rows, rows[-1]]]
    return right, [Form(write(o)) for o in others if o != rows and (len(o) > 1 or len(rows) == 1)]


def base(text: str) -> Forms:
    digits, b = text.replace("{", "").replace("}", "").split("_")
    names = {"2": "two", "3": "three", "5": "five", "6": "six", "7": "seven", "8": "eight", "9": "nine"}
    right = forms(f"{digits}_{b}", f"{digits}_{{{b}}}")
    right += [
        Form(t, text)
        for t in (f"({digits})_{b}", f"({digits})_{{{b}}}", f"{digits}_{{\\text{{{names[b]}}}}}")
    ]
    right += [
        Form(f"n = {digits}_{{{b}}}", text),
        Form(f"{{{digits}}}_{{{b}}}", text),
        Form(f"{digits}\\,_{{{b}}}", f"{digits}_{b}"),
    ]
    turned = digits[::-1] if digits[::-1] != digits else digits + "1"
    last = str((int(digits[-1]) + 1) % int(b))
    others = (
        f"{digits}_{{{int(b) + 1}}}",
        f"{turned}_{{{b}}}",
        f"{digits[:-1]}{last}_{{{b}}}",
        f"{digits}0_{{{b}}}",
    )
    return right, [Form(t) for t in (*others, f"({digits})_{{{int(b) + 2}}}")[:4]] + [
        Form(f"1{digits}_{{{b}}}")
    ]


def ratio(text: str) -> Forms:
    terms = text.split(":")
    doubled = [str(2 * int(t)) for t in terms]
    right = [Form(j.join(terms), text) for j in (":", " : ", "\\colon ", " \\text{ to } ", "\\!:\\!")]
    right += [
        Form(":".join(doubled)),
        Form("a : b = " + " : ".join(terms) if len(terms) == 2 else " : ".join(doubled), text),
    ]
    right += [Form("\\text{" + ":".join(terms) + "}", text), Form(" : ".join(str(3 * int(t)) for t in terms))]
    more = [[*terms[:-1], str(int(terms[-1]) + 1)], terms[::-1], [str(int(terms[0]) + 1), *terms[1:]]]
    more += [[str(int(t) + 1) for t in terms], [terms[0], *(str(int(t) + 2) for t in terms[1:])]]
    return right, [Form(":".join(m)) for m in more]


def time(text: str) -> Forms:
    found = re.fullmatch(r"(\d+):(\d\d) \\text\{ ([ap])\.m\.\}", text)
    assert found is not None
    hour, minute, half = int(found[1]), found[2], found[3]
    p, other = half.upper(), "a" if half == "p" else "p"
    ends = (" \\text{ #.m.}", "\\text{ @M}", "~\\text{#.m.}", " \\mathrm{@M}", " @M", " #.m.")
    right = [Form(f"{hour}:{minute}" + end.replace("#", half).replace("@", p), text) for end in ends]
    right += [
        Form(f"\\text{{{hour}:{minute} {p}M}}", text),
        Form(f"t = {hour}:{minute}\\text{{ {half}.m.}}", text),
    ]
    times = (
        f"{hour}:{minute} {other}.m.",
        f"{hour % 12 + 1}:{minute} {half}.m.",
        f"{hour}:{(int(minute) + 10) % 60:02} {half}.m.",
    )
    more = (f"{hour % 12 + 1}:{minute} {other}.m.", f"{hour}:{(int(minute) + 1) % 60:02} {half}.m.")
    return right, [Form(f"{t.split()[0]}\\text{{ {t.split()[1]}}}", t) for t in (*times, *more)]


def word(text: str) -> Forms:
    name = read(text, "word").text
    dress = (
        "\\text{%s}",
        "%s",
        "\\textbf{%s}",
        "\\mathrm{%s}",
        "\\text{ %s }",
        "\\text{%s.}",
        "\\mathbf{%s}",
        "\\textit{%s}",
    )
    right = [Form(d % name, name) for d in dress]
    right += [Form("\\text{" + name.upper() + "}", name), Form("\\text{" + name.capitalize() + "}", name)]
    others = [w for row in WORDS if name in row for w in row if w != name]
    others += [w for row in WORDS for w in row if w not in others and w != name and sorted(w) != sorted(name)]
    return right, [Form(f"\\text{{{w}}}", w) for w in others[:6]]


def choice(text: str) -> Forms:
    letter = read(text, "word").text
    dress = (
        "%s",
        "(%s)",
        "\\text{(%s)}",
        "\\textbf{(%s)}",
        "\\text{%s}",
        "\\mathrm{%s}",
        "\\textbf{%s}",
        "\\mathrm{(%s)}",
        "%s.",
    )
    others = [c for c in "ABCDEF" if c != letter]
    return [Form(d % letter, letter) for d in dress], [
        Form(d % c, c) for d, c in zip(dress, others, strict=False)
    ]
