"""What strings and plain numbers decide, before and above any computer algebra."""

from __future__ import annotations

import re

from harness.grading import answers, braces, extract, normalise, numbers, same, units
from harness.problems.problem import VerdictStatus

_BASED = re.compile(r"(?P<digits>[0-9A-Za-z]+)_\{?(?P<base>\d{1,2})\}?")
_DECIMAL_COMMA = re.compile(r"[-+]?(?:0,\d+|\d+,\d{1,2}|\d+,\d{4,})%?")
_CHOICE = re.compile(
    r"(?:\\(?:text|textbf|mathbf|mathrm|textrm)\s*\{\s*)?(?:\(\s*(?:\\text\w*\s*\{)?\s*(?P<letter>[A-J])\s*\}?\)|"
    r"(?P<other>[A-J])[.):]|(?:[Oo]ption|[Cc]hoice)\s*\(?(?P<third>[A-J])\b\)?)\s*\}?\s*"
    r"(?:\\[ ,;:]|\\q?quad|~|\s)*(?P<value>.*)",
    re.DOTALL,
)
_EQUAL = {"="}
_ORDER = {
    "<",
    ">",
    "<=",
    ">=",
    r"\le",
    r"\ge",
    r"\leq",
    r"\geq",
    r"\in",
    r"\approx",
    r"\lt",
    r"\gt",
    r"\ne",
    r"\neq",
}
_ABOUT = {r"\approx", r"\simeq", r"\sim"}
_ABOUT_ANYWHERE = re.compile(r"\\(?:approx|simeq|sim)(?![a-zA-Z])")
#: No element of a list is written so, only a group of three digits.
_LEADING_ZERO = re.compile(r",\s*0\d")
#: Numbers side by side: ``3 5`` is neither 35 nor 15.
_APART = re.compile(r"(?<![_^\d.])[\d.]+\s+\d")
_LETTER = re.compile(r"[a-zA-Z](?:_\{?\w+\}?)?")
#: What may stand left of an equals sign and be left out: a name, ``f(x)``, ``x_1``, a derivative.
_NAME = re.compile(
    r"\\?[a-zA-Z]+'*(?:_\{?\w+\}?)?(?:\s*\([^()=]*\))?"
    r"|\\frac\{\s*d\s*\\?[a-zA-Z]+\s*\}\{\s*d\s*\\?[a-zA-Z]+\s*\}|\\d?dot\{\s*\\?[a-zA-Z]+\s*\}"
    r"|\(\s*[a-zA-Z](?:\s*,\s*[a-zA-Z])*\s*\)|\\angle\s*[A-Z]+|[a-z]\s*:\s*[a-z]|\\text\{[^{}]*\}"
)
_RELATION = re.compile(r"[=<>]|\\(?:in|le|ge|leq|geq|approx)(?![a-zA-Z])")
_LETTER_UNIT = re.compile(
    r"(?<=[\d}])\s+(?:[mgshNJWVKLA]|\\frac\{(?:m|km|mi|kg|g|J|N|W)\}\{(?:s|h|m|kg|K|L)(?:\^\{?[23]\}?)?\})(?:\^\{?[23]\}?)?$"
)
_JOINING = re.compile(r"(?<![a-zA-Z])(?:and|or)(?![a-zA-Z])|,|;")


def reference(gold: str) -> str:
    """The answer in a reference as data sets write it: bare, in dollars, in boxes, or in prose."""
    boxes = extract.all_boxes(gold)
    if boxes:
        last = [boxes[-1]]
        for box in boxes[-2::-1]:
            between = gold[box.end : last[0].start]
            if len(between) > 25 or not _JOINING.search(between):
                break
            last.insert(0, box)
        return ", ".join(box.text for box in last)
    prose = len(re.findall(r"(?<![\\a-zA-Z])[a-zA-Z]{2,}", gold)) > 12
    found = extract.extract(gold) if prose else None
    return found.text if found else gold


def cleaned(gold: str, answer: str) -> tuple[str, str]:
    """Both sides in one writing, units behind them.

    A comma before three digits groups thousands, except where the other side is a list: ``120,102`` is a
    number beside ``120102`` and two numbers beside ``102, 120``. Where both sides name the same left-hand
    side (``f(x) =``) it goes; so does a letter of choice where the other side has none.
    """
    answer = _chosen(gold, answer)
    left, right = normalise.written(gold), normalise.written(answer)
    if ("," in left) != ("," in right):
        left, right = normalise.written(gold, grouped=False), normalise.written(answer, grouped=False)
        if ("," in left) != ("," in right) or _LEADING_ZERO.search(left + ";" + right):
            left, right = normalise.written(gold), normalise.written(answer)
    if numbers.number(units.take(left)[0]) is not None:  # "6 m" for 6; but "6m" for 6m is a product
        right = _LETTER_UNIT.sub(lambda m: f" \\unit{{{units.unit(m.group())}}}", right)
    return _without_names(left, right)


def _chosen(gold: str, answer: str) -> str:
    """Letter or value of ``(C) 12``, whichever the reference is."""
    match = _CHOICE.fullmatch(answer.strip())
    if match is None:
        return answer
    said = match["letter"] or match["other"] or match["third"]
    if re.fullmatch("[A-Ja-j]", normalise.key(normalise.clean(gold))):
        return said
    if not match["value"].strip(" }.") or match["third"] or _CHOICE.fullmatch(gold.strip()):
        return answer
    value = match["value"]
    return value if value.count("{") == value.count("}") else value.replace("}", "", 1)


def _without_names(gold: str, answer: str) -> tuple[str, str]:
    """Drop left-hand sides: where they are the same, and a bare name where the other side has none."""
    answer = _exact(gold, answer)
    a, b = _equation(gold), _equation(answer)
    if a and b:
        same_name = normalise.key(a[0]) == normalise.key(b[0])
        return (a[1], b[1]) if same_name or _both_values(a[0], b[0]) else (gold, answer)
    if a and not _RELATION.search(answer):
        return (a[1], answer) if _NAME.fullmatch(a[0]) else (gold, answer)
    if b and not _RELATION.search(gold):
        return (gold, b[1]) if _NAME.fullmatch(b[0]) or not _unsolved(b[0]) else (gold, answer)
    return gold, answer


def _both_values(one: str, other: str) -> bool:
    """``f(x)`` and ``y`` both name the value of a function."""
    names = sorted((one.replace(" ", ""), other.replace(" ", "")), key=len)
    return names[0] == "y" and re.fullmatch(r"[a-zA-Z]\(x\)", names[1]) is not None


def _equation(text: str) -> tuple[str, str] | None:
    """Both sides of the only relation outside of brackets, where it is an equals sign."""
    parts, marks = braces.pieces(text, _EQUAL | _ORDER)
    if len(parts) != 2 or marks[0] not in _EQUAL or not all(parts) or len(braces.split(text, ",")) > 1:
        return None
    return parts[0], parts[1]


def _exact(gold: str, answer: str) -> str:
    r"""What stands before ``\approx``; what stands behind it after a name, or where the reference says so."""
    parts, marks = braces.pieces(answer, _ABOUT)
    if len(parts) != 2 or not all(parts) or _ABOUT_ANYWHERE.search(gold):
        return answer
    before, behind = parts
    a, b = numbers.number(units.take(gold)[0]), numbers.number(units.take(behind)[0])
    if a is not None and b is not None and numbers.same(a, b):
        return behind
    return behind if _NAME.fullmatch(before) else before


def _unsolved(left: str) -> bool:
    """Whether a left-hand side has one unknown and arithmetic around it: ``2^n = 8`` leaves n to be found."""
    if re.search(r"\\(?:sum|prod|int|lim|binom|max|min|sup|inf)(?![a-zA-Z])", left):
        return False
    left = re.sub(r"\\(?:mathbb|mathrm|operatorname|mathcal)\s*\{[^{}]*\}(?=\s*[(\[])", "F", left)
    left = re.sub(r"\^\s*(?:\*|\{\s*\*\s*\}|\\prime|\\ast)", "", left)
    bare = re.sub(r"_(?:\{[^{}]*\}|\w)|\\(?:text|mathrm|operatorname|mathbb)\s*\{[^{}]*\}", "", left)
    bare = re.sub(r"(?<=[a-zA-Z])'*\s*\([^()]*\)|\[[^\[\]]*\]|\\[a-zA-Z]+", " ", bare)
    letters = set(re.findall(r"[a-zA-Z]", bare)) - {"e", "i"}
    return len(letters) == 1 and re.search(r"[\d^!+]|\S\s*-", bare) is not None


def decided(gold: str, answer: str) -> VerdictStatus | None:
    """Verdict on two cleaned answers where equal strings or plain numbers settle it; None elsewhere."""
    (gold, ours), (answer, theirs) = units.take(gold), units.take(answer)
    if not answer:
        return "unparsed"
    if units.differ(ours, theirs):
        return "wrong"
    if normalise.key(gold) == normalise.key(answer):
        return "right"
    a, b = numbers.number(gold), numbers.number(answer)
    if a is not None and b is not None:
        if b.percent and not a.percent and abs(a.value) < 1 and a.value == b.value:
            return "wrong"  # 0.5 is 50 %, not 0.5 %
        return "right" if numbers.same(a, b) else "wrong"
    if a is not None and _DECIMAL_COMMA.fullmatch(answer):
        b = numbers.number(answer.replace(",", "."))
        return "right" if b is not None and numbers.same(a, b) else None
    if (a or _BASED.fullmatch(gold)) and (b or _BASED.fullmatch(answer)):
        # The base is part of the answer: 52 is not 52_8, and 42 written in base 10 does not answer it either.
        return "right" if _based(gold) == _based(answer) is not None else "wrong"
    return _refused(gold, answer)


def _refused(gold: str, answer: str) -> VerdictStatus | None:
    """Answers that have a wrong reading beside the right one, and that graders take."""
    if _APART.search(answer) or _APART.search(gold):
        return "wrong"
    equation, other = _equation(gold), _equation(answer)
    if equation and other and _LETTER.fullmatch(equation[0]) and _LETTER.fullmatch(other[0]):
        if numbers.number(equation[1]) is not None and numbers.number(other[1]) is not None:
            return "wrong"  # x=5 is not y=5
    if equation and not _RELATION.search(answer) and _is_sum(equation[0]):
        return "wrong"  # math-verify takes the 1 of x+y=1 for its value
    if other and not _RELATION.search(gold) and _unsolved(other[0]):
        return "wrong"
    return None


def verdict(gold: str, answer: str, leaf: same.Compare = decided) -> VerdictStatus | None:
    """Verdict on two cleaned answers; ``leaf`` compares what is no list, region, ratio, time or word.

    None where ``leaf`` says None of what the verdict hangs on.
    """
    said = decided(gold, answer)
    if said is not None:
        return said
    settled, said = same.compare(answers.read(gold), answers.read(answer), leaf)
    return said if settled else leaf(units.take(gold)[0], units.take(answer)[0])


def canonical(answer: str) -> str:
    """A string that is the same for answers that are obviously the same."""
    answer = units.take(answer)[0]
    value = numbers.number(answer)
    return numbers.canonical(value) if value is not None else normalise.key(answer)[:500]


def _is_sum(text: str) -> bool:
    """Whether a plus or minus stands outside every bracket, and not in front."""
    for _ in range(6):
        text = re.sub(r"\{[^{}]*\}|\([^()]*\)", "", text)
    return re.search(r"\S\s*[-+]", text) is not None


def _based(text: str) -> tuple[str, int] | None:
    match = _BASED.fullmatch(text)
    return (match["digits"].lstrip("0").upper(), int(match["base"])) if match else None
