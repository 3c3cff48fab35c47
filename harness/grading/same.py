"""When two typed answers are the same; formulas inside are compared by the grader that asks."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from harness.grading import numbers
from harness.grading.answers import Clock, Group, Leaf, Ratio, Value, Word
from harness.grading.regions import Piece, Region
from harness.problems.problem import VerdictStatus

#: What a grader says of two formulas; None where it cannot say yet.
Compare = Callable[[str, str], VerdictStatus | None]
Said = VerdictStatus | None
_EQUATION = re.compile(r"([a-zA-Z](?:_\w)?)\s*=\s*([^=]+)")


def compare(gold: Value, pred: Value, leaf: Compare) -> tuple[bool, Said]:
    """Whether the types settle it, and what they say: ``(False, None)`` leaves it to the grader."""
    if isinstance(gold, Word) and isinstance(pred, Word):
        return True, _said(gold.text == pred.text)
    if isinstance(gold, Clock) and isinstance(pred, Clock):
        return True, _said(gold.minutes == pred.minutes and gold.half in ("", pred.half))
    if isinstance(gold, Clock) or isinstance(pred, Clock):
        return _clock(gold, pred, leaf)
    if isinstance(gold, Group) and isinstance(pred, Group):
        return _groups(gold, pred, leaf)
    if isinstance(gold, Region) and isinstance(pred, Region):
        return True, _regions(gold, pred, leaf)
    if isinstance(gold, Ratio) and isinstance(pred, Ratio):
        return True, _ratios(gold.terms, pred.terms, leaf)
    for a, b in ((gold, pred), (pred, gold)):
        if isinstance(a, Group) and isinstance(b, Region):
            return _point_or_interval(a, b, leaf)
        if isinstance(a, Group) and a.kind == "list" and isinstance(b, Leaf) and b is gold:
            if len({item for item in a.items}) == len(a.items) and all(isinstance(i, Leaf) for i in a.items):
                return True, _all([_item(b, item, leaf) for item in a.items])  # "1/2, or 0.5"
        if isinstance(a, Group) and (not a.items or (a.kind == "list" and _number(b)) or isinstance(b, Word)):
            return True, "wrong"
        if isinstance(a, Region | Word) and (_number(b) or isinstance(b, Region)):
            return True, "wrong"
        if isinstance(a, Ratio) and (len(a.terms) > 2 or (a is pred and _number(b))):
            return True, "wrong"  # 5/7 answers the ratio 5:7; odds of 5:7 are no probability of 5/7
        if isinstance(a, Group) and len(a.items) == 1 and a.kind == "set" and isinstance(b, Leaf):
            first, second = (a.items[0], b) if a is gold else (b, a.items[0])
            return True, _item(first, second, leaf)
    return False, None


def _said(equal: bool) -> VerdictStatus:
    return "right" if equal else "wrong"


def _number(value: Value) -> bool:
    return isinstance(value, Leaf) and numbers.number(value.text) is not None


def _clock(gold: Value, pred: Value, leaf: Compare) -> tuple[bool, Said]:
    """``10`` may be answered by "10 a.m.", but not the other way round."""
    if isinstance(gold, Leaf) and isinstance(pred, Clock) and pred.minutes % 60 == 0 and pred.half:
        hour = numbers.number(gold.text)
        return True, _said(hour is not None and hour.value % 12 == pred.minutes // 60 and hour.value <= 12)
    return True, "wrong"


def _item(gold: Value, pred: Value, leaf: Compare) -> Said:
    if isinstance(gold, Leaf) and isinstance(pred, Leaf):
        return leaf(gold.text, pred.text)
    settled, said = compare(gold, pred, leaf)
    return said if settled else "wrong"


def _groups(gold: Group, pred: Group, leaf: Compare) -> tuple[bool, Said]:
    kinds = {gold.kind, pred.kind}
    if kinds == {"tuple", "set"}:
        return True, "wrong"
    if "tuple" in kinds:
        gold, pred = _ordered(gold), _ordered(pred)
        if len(gold.items) != len(pred.items):
            return True, "wrong"
        return True, _all([_item(a, b, leaf) for a, b in zip(gold.items, pred.items, strict=True)])
    return True, _unordered(gold, pred, leaf)


def _ordered(group: Group) -> Group:
    """``x = 1, y = 2`` beside a tuple as ``1, 2``; names in another order say another tuple."""
    named = [_EQUATION.fullmatch(item.text) if isinstance(item, Leaf) else None for item in group.items]
    names = [match[1] for match in named if match]
    if group.kind != "list" or len(names) != len(group.items) or len(set(names)) != len(names):
        return group
    if names != sorted(names):
        return Group("list", ())
    return Group("list", tuple(Leaf(match[2]) for match in named if match))


def _unordered(gold: Group, pred: Group, leaf: Compare) -> Said:
    """Every element as often as on the other side; in sets once is enough."""
    ours = _once(gold.items, leaf) if gold.kind == "set" else list(gold.items)
    theirs = _once(pred.items, leaf) if pred.kind == "set" else list(pred.items)
    if len(ours) != len(theirs):
        return "wrong"
    open_question = False
    unread = False
    for item in ours:
        said = [_item(item, other, leaf) for other in theirs]
        if "right" in said:
            del theirs[said.index("right")]
            continue
        open_question = open_question or None in said
        unread = unread or "unparsed" in said
        if not open_question:
            return "unparsed" if unread else "wrong"
    return None if open_question else "right"


def _once(items: Sequence[Value], leaf: Compare) -> list[Value]:
    kept: list[Value] = []
    for item in items:
        if not any(_item(other, item, leaf) == "right" for other in kept):
            kept.append(item)
    return kept


def _all(said: Sequence[Said]) -> Said:
    for status in ("wrong", "unparsed", "timeout"):
        if status in said:
            return status
    return None if None in said else "right"


def _regions(gold: Region, pred: Region, leaf: Compare) -> Said:
    if gold.name and pred.name and gold.name != pred.name:
        return "wrong"
    if len(gold.pieces) != len(pred.pieces):
        return "wrong"
    theirs, open_question = list(pred.pieces), False
    for piece in gold.pieces:
        said = [_pieces(piece, other, leaf) for other in theirs]
        if "right" in said:
            del theirs[said.index("right")]
            continue
        open_question = open_question or None in said
        if not open_question:
            return "wrong"
    return None if open_question else "right"


def _pieces(a: Piece, b: Piece, leaf: Compare) -> Said:
    if (a.low_open, a.high_open) != (b.low_open, b.high_open):
        return "wrong"
    return _all([leaf(a.low, b.low), leaf(a.high, b.high)])


def _point_or_interval(group: Group, region: Region, leaf: Compare) -> tuple[bool, Said]:
    """``(1,2)`` is read as an interval where the other side is one."""
    one = region.pieces[0]
    if group.kind != "tuple" or len(group.items) != 2 or len(region.pieces) != 1:
        return True, "wrong"
    if not (one.low_open and one.high_open):
        return True, "wrong"
    low, high = group.items
    if not (isinstance(low, Leaf) and isinstance(high, Leaf)):
        return True, "wrong"
    return True, _all([leaf(low.text, one.low), leaf(high.text, one.high)])


def _ratios(gold: Sequence[str], pred: Sequence[str], leaf: Compare) -> Said:
    """Terms in proportion. A term of zero must stand in the same place, and the terms be the same."""
    if len(gold) != len(pred):
        return "wrong"
    if any(_zero(term) for term in (*gold, *pred)):
        return _all([leaf(a, b) for a, b in zip(gold, pred, strict=True)])
    return _all([leaf(_over(a, gold[0]), _over(b, pred[0])) for a, b in zip(gold[1:], pred[1:], strict=True)])


def _zero(term: str) -> bool:
    value = numbers.number(term)
    return value is not None and value.value == 0


def _over(top: str, bottom: str) -> str:
    a, b = numbers.number(top), numbers.number(bottom)
    if a is not None and b is not None:
        value = a.value / b.value
        return f"\\frac{{{value.numerator}}}{{{value.denominator}}}"
    return f"\\frac{{{top}}}{{{bottom}}}"
