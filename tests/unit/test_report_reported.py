"""The papers' own numbers: the file that ships, and what the loader refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.registry import cards, methods
from harness.report.data.reported import COLUMNS, baseline_of, load_reported
from harness.util.errors import UserError

REPORTED = Path(__file__).parents[2] / "results" / "reported.csv"
ROW = "steer,steer,,,Qwen2.5-Math-7B,aime24,avg@32,36.2,percent,2510.10150,results table,yes,"
GRPO = "steer,grpo,,,Qwen2.5-Math-7B,aime24,avg@32,28.0,percent,2510.10150,results table,yes,"


def write(folder: Path, *rows: str) -> Path:
    path = folder / "reported.csv"
    path.write_text("\n".join([",".join(COLUMNS), *rows, ""]), encoding="utf-8")
    return path


def test_the_shipped_file_is_sound() -> None:
    rows = load_reported(REPORTED)
    averages = [r for r in rows if (r.paper, r.method, r.benchmark) == ("clip-cov", "kl-cov", "average")]
    gains = {r.model: r.value - (baseline_of(r, rows) or r).value for r in averages}
    assert gains == pytest.approx({"Qwen2.5-7B": 2.0, "Qwen2.5-32B": 6.4})


def test_every_named_baseline_has_a_value() -> None:
    rows = load_reported(REPORTED)
    compared = [row for row in rows if row.baseline and row.unit != "points"]
    assert len(rows) > 1300 and len({row.paper for row in rows}) > 50 and len(compared) > 600
    lost = [row.line for row in compared if baseline_of(row, rows) is None]
    assert not lost, f"lines {lost}: no line of the baseline has the same conditions"


def card_numbers(body: str) -> Iterator[str]:
    """Numbers in the cells of the tables under a card's ``## Reported``; cells with words are labels."""
    section = re.search(r"^## Reported.*?(?=^## |\Z)", body, re.M | re.S)
    for line in section.group(0).splitlines() if section else ():
        for cell in line.split("|")[1:-1]:
            if not re.search(r"[A-Za-z]", cell):
                yield from re.findall(r"\d+(?:\.\d+)?", cell)


def test_cards_and_file_print_the_same_numbers() -> None:
    """A number in a card's table stands in the file, with the card's paper as its source."""
    rows = load_reported(REPORTED)
    compared = 0
    for entry in methods.entries().values():
        card = cards.read_card(entry)
        values = {row.value for row in rows if row.arxiv in card.arxiv}
        for number in card_numbers(card.body):
            assert float(number) in values, (
                f"{entry.card_path.name} prints {number}, which results/reported.csv does not have for "
                f"arXiv {card.arxiv}: enter it there, or mend the card"
            )
            compared += 1
    assert compared > 100


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (ROW.replace("avg@32", "avg@0"), "metric 'avg@0'"),
        (ROW.replace("avg@32", "acuracy"), "did you mean accuracy"),
        (ROW.replace("percent", "per cent"), "did you mean percent"),
        (ROW.replace("36.2", "362"), "362 cannot be a value in percent"),
        (ROW.replace("36.2", "36,2"), "14 values for 13 columns"),
        (ROW.replace("36.2", "nan"), "cannot be a value"),
        (ROW.replace("36.2", "~36"), "'~36' is not a number"),
        (ROW.replace("2510.10150", "2510.1015O"), "is no id such as"),
        (ROW.replace("aime24", "average"), "an average needs a note"),
        (ROW.replace(",yes,", ",no,"), "not certain needs a note"),
        (ROW.replace(",yes,", ",maybe,"), "write yes or no"),
        (ROW.replace("percent", "points"), "name it"),
        (ROW.replace("steer,steer,", "steer,ster,"), "did you mean steer"),
        (ROW.replace("steer,steer,", "steer,our method,"), "neither a slug nor a name with a capital"),
        (ROW.replace("steer,steer,,", "steer,steer,dapo,"), "baseline 'dapo' has no line of this paper"),
        (ROW.replace("steer,steer,", "steer, steer,"), "spaces around 'method'"),
        (ROW.replace(",Qwen2.5-Math-7B,", ",,"), "'model' is empty"),
        (GRPO.replace("28.0", "29.0"), "says the same as line 2"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_line(tmp_path: Path, row: str, complaint: str) -> None:
    path = write(tmp_path, GRPO, row)
    with pytest.raises(UserError, match=re.escape(complaint)) as refused:
        load_reported(path)
    assert f"{path.name}:3" in str(refused.value)


def test_a_baseline_is_found_only_under_the_same_conditions(tmp_path: Path) -> None:
    rows = load_reported(write(tmp_path, GRPO, ROW.replace("steer,steer,,", "steer,steer,grpo,")))
    assert baseline_of(rows[1], rows) == rows[0]
    assert baseline_of(rows[0], rows) is None
    other = load_reported(
        write(tmp_path, GRPO.replace("aime24", "aime25"), ROW.replace("steer,steer,,", "steer,steer,grpo,"))
    )
    assert baseline_of(other[1], other) is None


def test_the_baseline_has_the_conditions_that_apply_to_it(tmp_path: Path) -> None:
    def row(method: str, base: str, setting: str, value: float) -> str:
        plain = ROW.replace("steer,steer,,,", f'steer,{method},{base},"{setting}",')
        return plain.replace("36.2", str(value))

    rows = load_reported(
        write(
            tmp_path,
            row("grpo", "", "easy", 1),
            row("grpo", "", "hard", 2),
            row("steer", "grpo", "step 3, hard", 3),
        )
    )
    assert baseline_of(rows[2], rows) == rows[1]
    assert baseline_of(replace(rows[2], setting="step 3"), rows) is None


def test_files_that_are_no_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        load_reported(tmp_path / "missing.csv")
    (tmp_path / "reported.csv").write_text("paper,method\n", encoding="utf-8")
    with pytest.raises(UserError, match="the first line must be paper,method,baseline"):
        load_reported(tmp_path / "reported.csv")
