"""What a folder of results keeps beside its records: the title, the subtitle and the planned seeds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.util.files import read_json

HEAD = "leaderboard.head.json"


def read_head(path: Path) -> dict[str, Any]:
    """Title, subtitle and planned seeds of a folder of records; empty where nobody wrote them down."""
    return dict(read_json(path / HEAD)) if (path / HEAD).exists() else {}


def expected_of(head: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, int]]:
    """(model, training set) -> row -> planned seeds."""
    return {(p["model"], p["training_set"]): dict(p["seeds"]) for p in head.get("planned", ())}
