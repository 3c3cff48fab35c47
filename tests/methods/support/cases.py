"""What a method's ``cases.py`` says to the tests that every method shares."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Cases:
    """Where the shared tests try the entries of one method's file.

    Attributes:
        readings: (entry, hyper-parameters, state of its components by name) at which an update must equal the
            plain reading in ``reading.py``; every entry has at least one.
        options: entry -> hyper-parameters beside the defaults that bring other stages in.
        active: entry -> hyper-parameters at which it does something in a step of sixty tokens and seven
            words, where its defaults do not.
        micro: entry -> hyper-parameters without which it cannot train on the micro testbed.
        refused: (entry, hyper-parameters, settings of the run, words of the message): combinations that make
            no sense.
        formulas: ``module:function`` of what the golden cases must notice if it is bent.
        inert: path of a hyper-parameter of the golden cases -> why no stored case shows its effect.
    """

    readings: Sequence[tuple[str, Values, Values]] = ()
    options: Mapping[str, Sequence[Values]] = field(default_factory=dict)
    active: Mapping[str, Values] = field(default_factory=dict)
    micro: Mapping[str, Values] = field(default_factory=dict)
    refused: Sequence[tuple[str, Values, Values, str]] = ()
    formulas: Sequence[str] = ()
    inert: Mapping[tuple[Any, ...], str] = field(default_factory=dict)

    @property
    def entries(self) -> set[str]:
        """Every entry that is named here."""
        listed = (*self.readings, *self.refused)
        return {*self.options, *self.active, *(case[0] for case in listed)}


def folder_of(slug: str) -> str:
    """The folder of a method's tests: the stem of its file."""
    return slug.partition("@")[0].replace("-", "_")


def module(slug: str, name: str) -> Any:
    """``reading`` or ``cases`` of a method."""
    return importlib.import_module(f"tests.methods.{folder_of(slug)}.{name}")


#: The cases of every method by the name of its folder.
CASES: dict[str, Cases] = {
    path.parent.name: module(path.parent.name, "cases").CASES
    for path in sorted(FOLDER.glob("*/cases.py"))
    if path.parent.name != "support"
}
