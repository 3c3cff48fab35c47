"""``entrobench check``."""

from __future__ import annotations

from pathlib import Path

from harness.errors import UserError


def golden(folder: str) -> int:
    """Replay every golden case under ``folder``; exit code 1 on any difference."""
    if not Path(folder).is_dir():
        raise UserError(f"no folder {folder}")
    from harness.golden import main

    return int(main(Path(folder)))


def grading(file: str, name: str) -> int:
    """Run the conformance cases of ``file``; exit code 1 under 99 % right or on a late or crashed case."""
    from harness.grading import GRADERS, Grader, conformance
    from harness.grading.grader import default_workers

    with Grader(name, workers=default_workers()) as grader:
        if not GRADERS[name].symbolic:
            names = ", ".join(kind.name for kind in GRADERS.values() if kind.symbolic)
            raise UserError(f"grader '{name}' follows a rule of its own; conformance cases are for {names}")
        cases = conformance.load(Path(file))
        print(f"{grader.version}: {len(cases)} cases of {file}")
        if GRADERS[name].boxed_only:
            cases = [case for case in cases if case.format == "boxed"]
            print(f"this grader reads boxes only: scored on the {len(cases)} cases that hold one")
        outcomes = conformance.run(cases, grader, threads=default_workers())
    print("\n".join(conformance.report(outcomes)))
    good = conformance.passed(outcomes)
    print("passed" if good else "FAILED")
    return 0 if good else 1
