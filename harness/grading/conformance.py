"""Conformance cases for a grader: facts about single responses, and how a grader fares on them.

A case is a JSON object on a line: ``id``, ``kind`` (``standard`` or ``hostile``), ``gold``, ``response`` (or
``response_parts``, a list of ``[text, times]``), ``expected`` (true, false, or null where any verdict will
do), ``format`` (``boxed``, ``latex``, ``plain``, ``empty``), ``tags``, and optionally ``max_seconds``.
"""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.grading.grader import Grade, Grader
from harness.util.errors import UserError

#: Share of the standard cases that must be right, and seconds after which a case is late.
REQUIRED = 0.99
LATE_S = 5.0
#: A file that an executed injection would leave behind.
MARKER = "pwned_marker"


@dataclass(frozen=True)
class ConformanceCase:
    id: str
    kind: str
    gold: str
    response: str
    expected: bool | None
    format: str
    tags: tuple[str, ...]
    max_seconds: float


@dataclass(frozen=True)
class ConformanceOutcome:
    """What a grader made of a case; ``error`` where it raised (no ``grade``) or failed on the answer."""

    case: ConformanceCase
    grade: Grade | None
    seconds: float
    error: str = ""

    @property
    def right(self) -> bool | None:
        """Whether the verdict is the expected one; None where any will do."""
        if self.case.expected is None:
            return None
        return self.grade is not None and self.grade.verdict.correct == self.case.expected

    @property
    def second_right(self) -> bool | None:
        if self.case.expected is None:
            return None
        return self.grade is not None and (self.grade.second == "right") == self.case.expected

    @property
    def late(self) -> bool:
        return self.seconds > self.case.max_seconds


def load(path: Path) -> list[ConformanceCase]:
    """The cases of a JSON Lines file.

    Raises:
        UserError: no such file, a line that is no case, or no case at all.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    cases = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                cases.append(_case(json.loads(line)))
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{path}, line {number}: no conformance case ({type(error).__name__}: {error}); "
                    "a case needs id, kind, gold, response or response_parts, and expected"
                ) from error
    if not cases:
        raise UserError(f"{path} holds no conformance cases")
    return cases


def run(cases: Sequence[ConformanceCase], grader: Grader, *, threads: int = 2) -> list[ConformanceOutcome]:
    """Grade every case through :meth:`Grader.grade`, ``threads`` at a time, each call timed by itself.

    With as many workers as threads no call waits for another, so the seconds are those of the call.
    """
    grader.grade(gold="x+1", pred=r"\boxed{1+x}")  # the processes are up before the clock runs
    with ThreadPoolExecutor(threads) as executor:
        return list(executor.map(lambda case: _outcome(case, grader.grade), cases))


def passed(outcomes: Sequence[ConformanceOutcome]) -> bool:
    """At least 99 % of the standard cases right, none late, none crashed, nothing executed."""
    standard = [o.right for o in outcomes if o.case.kind == "standard" and o.right is not None]
    enough = not standard or sum(standard) >= REQUIRED * len(standard)
    return enough and not any(o.late or o.error for o in outcomes) and not Path(MARKER).exists()


def report(outcomes: Sequence[ConformanceOutcome]) -> list[str]:
    """Lines: accuracy by tag, every miss, overall, agreement of the two graders, the latest case."""
    lines = _by_tag(outcomes)
    misses = [o for o in outcomes if o.right is False or o.late or o.error]
    lines += ["", f"misses: {len(misses)}"] + [_miss(o) for o in misses] + [""]
    for kind in ("standard", "hostile"):
        chosen = [o for o in outcomes if o.case.kind == kind]
        if chosen:
            lines.append(_overall(kind, chosen))
    judged = [o for o in outcomes if o.grade is not None]
    agree = sum(o.grade.verdict.correct == (o.grade.second == "right") for o in judged if o.grade)
    lines.append(f"first and second grader agree on {agree} of {len(judged)} ({_share(agree, len(judged))})")
    late = sum(o.late for o in outcomes)
    latest = max(outcomes, key=lambda o: o.seconds)
    lines.append(f"latest case: {latest.seconds:.2f} s ({latest.case.id}); late: {late}")
    lines.append(f"crashed: {sum(bool(o.error) for o in outcomes)}")
    if Path(MARKER).exists():
        lines.append(f"A RESPONSE WAS EXECUTED: {MARKER} lies in the working directory")
    return lines


def _case(row: dict[str, Any]) -> ConformanceCase:
    response = row.get("response")
    if response is None:
        response = "".join(str(text) * int(times) for text, times in row["response_parts"])
    if row["kind"] not in ("standard", "hostile") or row["expected"] not in (True, False, None):
        raise ValueError("kind is standard or hostile, expected is true, false or null")
    return ConformanceCase(
        id=str(row["id"]),
        kind=row["kind"],
        gold=str(row["gold"]),
        response=str(response),
        expected=row["expected"],
        format=str(row.get("format", "")),
        tags=tuple(row.get("tags", ())),
        max_seconds=float(row.get("max_seconds", LATE_S)),
    )


def _outcome(case: ConformanceCase, grade: Callable[..., Grade]) -> ConformanceOutcome:
    start = time.monotonic()
    try:
        found = grade(gold=case.gold, pred=case.response)
    except Exception as error:  # the very thing that is tested for
        return ConformanceOutcome(case, None, time.monotonic() - start, f"{type(error).__name__}: {error}")
    return ConformanceOutcome(case, found, time.monotonic() - start, found.error)


def _by_tag(outcomes: Sequence[ConformanceOutcome]) -> list[str]:
    of_tag: dict[str, list[ConformanceOutcome]] = defaultdict(list)
    for outcome in outcomes:
        for tag in outcome.case.tags:
            if outcome.right is not None:
                of_tag[tag].append(outcome)
    width = max((len(tag) for tag in of_tag), default=3)
    lines = [f"{'tag':{width}}  cases  right   second"]
    for tag, chosen in sorted(of_tag.items(), key=lambda item: (-len(item[1]), item[0])):
        right, second = sum(bool(o.right) for o in chosen), sum(bool(o.second_right) for o in chosen)
        lines.append(
            f"{tag:{width}}  {len(chosen):5}  {_share(right, len(chosen)):7} {_share(second, len(chosen))}"
        )
    return lines


def _overall(kind: str, chosen: Sequence[ConformanceOutcome]) -> str:
    known = [o for o in chosen if o.right is not None]
    right, second = sum(bool(o.right) for o in known), sum(bool(o.second_right) for o in known)
    verdicts = Counter(o.grade.verdict.status for o in chosen if o.grade)
    counts = ", ".join(f"{n} {status}" for status, n in verdicts.most_common())
    return (
        f"{kind}: {right} of {len(known)} right ({_share(right, len(known))}); second grader {second} "
        f"({_share(second, len(known))}); {len(chosen) - len(known)} more take any verdict; {counts}"
    )


def _miss(outcome: ConformanceOutcome) -> str:
    case, grade = outcome.case, outcome.grade
    expected = {True: "right", False: "not right", None: "any verdict"}[case.expected]
    got = outcome.error or (f"{grade.verdict.status}, second {grade.second}" if grade else "")
    late = f", after {outcome.seconds:.1f} s" if outcome.late else ""
    return (
        f"  {case.id}  gold {_short(case.gold)}  response {_short(case.response, end=True)}  "
        f"expected {expected}, got {got}{late}"
    )


def _short(text: str, most: int = 60, end: bool = False) -> str:
    """Printable and short; the end of a response is where its answer stands."""
    if len(text) > most:
        text = "…" + text[-most:] if end else text[:most] + "…"
    return ascii(text).replace("\\u2026", "…").replace("\\\\", "\\")


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"
