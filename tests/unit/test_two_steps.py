"""No change of code changes the numbers of existing entries unseen: two steps of some are committed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness.run.identity import NUMERICS_VERSION
from tests.helpers.two_steps import ENTRIES, FILE, differing, rounded, two_steps

HELP = (
    "{name} has other numbers than those committed for numerics version {version}. If that is meant, "
    "raise NUMERICS_VERSION (harness/run/identity.py; first: python -m harness.meaning freeze {version}) and "
    "write them anew: python -m tests.helpers.two_steps. Step {step}:\n  {lines}"
)


@pytest.fixture(scope="module")
def committed() -> dict[str, Any]:
    return dict(json.loads(FILE.read_text()))


def test_they_are_those_of_today(committed: dict[str, Any]) -> None:
    assert committed["numerics_version"] == NUMERICS_VERSION, "run: python -m tests.helpers.two_steps"
    assert list(committed["steps"]) == list(ENTRIES)


@pytest.mark.parametrize("name", ENTRIES)
def test_two_steps_have_the_committed_numbers(name: str, committed: dict[str, Any]) -> None:
    for step, (wanted, found) in enumerate(zip(committed["steps"][name], two_steps(name), strict=True), 1):
        lines = differing(wanted, found)
        version = committed["numerics_version"]
        assert not lines, HELP.format(name=name, version=version, step=step, lines="\n  ".join(lines))


def test_a_changed_number_is_seen_and_rounding_is_not() -> None:
    wanted = rounded({"loss": 0.123456, "kl": 1e-9, "clip_low": 0.0054, "copied_tokens": 0.3})
    assert wanted == {"loss": 0.1235, "kl": 0.0, "clip_low": 0.0054}
    assert differing(wanted, wanted | {"loss": 0.1236, "kl": 1e-6, "clip_low": 0.0081}) == []
    assert differing(wanted, wanted | {"loss": 0.1239}) == ["loss: 0.1235 committed, 0.1239 found"]
    assert differing(wanted, wanted | {"kl": 1e-5}) == ["kl: 0.0 committed, 1e-05 found"]
    del wanted["kl"]
    assert differing(wanted, wanted | {"kl": 0.0}) == ["kl: None committed, 0.0 found"]
