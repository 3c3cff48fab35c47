"""All cases: the own ones, which are always there, and those of the real sets."""

from __future__ import annotations

import os
from pathlib import Path

from tests.unit.grading.corpus.build import Case, own
from tests.unit.grading.corpus.kinds import kinds
from tests.unit.grading.corpus.real import of_sets


def cases() -> list[Case]:
    """Own references and kinds; each pair of reference and response once."""
    return _once(own() + kinds())


def real_cases(folder: Path | None = None) -> list[Case]:
    """Cases of the real sets in ``folder``, else in ``$ENTROBENCH_DATA``; none where neither is given."""
    place = folder or os.environ.get("ENTROBENCH_DATA")
    return _once(of_sets(Path(place))) if place else []


def _once(cases: list[Case]) -> list[Case]:
    """Each pair of reference and response once; raises ValueError where one is both right and wrong."""
    first: dict[tuple[str, str], Case] = {}
    for case in cases:
        if first.setdefault((case.gold, case.response), case).expected != case.expected:
            raise ValueError(f"{case.response!r} is both right and wrong for {case.gold!r}")
    return list(first.values())
