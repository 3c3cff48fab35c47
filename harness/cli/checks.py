"""``entrobench check``."""

from __future__ import annotations

from pathlib import Path

from harness.grading import conformance
from harness.grading.grader import Grader, default_workers
from harness.grading.graders import GRADERS
from harness.registry.golden import main
from harness.util.errors import UserError


def golden(folder: str) -> int:
    """Replay every golden case under ``folder``; exit code 1 on any difference."""
    if not Path(folder).is_dir():
        raise UserError(f"no folder {folder}")
    return int(main(Path(folder)))


def grading(file: str, grader: str) -> int:
    """Run the conformance cases of ``file``; exit code 1 under 99 % right or on a late or crashed case."""
    with Grader(grader, workers=default_workers()) as opened:
        if not GRADERS[grader].symbolic:
            names = ", ".join(kind.name for kind in GRADERS.values() if kind.symbolic)
            raise UserError(f"grader '{grader}' follows a rule of its own; conformance cases are for {names}")
        cases = conformance.load(Path(file))
        print(f"{opened.version}: {len(cases)} cases of {file}")
        if GRADERS[grader].boxed_only:
            cases = [case for case in cases if case.format == "boxed"]
            print(f"this grader reads boxes only: scored on the {len(cases)} cases that hold one")
        outcomes = conformance.run(cases, opened, threads=default_workers())
    print("\n".join(conformance.report(outcomes)))
    good = conformance.passed(outcomes)
    print("passed" if good else "FAILED")
    return 0 if good else 1
