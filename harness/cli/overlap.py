"""``entrobench check overlap``: training problems that turn up in evaluation sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.evaluation.overlap import Text, TrainingTexts, lines
from harness.registry import benchmarks
from harness.util.errors import UserError, unknown

_KEYS = ("training", "benchmark", "data_dir", "accept_data", "show")
_LEGEND = """equal, near copies: problems of the training file; near: half of the 13-word runs, and the answer
left in: evaluation problems of which training still sees one of these, after what is left out by default
13 words: evaluation problems with a run of 13 words of a problem that training sees, turns of phrase too"""


def overlap(settings: Sequence[str]) -> int:
    """Compare ``training=`` with ``benchmark=`` sets, by default all with all.

    ``show=ids`` names evaluation problems, ``show=hashes`` training problems (for a set's ``overlapping``).
    Exit code 1 when training sees an equal text or a near copy of an evaluation problem.
    """
    given = _given(settings)
    registry = benchmarks
    everything = [
        registry.load_from(name, given.get("data_dir"), given.get("accept_data", ""))
        for name in registry.names()
    ]
    sets: dict[str, Any] = {b.name: b for b in everything if hasattr(b, "parts")}
    training = _chosen(given, "training", [name for name, b in sets.items() if "train" in b.splits()])
    tested = _chosen(given, "benchmark", [name for name, b in sets.items() if "test" in b.splits()])
    evaluations = {
        name: [Text(p.id, str(p.meta["question"]), p.answer) for p in sets[name].problems("test")]
        for name in tested
    }
    found = []
    for name in training:
        kept = [str(p.meta["question"]) for s in ("train", "validation") for p in sets[name].problems(s)]
        rows = [Text(row.id, row.problem, row.answer) for row in sets[name].loaded("train").rows]
        index = TrainingTexts(name, rows, kept)
        found += [index.compare(test, problems) for test, problems in evaluations.items()]
    print("\n".join([*lines(found), _LEGEND]))
    for one in found if given.get("show") == "ids" else ():
        for problem_id in one.runs:
            what = "still in" if problem_id in one.left else "shares 13 words with"
            print(f"{one.evaluation}: {problem_id} {what} {one.training}")
    for name in training if given.get("show") == "hashes" else ():
        hashes = set[str]().union(*(one.equal | one.near for one in found if one.training == name))
        print(f"{name}: {' '.join(sorted(hashes))}")
    return 1 if any(one.left for one in found) else 0


def _given(settings: Sequence[str]) -> dict[str, str]:
    given = {}
    for word in settings:
        key, sign, value = word.partition("=")
        if not sign:
            raise UserError(f"'{word}' is not a setting; write key=value, e.g. training=math-l3to5")
        if key not in _KEYS:
            raise unknown("setting", key, _KEYS)
        given[key] = value
    if given.get("show", "ids") not in ("ids", "hashes"):
        raise unknown("show", given["show"], ("ids", "hashes"))
    return given


def _chosen(given: dict[str, str], key: str, known: Sequence[str]) -> list[str]:
    names = [name.strip() for name in given.get(key, ",".join(known)).split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise unknown(f"{key} set", name, known)
    return names
