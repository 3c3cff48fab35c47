"""What an analysis is, and what it finds: a table for people, and values for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

Cell = str | int | float | None


@dataclass(frozen=True)
class Finding:
    """What an analysis says about one run or model.

    Attributes:
        label: of the run or model.
        folder: of the run; None for a model.
        columns, rows: the table; None is a dash.
        notes: lines below it: what was measured, on what, and what is to be kept in mind.
        data: the same and more, as plain values.
    """

    label: str
    folder: Path | None
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str]
    data: dict[str, Any]


@dataclass(frozen=True)
class Analysis:
    """Base of all analyses: a frozen dataclass of settings, made by :func:`~harness.config.fields.hp`."""

    name: ClassVar[str] = ""

    def of(self, word: str) -> Finding:
        """Look at what ``word`` names: the folder of a run, or a model where the analysis takes one.

        Raises:
            UserError: it is neither, or lacks what is looked at; the message names the remedy.
        """
        raise NotImplementedError
