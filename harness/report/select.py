"""Part of a sweep's rows: ``--select tracks=[main] methods=[grpo,steer] models=[…]``.

The untrained model, the controls and the reference stay whatever is selected, because a score means little
without them. Ranks and corrections are then over the rows that are left, and the page says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import UserError, unknown
from harness.report.places import place_of
from harness.report.records import Record

KEYS = ("tracks", "methods", "models")


@dataclass(frozen=True)
class Selection:
    """What is wanted; an empty field wants everything."""

    tracks: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """For the heading; empty where everything is wanted."""
        told = [f"{key} {', '.join(getattr(self, key))}" for key in KEYS if getattr(self, key)]
        return f"Selected: {'; '.join(told)}. Ranks and corrections are over the rows shown." if told else ""


def parse(words: Sequence[str]) -> Selection:
    """The selection that ``key=[a,b]`` words describe.

    Raises:
        UserError: another key, or no value.
    """
    found: dict[str, tuple[str, ...]] = {}
    for word in words:
        key, _, value = word.partition("=")
        if key not in KEYS:
            raise unknown("selection", key, KEYS, "(write e.g. --select tracks=[main] methods=[grpo,dapo])")
        names = tuple(name.strip() for name in value.strip("[]").split(",") if name.strip())
        if not names:
            raise UserError(f"--select {key}= needs a name, e.g. {key}=[…]")
        found[key] = (*found.get(key, ()), *names)
    return Selection(**found)


def select(records: Sequence[Record], wanted: Selection, reference: str = "grpo") -> list[Record]:
    """The records of the rows that are wanted.

    Raises:
        UserError: a name that no record has; the message names the nearest.
    """
    tracks = {_track(record) for record in records if record["role"] == "method"}
    methods = {str(record["method"]) for record in records if record["role"] == "method"}
    models = {place_of(record)[0] for record in records}
    for key, known in (("tracks", tracks), ("methods", methods), ("models", models)):
        for name in getattr(wanted, key):
            if name not in known:
                raise unknown(key.removesuffix("s"), name, sorted(known), "(--select)")
    return [record for record in records if _wanted(record, wanted, reference)]


def _wanted(record: Record, wanted: Selection, reference: str) -> bool:
    if wanted.models and place_of(record)[0] not in wanted.models:
        return False
    if record["role"] != "method" or record["method"] == reference:
        return True
    in_track = not wanted.tracks or _track(record) in wanted.tracks
    return in_track and (not wanted.methods or record["method"] in wanted.methods)


def _track(record: Record) -> str:
    return str((record.get("method_card") or {}).get("track") or "main")
