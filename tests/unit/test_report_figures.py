"""The pictures: every row is in them, few rows share a panel, and what is far out squeezes nobody."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from harness.report.analysis.model import Report
from harness.report.render.figures import panels as panels_module
from harness.report.render.figures.canvas import plain_matplotlib
from harness.report.render.figures.draw import FIGURES, captions, draw_figures
from harness.report.render.figures.forest import _reach, draw_forest, forest_blocks
from harness.report.render.figures.panels import draw_picture
from harness.report.render.figures.pictures import (
    entropy,
    frontier,
    law,
    over_training,
    passk,
    spent,
)
from harness.report.tables.build import build_report
from tests.helpers.records import typed
from tests.unit.test_report import card, make_record, rows_of, standard


def built(records: list[dict[str, Any]]) -> Report:
    return build_report(typed(records), title="t", subtitle="", expected_seeds=None, reference="grpo")


def many(count: int) -> Report:
    """``count`` rows of half as many families beside the reference, a control and the base model."""
    records = [
        *rows_of("base", -0.15, [0], role="base", activity=None, budget={}),
        *rows_of("grpo", 0.0, activity=None),
        *rows_of("coins", -0.14, role="control"),
        *rows_of("other-temperature", 0.05, role="control", changes={"eval.temperature": 0.6}),
    ]
    for index in range(count):
        rebuilt = card(reconstruction=index == 0)
        records += rows_of(f"m{index // 2}@{'ab'[index % 2]}", index / 500, method_card=rebuilt)
    for record in records:
        for point in record["frontier"]:
            point["entropy_nats"] = 1 - point["step"] / 160
    return built(records)


@pytest.fixture(scope="module")
def report() -> Report:
    return many(14)


def size(content: bytes) -> tuple[int, int]:
    return Image.open(BytesIO(content)).size


def test_the_forest_orders_rows_and_sets_controls_apart(report: Report) -> None:
    blocks = dict(forest_blocks(report))
    assert list(blocks) == ["Methods", "Reconstructions", "Controls"]
    assert [line.group.method for line in blocks["Reconstructions"]] == ["m0@a"]
    assert {line.group.method for line in blocks["Controls"]} == {"base", "coins", "other-temperature"}
    deltas = [line.delta for line in blocks["Methods"]]
    assert deltas == sorted(deltas, reverse=True, key=float)  # type: ignore[arg-type]
    assert len(deltas) == 13 and "grpo" not in {line.group.method for line in blocks["Methods"]}


def test_the_forest_grows_with_its_rows_and_is_not_squeezed(report: Report) -> None:
    with plain_matplotlib():
        heights = [size(draw_forest(built(rows)))[1] for rows in (standard(), standard()[:19])]
    assert heights[0] > heights[1]
    lines = [line for _, block in forest_blocks(report) for line in block]
    detectable = report.tables[0].detectable
    assert detectable is not None
    left, right = _reach(detectable, lines)
    far = [line for line in lines if abs(line.delta or 0.0) > 4 * detectable]
    assert {line.group.method for line in far} >= {"base", "coins"}
    assert all(100 * (line.delta or 0.0) < left for line in far)
    for line in (line for line in lines if line not in far and line.delta_interval):
        assert left < 100 * line.delta_interval[0] < 100 * line.delta_interval[1] < right  # type: ignore[index]
    assert left < -100 * detectable and right > 100 * detectable


def drawn_panels(
    monkeypatch: pytest.MonkeyPatch, report: Report, picture: Any
) -> list[tuple[str, list[str]]]:
    """Titles of the panels and the rows drawn in each, as the picture is made."""
    seen: list[tuple[str, list[str]]] = []
    dress = panels_module._dress

    def watched(axes: Any, name: str, own: Any) -> None:
        seen.append((name, [row.group.method for row in own]))
        dress(axes, name, own)

    monkeypatch.setattr(panels_module, "_dress", watched)
    with plain_matplotlib():
        assert size(draw_picture(report, picture))[0] == 1260
    return seen


def test_many_rows_get_a_panel_for_each_family(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    found = drawn_panels(monkeypatch, report, frontier(report))
    assert {name: sorted(rows) for name, rows in found[:-1]} == {
        f"m{i}": [f"m{i}@a", f"m{i}@b"] for i in range(7)
    }
    assert found[-1] == ("controls", ["coins"]), "another temperature has the training of its method"
    monkeypatch.undo()
    found = drawn_panels(monkeypatch, report, passk(report))
    assert set(found[-1][1]) == {"coins", "other-temperature"}
    assert {row for _, rows in found[:-1] for row in rows} == {f"m{i}@{v}" for i in range(7) for v in "ab"}


def test_few_rows_share_one_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    few = built(standard())
    for picture in (frontier(few), passk(few)):
        assert drawn_panels(monkeypatch, few, picture) == []
        monkeypatch.undo()


def test_a_legend_names_only_what_can_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line through a single point is not there, though the legend would show it."""
    figures: list[Any] = []
    monkeypatch.setattr(panels_module, "png", lambda figure: figures.append(figure) or b"")
    few = many(4)
    with plain_matplotlib():
        for picture in (
            entropy(),
            over_training(few, False),
            over_training(few, True),
            spent(few),
            passk(few),
        ):
            draw_picture(few, picture)
    shown = [line for figure in figures for axes in figure.axes for line in axes.get_lines()]
    named = [line for line in shown if not line.get_label().startswith("_")]
    assert len(figures) == 5 and any(line.get_label() == "base model" for line in named)
    for line in named:
        assert len(line.get_xdata()) > 1 or line.get_marker() not in (None, "None", ""), line.get_label()


def test_more_families_than_a_picture_holds_are_counted(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(panels_module, "MAX_PANELS", 4)
    found = drawn_panels(monkeypatch, report, entropy())
    assert [name for name, _ in found][-1] == "controls" and len(found) == 4


def test_pass_k_of_many_rows_is_a_difference_to_the_reference(report: Report) -> None:
    picture = passk(report).against
    assert picture is not None
    groups = {group.method: group for group in report.groups}
    zero, better = picture.of(groups["grpo"]), picture.of(groups["m6@b"])
    assert zero is not None and better is not None and not zero.y.any()
    expected = 100 * (_score(report, "m6@b") - _score(report, "grpo"))
    assert better.y[0] == pytest.approx(expected) and list(better.x[:3]) == [1, 2, 3]


def test_the_caption_says_which_pass_k_is_drawn(report: Report) -> None:
    told = captions(report)["passk.png"]
    base = next(line for line in report.tables[0].lines if line.group.method == "base")
    assert "minus that of grpo" in told
    assert f"base model: {100 * (base.delta or 0.0):+.1f} points at k = 1".replace("-", "−") in told
    assert "base model's curve" in captions(built(standard()))["passk.png"]


def test_what_leaves_its_panel_is_named_and_not_in_a_legend(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    note = panels_module._panel_note

    def kept(picture: Any, leaving: Any) -> str:
        notes.append(note(picture, leaving))
        return notes[-1]

    monkeypatch.setattr(panels_module, "_panel_note", kept)
    legends: dict[str, list[str]] = {}
    dress = panels_module._dress

    def watched(axes: Any, name: str, own: Any) -> None:
        dress(axes, name, own)
        found = axes.get_legend()
        legends[name] = [text.get_text() for text in found.get_texts()] if found else []

    monkeypatch.setattr(panels_module, "_dress", watched)
    with plain_matplotlib():
        draw_picture(report, passk(report))
    assert "coins" in notes[0].split("outside its panel: ")[1]
    assert "coins" not in legends["controls"] and legends["m1"] == ["b", "a"]


def _score(report: Report, method: str) -> float:
    return next(line.pass_at[1] for line in report.tables[0].lines if line.group.method == method)


def test_the_law_is_drawn_where_a_row_has_a_fit(report: Report) -> None:
    picture = law(report)
    grpo = next(group for group in report.groups if group.method == "grpo")
    series, fit = picture.of(grpo), report.discipline["method/grpo"].law
    assert series is not None and fit is not None and series.dots is not None
    assert series.dots.shape == (sum(map(len, fit.points)), 2) and series.applies == fit.applies
    end = 100 * (fit.b.value - fit.a.value * 2.718281828459045 ** series.x[-1])
    assert series.y[-1] == pytest.approx(end) and series.x[-1] == series.dots[:, 0].max()
    assert law(built(rows_of("grpo", 0.0))).of(built([make_record("grpo", 1, 0.0)]).groups[0]) is None


def test_all_pictures_are_there_without_any_record() -> None:
    drawn = draw_figures(built([]))
    assert list(drawn) == list(FIGURES) and all(size(content)[1] > 300 for content in drawn.values())
