"""Reads LaTeX expressions by recursive descent. Nothing is evaluated but bounded exact arithmetic."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from harness.grading.second import arithmetic
from harness.grading.second.tokens import Token, Unreadable, tokens

_DEPTH = 60
_TOWER = 5
_TERMS = 300
_TIMES = {"*", "\\cdot", "\\times", "\\ast"}
_OVER = {"/", "\\div", ":"}
_FUNCTIONS = {
    "\\sin": "sin", "\\cos": "cos", "\\tan": "tan", "\\cot": "cot", "\\sec": "sec", "\\csc": "csc",
    "\\arcsin": "asin", "\\arccos": "acos", "\\arctan": "atan", "\\sinh": "sinh", "\\cosh": "cosh",
    "\\tanh": "tanh", "\\ln": "log", "\\exp": "exp", "\\log": "log", "\\lg": "log",
}  # fmt: skip
_CONSTANTS = {"\\pi": "pi", "\\infty": "oo"}
_NOT_SYMBOLS = {
    "\\int", "\\lim", "\\mod", "\\bmod", "\\pmod", "\\cup", "\\cap", "\\setminus", "\\to",
    "\\mid", "\\begin", "\\end", "\\def", "\\ldots", "\\dots", "\\cdots", "\\forall", "\\exists",
    "\\quad", "\\rfloor", "\\rceil", "\\rvert", "\\right", "\\left", "\\\\", "\\{", "\\}", "\\|", "\\mathbb",
    "\\emptyset", "\\boxed", "\\fbox",
}  # fmt: skip
RELATIONS = {
    "=": "=", "<": "<", ">": ">", "<=": "<=", ">=": ">=", "\\le": "<=", "\\leq": "<=", "\\leqslant": "<=",
    "\\ge": ">=", "\\geq": ">=", "\\geqslant": ">=", "\\lt": "<", "\\gt": ">", "\\ne": "!=", "\\neq": "!=",
    "\\in": "in", "\\approx": "~", "\\sim": "~", "\\simeq": "~", "\\equiv": "=",
}  # fmt: skip
OPENING = {"(": ")", "[": "]", "\\{": "\\}", "\\lbrace": "\\rbrace", "{": "}"}


class ExpressionReader:
    """Sums, products, powers, roots and functions, as sympy expressions."""

    def __init__(self, stream: list[Token]) -> None:
        self.stream = stream
        self.at = 0
        self.depth = 0
        self.decimal = False
        self.plus_minus = False  # whether one was met
        self.upper = True  # which of its signs is read
        self.bars = 0
        self.scripts = 0

    def sum(self) -> Any:
        self.deeper()
        total: Any = None
        while True:
            sign = self.sign()
            if sign is None and total is not None:
                break
            term = self.product()
            if sign in ("\\pm", "\\mp"):
                self.plus_minus = True
                sign = "+" if self.upper == (sign == "\\pm") else "-"
            signed = -term if sign == "-" else term
            total = signed if total is None else total + signed
        self.depth -= 1
        return total

    def sign(self) -> str | None:
        found = None
        while (text := self.peek().text) in ("+", "-", "\\pm", "\\mp"):
            self.at += 1
            found = text if found is None or found == "+" else ("+" if found == text == "-" else text)
        return found

    def product(self) -> Any:
        value = self.factor(first=True)
        while True:
            token = self.peek()
            if token.text in _TIMES:
                self.at += 1
                value = value * self.signed_factor()
            elif token.text in _OVER:
                self.at += 1
                value = arithmetic.divide(value, self.signed_factor())
            elif self.starts_factor(token):
                value = value * self.factor()
            else:
                return value

    def signed_factor(self) -> Any:
        if self.take("-"):
            return -self.factor()
        self.take("+")
        return self.factor()

    def starts_factor(self, token: Token) -> bool:
        if token.kind == "number" or token.kind == "letter":
            return True
        if token.kind == "command":
            if token.text.startswith(("\\begin{", "\\end{")):
                return False
            return token.text not in RELATIONS and token.text not in _NOT_SYMBOLS | {
                "\\pm",
                "\\mp",
                "\\%",
            } | (_TIMES | _OVER)
        return token.text in "({[" and token.kind == "symbol" or (token.text == "|" and not self.bars)

    def factor(self, first: bool = False) -> Any:
        start = self.peek()
        value = self.atom()
        if start.kind == "number" and first and "." not in start.text and self.peek().text == "\\frac":
            value = value + self.mixed() if self.is_mixed() else value
        return self.postfix(value)

    def postfix(self, value: Any) -> Any:
        while True:
            if self.take("^") or self.take("**"):
                if self.peek().text in ("\\circ", "\\prime", "'"):
                    raise Unreadable("superscript")
                self.scripts += 1
                if self.scripts > _TOWER:
                    raise Unreadable("a tower of powers")
                exponent = self.script()
                self.scripts -= 1
                value = arithmetic.power(value, exponent)
            elif self.peek().text == "!":
                times = 0
                while self.take("!"):
                    times += 1
                value = arithmetic.factorial(value, times)
            else:
                return value

    def is_mixed(self) -> bool:
        texts = [t.text for t in self.stream[self.at : self.at + 7]]
        whole = [t.isdigit() for t in texts[2::3]]
        return (
            texts[1::3] == ["{", "{"] and len(texts) == 7 and all(whole[:2]) and texts[3] == texts[6] == "}"
        )

    def mixed(self) -> Any:
        return self.atom()

    def script(self) -> Any:
        """What stands after ``^``: a group, or one token, or a signed number as in ``10^-3``."""
        if self.take("{"):
            return self.closed("}")
        if self.peek().text == "-":
            self.at += 1
            return -self.atom()
        if self.peek().kind == "number" and "." not in self.peek().text and len(self.peek().text) > 1:
            return self.atom()
        return self.atom()

    def closed(self, mark: str) -> Any:
        value = self.sum()
        if not self.take(mark):
            raise Unreadable(f"{mark} was expected")
        return value

    def atom(self) -> Any:
        import sympy

        self.deeper()
        token = self.next()
        try:
            if token.kind == "number":
                return self.literal(token.text)
            if token.kind == "letter":
                return self.symbol(token.text)
            if token.text in ("(", "[") or token.text == "{":
                return self.closed(OPENING[token.text])
            if token.text in ("|", "\\|", "\\lvert", "\\vert"):
                return self.absolute()
            if token.kind == "command":
                return self.command(token.text, sympy)
        finally:
            self.depth -= 1
        raise Unreadable(f"unexpected {token.text or 'end'}")

    def absolute(self) -> Any:
        import sympy

        self.bars += 1
        value = self.sum()
        self.bars -= 1
        if self.next().text not in ("|", "\\|", "\\rvert", "\\vert"):
            raise Unreadable("bar")
        return sympy.Abs(value)

    def literal(self, text: str) -> Any:
        import sympy

        mantissa, _, exponent = text.lower().partition("e")
        self.decimal = self.decimal or "." in text or bool(exponent)
        if len(mantissa) > arithmetic.MAX_DIGITS or (exponent and abs(int(exponent)) > arithmetic.MAX_DIGITS):
            raise Unreadable("too large")
        value = Fraction(mantissa) * (Fraction(10) ** int(exponent) if exponent else 1)
        return sympy.Rational(value.numerator, value.denominator)

    def symbol(self, name: str) -> Any:
        import sympy

        while self.peek().text == "'":
            name += self.next().text
        if self.take("_"):
            name += "_" + self.subscript()
        if name == "e":
            return sympy.E
        if name == "i":
            return sympy.I
        if self.peek().text == "(" and (call := self.call()):
            name += call
        return sympy.Symbol(name)

    def subscript(self) -> str:
        if not self.take("{"):
            return self.next().text
        parts = []
        depth = 1
        while depth:
            token = self.next()
            depth += (token.text == "{") - (token.text == "}")
            if token.kind == "end":
                raise Unreadable("subscript")
            parts.append(token.text)
        return "".join(parts[:-1])

    def call(self) -> str | None:
        """``(x)``, ``(0)`` or ``(x,y)`` after a letter: the argument of a function, not a factor."""
        texts = []
        for token in self.stream[self.at + 1 :]:
            if token.text == ")":
                break
            if token.kind not in ("letter", "number") and token.text != ",":
                return None
            texts.append(token)
        if len([t for t in texts if t.text != ","]) != len([t for t in texts if t.text == ","]) + 1:
            return None
        if any(t.text == "," for t in (texts[:1] + texts[-1:])):
            return None
        self.at += len(texts) + 2
        return "(" + "".join(t.text for t in texts) + ")"

    def command(self, text: str, sympy: Any) -> Any:
        if text in _CONSTANTS:
            return getattr(sympy, _CONSTANTS[text])
        if text == "\\frac":
            top, bottom = self.argument(), self.argument()
            return arithmetic.divide(top, bottom)
        if text == "\\sqrt":
            return self.root(sympy)
        if text == "\\binom":
            return arithmetic.binomial(self.argument(), self.argument())
        if text in _FUNCTIONS:
            return self.function(text, sympy)
        if text in ("\\sum", "\\prod"):
            return self.series(text, sympy)
        if text in ("\\lfloor", "\\lceil"):
            value = self.closed("\\rfloor" if text == "\\lfloor" else "\\rceil")
            return arithmetic.rounded(sympy.floor if text == "\\lfloor" else sympy.ceiling, value)
        if text in ("\\dot", "\\ddot", "\\hat", "\\bar", "\\vec", "\\overline", "\\tilde"):
            return self.symbol(
                text + ":" + (self.subscript() if self.peek().text == "{" else self.next().text)
            )
        if text in _NOT_SYMBOLS or text in RELATIONS or text.startswith(("\\begin", "\\end")):
            raise Unreadable(text)
        return self.symbol(text)

    def series(self, text: str, sympy: Any) -> Any:
        """A finite sum or product, term by term; the product behind the sign is its body."""
        if not (self.take("_") and self.take("{") and self.peek().kind == "letter"):
            raise Unreadable(text)
        index = self.next().text
        if index in "ie":  # a name here, not the number
            index = "k" + index
            self.stream[self.at :] = [
                Token("letter", index) if t.kind == "letter" and t.text == index[1] else t
                for t in self.stream[self.at :]
            ]
        low = self.closed("}") if self.take("=") else None
        high = self.script() if self.take("^") else None
        body = self.product()
        if low is None or high is None or not (low.is_Integer and high.is_Integer and high - low < _TERMS):
            raise Unreadable(text)
        if any(str(name).partition("_")[2] for name in body.free_symbols if index in str(name)[1:]):
            raise Unreadable("an index in a name")
        total = sympy.Integer(0 if text == "\\sum" else 1)
        for k in range(int(low), int(high) + 1):
            term = body.xreplace({sympy.Symbol(index): sympy.Integer(k)})
            total = total + term if text == "\\sum" else total * term
        return total

    def argument(self) -> Any:
        if self.take("{"):
            return self.closed("}")
        token = self.peek()
        if token.kind == "number" and len(token.text) > 1 and "." not in token.text:
            # Its first digit; behind it may stand more than digits: 2e-1 is 2 and e-1.
            self.stream[self.at : self.at + 1] = [
                Token("number", token.text[0]),
                *tokens(token.text[1:])[:-1],
            ]
            return self.literal(self.next().text)
        return self.atom()

    def root(self, sympy: Any) -> Any:
        index = sympy.Integer(2)
        if self.take("["):
            index = self.closed("]")
        value = self.argument()
        if index == 0:
            raise Unreadable("root")
        if index.is_Integer and index % 2 and value.is_number and value.is_negative:
            return -arithmetic.power(-value, 1 / index)  # the real root
        return arithmetic.power(value, 1 / index)

    def function(self, text: str, sympy: Any) -> Any:
        name = _FUNCTIONS[text]
        base = sympy.Integer(10) if text == "\\lg" else None
        if text == "\\log" and self.take("_"):
            base = self.script()
        exponent = self.script() if self.take("^") else None
        if self.peek().text in ("(", "{", "["):
            value = self.atom()
        else:
            value = self.factor()
            while self.peek().kind in ("letter",) or self.peek().text in ("\\pi", "\\theta", "\\omega"):
                value = value * self.factor()
        if name == "log" and value == 0:
            raise Unreadable("logarithm of zero")
        inverse = exponent == -1 and name in ("sin", "cos", "tan")
        call = getattr(sympy, "a" + name if inverse else name)
        if name == "exp":
            result = arithmetic.power(sympy.E, value)
        else:
            result = call(value) if base is None else sympy.log(value) / sympy.log(base)
        return result if exponent is None or inverse else arithmetic.power(result, exponent)

    def peek(self, ahead: int = 0) -> Token:
        return self.stream[min(self.at + ahead, len(self.stream) - 1)]

    def next(self) -> Token:
        token = self.peek()
        self.at += 1
        return token

    def take(self, text: str) -> bool:
        if self.peek().text == text and self.peek().kind != "text":
            self.at += 1
            return True
        return False

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > _DEPTH:
            raise Unreadable("too deep")
