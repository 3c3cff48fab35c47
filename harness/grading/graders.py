"""The graders that evaluation profiles name: where each looks for the answer, and when it is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version as package_version

from harness.grading import dapo, extract, normalise, numbers, rules
from harness.problems.problem import VerdictStatus
from harness.util.errors import unknown

#: Raised whenever a verdict of ours may change.
REVISION = 2


@dataclass(frozen=True)
class Prepared:
    """What is known of an answer before any computer algebra; ``None`` where a worker has to decide."""

    gold: str
    pred: str
    canonical: str | None
    gold_canonical: str
    first: VerdictStatus | None
    second: VerdictStatus | None


@dataclass(frozen=True)
class Kind:
    """A named grader; where it is ``symbolic``, math-verify decides what strings leave open."""

    name: str
    about: str
    find: Callable[[str], str | None]
    symbolic: bool = True
    verdict: Callable[[str, str], VerdictStatus] | None = None
    form: Callable[[str], str] | None = None
    boxed_only: bool = False

    @property
    def version(self) -> str:
        """Goes into every record: our revision and the versions of the libraries that decide."""
        return f"{self.name}/{REVISION} {libraries()}" if self.symbolic else f"{self.name}/{REVISION}"


@cache
def libraries() -> str:
    return " ".join(
        f"{name}-{package_version(name)}" for name in ("math-verify", "latex2sympy2_extended", "sympy")
    )


def _anywhere(text: str) -> str | None:
    found = extract.extract(text)
    return found.text if found else None


def _boxed(text: str) -> str | None:
    found = extract.extract(text, boxed_only=True)
    return found.text if found else None


def _integer(gold: str, pred: str) -> VerdictStatus:
    """Equal integers, however they are written; anything that is no integer is unparsed."""
    a, b = numbers.number(normalise.clean(gold)), numbers.number(normalise.clean(pred))
    if a is None or b is None or b.value.denominator != 1:
        return "unparsed"
    return "right" if a.value == b.value else "wrong"


GRADERS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "math-verify", "last box, else the stated answer; strings, numbers, then math-verify", _anywhere
        ),
        Kind("math-verify-boxed", "the same, but an answer counts only in a box", _boxed, boxed_only=True),
        Kind(
            "math-dapo",
            'the last "Answer:" in the last 300 characters; string equality after normalisation; the rule of '
            "DAPO, without the box that verl 0.9.1 looks for where there is no such line",
            dapo.find,
            symbolic=False,
            verdict=dapo.verdict,
            form=dapo.normalised,
        ),
        Kind("integer", "last box, else the stated answer; equal integers", _anywhere, False, _integer),
    )
}


def kind(name: str) -> Kind:
    """The grader of this name; raises :class:`harness.util.errors.UserError` naming the nearest ones."""
    if name not in GRADERS:
        raise unknown("grader", name, GRADERS)
    return GRADERS[name]


def prepare(kind: Kind, *, gold: str, pred: str, fast: bool = True) -> Prepared:
    """Find the answer and decide all that strings and numbers can decide. Never raises on any text."""
    found = kind.find(pred)
    if found is None:
        return Prepared("", "", None, "", "unparsed", "unparsed")
    reference = rules.reference(gold)
    if max(len(reference), len(found)) > extract.MAX_ANSWER_CHARACTERS:
        return _too_long(reference, found)
    reference, answer = rules.cleaned(reference, found)
    first = second = rules.verdict(reference, answer) if fast else None
    if kind.verdict is not None:
        first = kind.verdict(gold, found)
    if kind.form is not None:
        return Prepared(reference, answer, kind.form(found), kind.form(gold), first, second)
    form, gold_form = rules.canonical(answer), rules.canonical(reference)
    return Prepared(reference, answer, form, gold_form, first, second)


def _too_long(gold: str, found: str) -> Prepared:
    """Texts of thousands of characters are equal or they are not; nothing reads them."""
    gold, found = " ".join(gold.split()), " ".join(found.split())
    status: VerdictStatus = "right" if gold == found else "wrong"
    return Prepared(gold, found, found[:500], gold[:500], status, status)
