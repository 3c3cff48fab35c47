"""Reads the mathematics that the corpus writes into its values, by recursive descent over the text.

It knows the forms of the corpus and of the references, nothing more: whatever else raises ``Unreadable``.
"""

from __future__ import annotations

import re
from typing import Any

import sympy as sp

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
)

GREEK = "alpha beta gamma delta theta lambda mu sigma tau omega phi rho".split()
FUNCTIONS = {
    "sin": sp.sin,
    "cos": sp.cos,
    "tan": sp.tan,
    "ln": sp.log,
    "log": sp.log,
    "exp": sp.exp,
    "arctan": sp.atan,
}
#: Dress that means nothing; blanks go by themselves.
DRESS = re.compile(
    r"(?<!\\)\\(?:left|right|displaystyle|!|,|;|:|quad|qquad)(?![a-z])|(?<!\\)\\ |~|\\big[lrg]?(?![a-z])"
)
NAMED = {"\\mathbb{R}": sp.S.Reals, "\\mathbb R": sp.S.Reals, "all": sp.S.Reals, "none": sp.S.EmptySet}
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")


class Unreadable(ValueError):
    """The text is none of the forms that are known here."""


def read(text: str, type_: str = "number") -> Any:
    """The value of ``text``, an answer of the type named.

    Raises:
        Unreadable: text of another form.
    """
    text = _plain(text)
    if type_ in ("tuple", "set", "list"):
        return _series(text, type_)
    reader = {
        "region": _region,
        "equation": _relation,
        "matrix": _grid,
        "word": _word,
        "base": _based,
        "ratio": lambda t: Ratio(tuple(formula(x) for x in t.split(":"))),
        "time": _clock,
        "rounded": Rounded,
    }.get(type_)
    return reader(text) if reader else _number(text)


def formula(text: str) -> Any:
    """A number or an expression in letters."""
    reader = _Formula(_plain(text))
    value = reader.sum()
    if reader.rest():
        raise Unreadable(f"{reader.rest()!r} is left of {text!r}")
    return value


def split(text: str, marks: str = ",") -> list[str]:
    """Parts of ``text`` between marks that stand outside all brackets."""
    parts, depth = [""], 0
    for c in text:
        depth += (c in "([{") - (c in ")]}")
        if c in marks and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return [part.strip() for part in parts]


def _plain(text: str) -> str:
    text = re.sub(r"(?<=\d)(?:,\\!|\{,\}|\\,)(?=\d{3}(?!\d))", "", text)
    text = re.sub(r"\\(?:mathbf|bf)\{([^{}]*)\}", r"\1", text)
    return DRESS.sub(" ", text).replace("−", "-").strip().strip("$").strip()


def _number(text: str) -> Number:
    money = re.fullmatch(r"\\?\$\s*(.*)", text)
    if money:
        return Number(formula(money[1]), "dollar")
    for end, unit in ((r"\\?%", "%"), (r"\^\{?\\circ\}?|°|\\text\{ ?degrees\}", "degree")):
        found = re.fullmatch(f"(.*?) ?(?:{end})", text)
        if found and not any(f"\\{name}" in text for name in FUNCTIONS):
            return Number(formula(found[1]), unit)
    unit_ = re.fullmatch(r"(.*?) ?\[([^\]]+)\]", text)
    if unit_:
        return Number(formula(unit_[1]), unit_[2])
    thousands = re.fullmatch(r"-?\d{1,3}(,\d{3})+(\.\d+)?", text)
    return Number(formula(text.replace(",", "") if thousands else text))


def _series(text: str, type_: str) -> Series:
    text = text.replace("\\{", "{").replace("\\}", "}").strip()
    text = text.replace("\\langle", "(").replace("\\rangle", ")").strip()
    bracket, inner = {"tuple": "(", "set": "{", "list": ","}[type_], text
    if len(split(text)) == 1 and text[:1] in ("(", "{") and text[-1:] in (")", "}"):
        bracket, inner = text[0], text[1:-1]
    items = tuple(
        _series(part, "tuple")
        if part.startswith("(") and len(split(part[1:-1])) > 1
        else Number(formula(part))
        for part in split(inner)
    )
    return Series(bracket, items)


def _region(text: str) -> Region:
    """Unions of intervals, or inequalities in one letter joined by ``or``."""
    text = text.replace("\\infty", "oo").replace("\\cup", "∪")
    text = re.sub(r"\\leq?(?![a-z])", "≤", re.sub(r"\\geq?(?![a-z])", "≥", text))
    if text in NAMED:
        return Region(NAMED[text])
    if "<" in text or ">" in text or "≤" in text or "≥" in text:
        return Region(sp.Union(*(_inequality(p) for p in re.split(r"\\text\{ ?or ?\}", text))))
    return Region(sp.Union(*(_interval(part.strip()) for part in text.split("∪"))))


def _interval(text: str) -> Any:
    ends = split(text[1:-1])
    if text[0] not in "([" or text[-1] not in ")]" or len(ends) != 2:
        raise Unreadable(text)
    low, high = (sp.oo * (-1 if e.startswith("-") else 1) if "oo" in e else formula(e) for e in ends)
    return sp.Interval(low, high, text[0] == "(", text[-1] == ")")


def _inequality(text: str) -> Any:
    parts = [p.strip() for p in re.split(r"([<>≤≥])", text)]
    if len(parts) == 5:
        return _inequality("".join(parts[:3])) & _inequality("".join(parts[2:]))
    left, sign, right = parts
    if not re.fullmatch(r"[a-z]", left):
        left, sign, right = right, sign.translate(str.maketrans("<>≤≥", "><≥≤")), left
    bound = formula(right)
    if sign in "<≤":
        return sp.Interval(-sp.oo, bound, True, sign == "<")
    return sp.Interval(bound, sp.oo, sign == ">", True)


def _relation(text: str) -> Relation:
    left, right = text.split("=")
    return Relation(formula(left) - formula(right))


def _grid(text: str) -> Grid:
    inner = re.fullmatch(r"\\begin\{[pb]matrix\}(.*)\\end\{[pb]matrix\}", text, re.S)
    if not inner:
        raise Unreadable(text)
    return Grid(tuple(tuple(formula(c) for c in row.split("&")) for row in inner[1].split("\\\\")))


def _word(text: str) -> Word:
    word = re.fullmatch(r"(?:\\(?:text|textbf|mathrm)\{)?\(?([A-Za-z][A-Za-z ]*)\)?\}?", text)
    if not word:
        raise Unreadable(text)
    return Word(word[1])


def _based(text: str) -> Based:
    based = re.fullmatch(r"([0-9A-F]+)_\{?(\d+)\}?", text)
    if not based:
        raise Unreadable(text)
    return Based(based[1], int(based[2]))


def _clock(text: str) -> Clock:
    time = re.fullmatch(r"(\d+):(\d\d) ?(?:\\text\{ ?)?([ap])\.?m\.?\}?", text.lower())
    if not time:
        raise Unreadable(text)
    return Clock(int(time[1]) % 12 * 60 + int(time[2]) + 720 * (time[3] == "p"))


class _Formula:
    """Sums of products of powers; ``inside`` counts functions, where degrees are a factor."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.inside = text, 0, 0

    def rest(self) -> str:
        return self.text[self.at :].strip()

    def eat(self, pattern: str) -> re.Match[str] | None:
        found = re.compile(r"\s*(?:" + pattern + ")").match(self.text, self.at)
        if found:
            self.at = found.end()
        return found

    def sum(self) -> Any:
        total = self.product()
        while sign := self.eat(r"[+-]"):
            total += self.product() * (1 if sign[0].strip() == "+" else -1)
        return total

    def product(self) -> Any:
        sign = self.eat(r"[+-]")
        value = self.power() * (-1 if sign and sign[0].strip() == "-" else 1)
        while self.rest() and self.rest()[0] not in "+-)}],=:&":
            if self.eat(r"/|\\div"):
                value /= self.power()
            else:
                self.eat(r"\\cdot|\\times|\*(?!\*)|·|×")
                value *= -self.power() if self.eat("-") else self.power()
        return value

    def power(self) -> Any:
        value = self.atom()
        while True:
            if self.eat(r"\^(?:\{\\circ\}|\\circ)|°"):
                value *= sp.pi / 180
                if not self.inside:
                    raise Unreadable("degrees outside a function")
            elif self.eat(r"\^|\*\*"):
                value = value ** self.argument()
            elif raised := self.eat("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+"):
                value = value ** int(raised[0].strip().translate(SUPERSCRIPTS))
            elif self.eat("!"):
                value = sp.factorial(value)
            else:
                return value

    def argument(self) -> Any:
        """``{…}``, ``(…)``, a single digit, letter or command."""
        if self.eat(r"\{"):
            return self.closed(r"\}")
        if digit := self.eat(r"-?\d"):
            return sp.Integer(digit[0])
        return self.atom()

    def closed(self, bracket: str) -> Any:
        value = self.sum()
        if not self.eat(bracket):
            raise Unreadable(f"no {bracket} at {self.rest()!r}")
        return value

    def atom(self) -> Any:
        if mixed := self.eat(r"(\d+) +(\d+)/(\d+)|(\d+) ?\\[dt]?frac ?(?:\{(\d+)\}|(\d))(?:\{(\d+)\}|(\d))"):
            whole, top, bottom = (int(g) for g in mixed.groups() if g)
            return whole + sp.Rational(top, bottom)
        if number := self.eat(r"(\d*\.?\d+)(?:e([+-]?\d+))?"):
            return sp.Rational(number[1]) * sp.Integer(10) ** int(number[2] or 0)
        if self.eat(r"\\[dt]?frac"):
            top = self.argument()
            return top / self.argument()
        if self.eat(r"\\sqrt|√|sqrt"):
            root = self.eat(r"\[(\d+)\]")
            return self.argument() ** sp.Rational(1, int(root[1]) if root else 2)
        if self.eat(r"\("):
            return self.closed(r"\)")
        if self.eat(r"\{"):
            return self.closed(r"\}")
        if self.eat(r"\|"):
            return sp.Abs(self.closed(r"\|"))
        if self.eat(r"\\pi|π|pi(?![a-z])"):
            return sp.pi
        if name := self.eat(r"\\?(" + "|".join(FUNCTIONS) + r")(?![a-z])"):
            return self.function(FUNCTIONS[name[1]])
        if greek := self.eat(r"\\(" + "|".join(GREEK) + r")(?![a-z])"):
            return sp.Symbol(greek[1])
        if letter := self.eat(r"([A-Za-z])(?:_\{?(\w)\}?)?"):
            constant = {"e": sp.E, "i": sp.I}.get(letter[1]) if not letter[2] else None
            return constant or sp.Symbol(letter[1] + (letter[2] or ""))
        raise Unreadable(f"{self.rest()!r} of {self.text!r}")

    def function(self, of: Any) -> Any:
        power = self.argument() if self.eat(r"\^") else 1
        self.inside += 1
        value = self.power() if self.rest()[:1] in "({" else self.bare()
        self.inside -= 1
        return of(value) ** power

    def bare(self) -> Any:
        """An argument without brackets: factors up to a sign, a bracket or the next function."""
        value = self.power()
        while re.match(r"[\dA-Za-z]|\\pi|\\(?:" + "|".join(GREEK) + ")", self.rest()):
            value *= self.power()
        return value
