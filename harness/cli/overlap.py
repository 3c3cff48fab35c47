"""``entrobench check overlap``: training problems that turn up in evaluation sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.errors import UserError, unknown


def overlap(settings: Sequence[str]) -> int:
    """Compare ``training=`` with ``benchmark=`` sets, by default all with all; ``show=yes`` names the ids."""
    from harness import catalog
    from harness.evaluation.overlap import compare, lines

    given = _given(settings)
    registry = catalog.benchmarks()
    everything = {
        name: registry.load_from(name, given.get("data_dir"), given.get("accept_data", ""))
        for name in registry.names()
    }
    sets = {name: b for name, b in everything.items() if hasattr(b, "parts")}
    training = _chosen(given, "training", [name for name, b in sets.items() if "train" in b.splits()])
    tested = _chosen(given, "benchmark", [name for name, b in sets.items() if "test" in b.splits()])
    evaluations = [(name, [(p.id, _text(p)) for p in sets[name].problems("test")]) for name in tested]
    found = []
    for name in training:
        benchmark: Any = sets[name]
        kept = [_text(p) for split in ("train", "validation") for p in benchmark.problems(split)]
        rows = [row.problem for row in benchmark.loaded("train").rows]
        found += compare(name, rows, kept, evaluations)
    print("\n".join(lines(found)))
    if given.get("show") == "yes":
        for one in found:
            for problem_id in one.runs:
                print(f"{one.evaluation}: {problem_id} shares 13 words with a problem of {one.training}")
    return 0


def _text(problem: Any) -> str:
    return str(problem.meta["question"])


def _given(settings: Sequence[str]) -> dict[str, str]:
    known = ("training", "benchmark", "data_dir", "accept_data", "show")
    given = {}
    for word in settings:
        key, sign, value = word.partition("=")
        if not sign:
            raise UserError(f"'{word}' is not a setting; write key=value, e.g. training=math-l3to5")
        if key not in known:
            raise unknown("setting", key, known)
        given[key] = value
    return given


def _chosen(given: dict[str, str], key: str, known: Sequence[str]) -> list[str]:
    names = [name.strip() for name in given.get(key, ",".join(known)).split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise unknown(f"{key} set", name, known)
    return names
