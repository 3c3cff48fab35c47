"""Both graders in this process, without worker processes: for tests of many short answers."""

from __future__ import annotations

from functools import cache

from harness.grading import first, graders, rules, second, worker

KIND = graders.kind("math-verify")


@cache
def _loaded() -> None:
    first.load()
    second.load()


@cache
def verdicts(gold: str, response: str) -> tuple[str, str]:
    """What the first and the second grader say."""
    _loaded()
    known = graders.prepare(KIND, gold=gold, pred=response)
    said = {"first": known.first, "second": known.second}
    for part, status in said.items():
        if status is None:
            said[part] = worker.judge(part, known.gold, known.pred)["status"]
    return str(said["first"]), str(said["second"])


def boxed(gold: str, answer: str) -> tuple[str, str]:
    return verdicts(gold, f"So the final answer is $\\boxed{{{answer}}}$.")


def settled(gold: str, answer: str) -> str | None:
    """What is said before any computer algebra."""
    return rules.verdict(*rules.cleaned(gold, answer))
