"""The formulas give the stored outputs of the official code, and the comparison itself can fail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.registry import golden
from harness.registry.golden import compare, load_adapter, main, replay
from harness.util.errors import UserError
from tests.methods.support.cases import FOLDER

Capture = pytest.CaptureFixture[str]
SLUGS = sorted({path.parent.name for path in FOLDER.glob("*/case*.json")})


@pytest.mark.parametrize("slug", SLUGS)
def test_every_stored_output_agrees(slug: str) -> None:
    rows = replay(FOLDER / slug)
    bad = [row.line() for row in rows if row.status != "ok"]
    assert rows and not bad, "\n".join(bad)


def test_a_method_without_adapter_is_named_and_does_not_fail(tmp_path: Path, capsys: Capture) -> None:
    case = next((FOLDER / "grpo").glob("case1.json"))
    (tmp_path / "unheard-of").mkdir()
    for file in (case, case.with_suffix(".npz")):
        (tmp_path / "unheard-of" / file.name).write_bytes(file.read_bytes())
    assert main(tmp_path, FOLDER) == 0
    assert "no adapter" in capsys.readouterr().out


def test_a_failing_output_sets_the_exit_code(tmp_path: Path, capsys: Capture) -> None:
    adapter = tmp_path / "steer" / "adapter.py"
    adapter.parent.mkdir()
    adapter.write_text("def outputs(case):\n    return {'out_loss': case['out_loss'] * 1.001}\n")
    assert main(FOLDER / "steer", tmp_path) == 1
    out = capsys.readouterr().out
    assert "FAIL" in out and "the adapter does not return it" in out


def test_a_broken_adapter_fails_its_cases_only(tmp_path: Path) -> None:
    (tmp_path / "steer").mkdir()
    (tmp_path / "steer" / "adapter.py").write_text(
        "def outputs(case):\n    return case.hp['no such thing']\n"
    )
    rows = replay(FOLDER / "steer", tmp_path)
    assert {row.status for row in rows} == {"FAIL"} and "KeyError" in rows[0].note


def test_not_covered_is_printed_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "steer").mkdir()
    (tmp_path / "steer" / "adapter.py").write_text(
        "NOT_COVERED = {'out_loss': 'because'}\ndef outputs(case):\n"
        "    return {k: v for k, v in case.arrays.items() if k != 'out_loss'}\n"
    )
    rows = replay(FOLDER / "steer", tmp_path)
    assert {(r.status, r.note) for r in rows if r.output == "out_loss"} == {("not covered", "because")}


def test_missing_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder"):
        replay(tmp_path / "none", FOLDER)
    with pytest.raises(UserError, match="holds no"):
        replay(tmp_path, FOLDER)
    with pytest.raises(UserError, match="adapters' folder"):
        replay(FOLDER, tmp_path / "none")
    assert load_adapter(FOLDER / "none") is None


def vectors(folder: Path) -> Path:
    """A copy of one case of steer, as somebody else's vectors would lie."""
    (folder / "steer").mkdir()
    for file in (FOLDER / "steer").glob("case1.*"):
        (folder / "steer" / file.name).write_bytes(file.read_bytes())
    return folder


def test_vectors_elsewhere_take_the_adapter_beside_them_or_the_checkouts(tmp_path: Path) -> None:
    rows = replay(vectors(tmp_path))
    assert rows and {row.status for row in rows} == {"ok"}
    (tmp_path / "steer" / "adapter.py").write_text("def outputs(case):\n    return {}\n")
    assert {row.status for row in replay(tmp_path / "steer")} == {"FAIL"}


def test_without_any_adapter_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="run from a checkout"):
        replay(vectors(tmp_path))


MASK = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])


@pytest.mark.parametrize(
    ("name", "ours", "stored", "ok"),
    [
        ("out_x", np.full((2, 3), 7.0), np.where(MASK > 0, 7.0, 1.0), True),  # padding is not compared
        (
            "out_grad_x",
            np.full((2, 3), 7.0),
            np.where(MASK > 0, 7.0, 0.0),
            False,
        ),  # but gradients are 0 there
        ("out_x", np.float64(1 + 0.9e-6), np.array(1.0), True),
        ("out_x", np.float64(1 + 1.1e-6), np.array(1.0), False),
        ("out_x", np.array([np.nan]), np.array([1.0]), False),
        ("out_x", np.array([np.inf, np.nan]), np.array([np.inf, np.nan]), True),
        ("out_x", np.zeros(2), np.zeros(3), False),
        ("out_x", np.full((4, 2, 3), 2.0), np.where(MASK > 0, 2.0, 1.0) * np.ones((4, 1, 1)), True),
        ("out_grad_x", np.ones((2, 3, 5)), np.ones((2, 3, 5)) * MASK[..., None], False),
    ],
)
def test_comparison_rule(name: str, ours: np.ndarray, stored: np.ndarray, ok: bool) -> None:
    assert (compare(name, ours, stored, MASK, 1e-6, 1e-12)[2] == "") is ok
