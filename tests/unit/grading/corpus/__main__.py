"""``python -m tests.unit.grading.corpus [--real] > FILE``: the corpus as JSON Lines."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from tests.unit.grading.corpus.corpus import cases, real_cases

chosen = cases() + (real_cases() if "--real" in sys.argv[1:] else [])
for case in chosen:
    print(json.dumps(asdict(case.conformance())))
