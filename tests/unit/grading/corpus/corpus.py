"""All cases: the own ones, which are always there, and those of the real sets."""

from __future__ import annotations

import os
from pathlib import Path

from tests.unit.grading.corpus.build import Case, own
from tests.unit.grading.corpus.kinds import kinds
from tests.unit.grading.corpus.real import of_sets


def cases() -> list[Case]:
    """Own references and kinds; each pair of reference and response once."""
    return list({(c.gold, c.response): c for c in own() + kinds()}.values())


def real_cases(folder: Path | None = None) -> list[Case]:
    """Cases of the real sets in ``folder``, else in ``$ENTROBENCH_DATA``; none where neither is given."""
    place = folder or os.environ.get("ENTROBENCH_DATA")
    return list({(c.gold, c.response): c for c in of_sets(Path(place))}.values()) if place else []
