"""What has to hold for any answer: it equals itself, and a changed number or unit is never right."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.grading import formulas, numbers, units
from tests.unit.grading.corpus.corpus import cases
from tests.unit.grading.corpus.references import references, shown
from tests.unit.grading.grading_here import boxed, settled

GOLDS = sorted({shown(type_, text) for type_, text in references()} | {case.gold for case in cases()})
#: Ratios keep their value when all terms grow, and a time of day may leave a zero out.
DIGIT = re.compile(r"(?<![\d_{:])\d(?!\d)")


@pytest.mark.parametrize("gold", GOLDS)
def test_every_reference_answers_itself(gold: str) -> None:
    assert boxed(gold, gold) == ("right", "right")


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(GOLDS), st.data())
def test_a_changed_digit_is_never_right(gold: str, data: st.DataObject) -> None:
    places = [m for m in DIGIT.finditer(gold) if m.group() not in "0"]
    if not places or "emptyset" in gold or ":" in gold:
        return
    place = data.draw(st.sampled_from(places))
    digit = str((int(place.group()) + data.draw(st.integers(1, 8))) % 9 + 1)
    spoilt = gold[: place.start()] + digit + gold[place.end() :]
    if digit != place.group():
        assert "right" not in boxed(gold, spoilt)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(GOLDS), st.sampled_from(GOLDS))
def test_what_types_settle_as_wrong_is_wrong_from_the_other_side(one: str, other: str) -> None:
    if settled(one, other) == "right" and not re.search("[ap].?m|PM|AM", one + other):
        assert settled(other, one) == "right"


NUMBERS = st.fractions(min_value=-(10**6), max_value=10**6, max_denominator=999)


@given(NUMBERS, NUMBERS)
def test_numbers_in_any_writing_are_right_exactly_when_they_are_equal(a: Fraction, b: Fraction) -> None:
    gold = f"\\frac{{{a.numerator}}}{{{a.denominator}}}"
    for answer in writings(b):
        assert settled(gold, answer) == ("right" if a == b else "wrong")


def writings(value: Fraction) -> list[str]:
    p, q, sign = abs(value.numerator), value.denominator, "-" if value < 0 else ""
    found = [f"{sign}{p}/{q}", f"{sign}\\dfrac{{{p}}}{{{q}}}", f"x = {sign}\\frac{{{p}}}{{{q}}}\\text{{ cm}}"]
    if q > 1 and p > q:
        found += [f"{sign}{p // q} {p % q}/{q}", f"{sign}{p // q}\\,\\tfrac{{{p % q}}}{{{q}}}"]
    return found


@given(st.integers(0, 99), st.text("0123456789", max_size=4), st.text("0123456789", min_size=1, max_size=6))
def test_a_repeating_decimal_is_its_fraction(whole: int, first: str, block: str) -> None:
    shift, period = 10 ** len(first), 10 ** len(block) - 1
    value = Fraction(int(f"{whole}{first}"), shift) + Fraction(int(block), period * shift)
    found = numbers.number(formulas.periodic(f"{whole}.{first}\\overline{{{block}}}"))
    assert found is not None and found.value == value


@given(NUMBERS.filter(bool), st.integers(1, 9))
def test_six_digits_are_enough_and_five_are_not(value: Fraction, off: int) -> None:
    exact = value + Fraction(1, 7 * 10**9)
    unit = Fraction(10) ** (numbers._magnitude(abs(exact)) - 5)
    cut = Fraction(int(abs(exact) / unit)) * unit * (1 if exact > 0 else -1)
    assert numbers.agree(exact, cut) and numbers.agree(exact, exact)
    further = cut + (unit if exact > 0 else -unit) * (off + 1)
    assert not numbers.agree(exact, further) and not numbers.agree(exact, -cut)


UNITS = ["cm", "m", "km/h", "mph", "dollars", "cents", "hours", "min", "cm^2", "m^3", "kg", "degrees", "rad"]


@pytest.mark.parametrize("one", UNITS)
@pytest.mark.parametrize("other", UNITS)
def test_other_units_are_other_answers(one: str, other: str) -> None:
    texts = [f"8\\text{{ {u.split('^')[0]}}}" + (f"^{u[-1]}" if "^" in u else "") for u in (one, other)]
    assert settled(*texts) == ("right" if one == other else "wrong")


@given(
    st.text(
        alphabet=st.sampled_from(list(r"\{}()[]^_,.;:=<>+-*/!%$~ 0123mcs")) | st.characters(), max_size=60
    )
)
def test_no_text_is_too_much_for_units(text: str) -> None:
    bare, unit = units.split(text)
    assert units.take(units.marked("5", unit)) == ("5", unit)
    assert bare == text or len(bare) < len(text) or unit
