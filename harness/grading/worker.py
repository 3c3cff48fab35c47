"""A grading worker: a process that reads pairs of answers and writes what the two graders say."""

from __future__ import annotations

import random
import signal
import socket
import sys
from typing import Any

from harness.grading import confine, first, rules, second, units, wire
from harness.grading.errors import where
from harness.grading.programs import work

_RECURSION = 3000


def load(what: str = "") -> None:
    """Import everything before the fork, and take away what must not be used.

    Args:
        what: ``program`` where workers run programs alone, which need no computer algebra.
    """
    if what == work.PART:
        return
    first.load()
    second.load()
    confine.never_evaluate()


def serve(channel: socket.socket, parent: int, memory_mb: int) -> None:
    """Grade until the harness closes the socket.

    A request is ``{"gold", "pred", "parts": ["first", "second"], "cpu_s"}``; every part is answered by a
    message of its own, as soon as it is known, so that a worker killed in the second keeps the verdict of
    the first.
    """
    confine.die_with_parent(parent)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    sys.setrecursionlimit(_RECURSION)
    confine.limit(memory_mb)
    confine.refuse_side_effects()
    while (request := wire.receive(channel)) is not None:
        for part in request["parts"]:
            confine.cpu_allowance(request["cpu_s"])
            answer = judge(part, request["gold"], request["pred"])
            confine.cpu_allowance(0.0)
            wire.send(channel, {"part": part} | answer)
            if answer.get("spent"):
                return


def judge(part: str, gold: str, pred: str) -> dict[str, Any]:
    """Verdict of one grader; whatever the text does to it, the answer is a message."""
    random.seed(0)
    try:
        if part == work.PART:
            return work.answered(gold, pred)
        return _judged(first if part == "first" else second, gold, pred)
    except MemoryError:
        return {"status": "timeout", "spent": True}
    except (RecursionError, confine.Refused):
        return {"status": "unparsed"}
    except Exception as error:
        return {"status": "unparsed", "error": where(error)}


def _judged(grader: Any, gold: str, pred: str) -> dict[str, Any]:
    """Types first; the grader compares the formulas in them, or the whole where the types settle nothing."""
    known: dict[tuple[str, str], Any] = {}
    errors: list[str] = []

    def leaf(ours: str, theirs: str) -> Any:
        if (ours, theirs) not in known:
            known[ours, theirs] = rules.decided(ours, theirs) or judged(ours, theirs)
        return known[ours, theirs]

    def judged(ours: str, theirs: str) -> Any:
        said = grader.judge(gold=ours, pred=theirs)
        errors.extend([said["error"]] if "error" in said else [])
        return said["status"]

    answer = {"status": rules.verdict(gold, pred, leaf), "canonical": _form(grader, pred)}
    return answer | ({"error": errors[0]} if errors else {})


def _form(grader: Any, pred: str) -> str | None:
    form: str | None = grader.canonical_form(units.take(pred)[0]) if grader is second else None
    return form
