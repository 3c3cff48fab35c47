"""The report from synthetic records: ranks, blocks, marks, refusals, and equal bytes for equal records."""

from __future__ import annotations

import copy
import csv
import io
import json
import random
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.report.render.files import render_terminal, write_report
from tests.helpers.records import typed

Record = dict[str, Any]
PROBLEMS = 60
SETS = {"test_id": 0.0, "test_hard": -0.12, "test_ood": -0.06}


def make_record(
    method: str, seed: int, level: float, *, n: int = 64, problems: int = PROBLEMS, **changes: Any
) -> Record:
    """A record whose problems are as hard for every method, shifted by ``level`` and the seed's luck."""
    rng = np.random.default_rng([seed, sum(map(ord, method))])
    hard = np.random.default_rng(1).beta(1.2, 1.2, size=problems)
    luck = 0.004 * rng.standard_normal()

    def counts(shift: float) -> list[int]:
        return [int(c) for c in rng.binomial(n, np.clip(hard + level + shift + luck, 0, 1))]

    ids = [f"p{i:03d}" for i in range(problems)]
    evals = {
        name: {
            "n": n,
            "correct": counts(shift),
            "problem_ids": ids,
            "distinct": [3] * problems,
            "maj": {"8": 0.4},
            "mean_length": 21.5,
            "truncated": 0.01,
            "unparsed": 0.02,
        }
        for name, shift in SETS.items()
    }
    steps = [0] if method == "base" else list(range(0, 81, 10))
    fall = 0.3 + 0.5 * level
    record: Record = {
        "schema": 2,
        "sweep": "demo",
        "run_id": f"{method}-s{seed}",
        "method": method,
        "seed": seed,
        "model": "micro-base",
        "benchmark": "micro@1",
        "method_card": {
            "title": f"{method} title",
            "track": "main",
            "reconstruction": False,
            "fidelity": "code-verified",
            "paper": "arXiv:2402.03300",
        },
        "role": "method",
        "tuned": True,
        "tuning_choice": {"lr": 1e-4},
        "hyperparameters": {"clip_high": 0.2},
        "config_hash": f"c{seed}",
        "method_hash": "m1",
        "numerics_version": 1,
        "commit": "0123456789abcdef",
        "determinism": "bitwise",
        "hardware": "cpu",
        "budget": {
            "generated_tokens": 1_234_567,
            "updates": 640,
            "steps": 80,
            "train_tokens": 900_000,
            "extra_forward_tokens": 0,
            "verifier_calls": 10_240,
            "wall_s": 61.0,
        },
        "probe": [
            {"step": s, "entropy_nats": 0.2 + 0.6 * float(np.exp(-s * fall / 10)), "generated_tokens": s}
            for s in steps
        ],
        "activity": 0.93,
        "target_tracking_error": None,
        "evals": evals,
        "frontier": [
            {"step": s, "n": 64, "correct": [int(c) for c in rng.binomial(64, hard * (0.4 + 0.005 * s))]}
            for s in steps
        ],
    }
    return record | changes


def rows_of(method: str, level: float, seeds: Sequence[int] = (1, 2, 3), **changes: Any) -> list[Record]:
    return [make_record(method, seed, level, **changes) for seed in seeds]


def card(**changes: Any) -> dict[str, Any]:
    return {**make_record("x", 1, 0.0)["method_card"], **changes}


def standard() -> list[Record]:
    return [
        *rows_of("base", -0.15, [0], role="base", activity=None, budget={}),
        *rows_of("random-reward", -0.14, role="control"),
        *rows_of("grpo", 0.0, activity=None),
        *rows_of("better", 0.12),
        *rows_of("same", 0.002, activity=0.004),
        *rows_of("worse", -0.1),
        *rows_of("rebuilt", 0.2, method_card=card(reconstruction=True, fidelity="reconstruction")),
        *rows_of("raw", 0.05, tuned=False),
        *rows_of("partial", 0.06, seeds=(1, 2)),
        *rows_of("replay", 0.03, method_card=card(track="off-policy")),
    ]


EXPECTED = dict.fromkeys(
    ["grpo", "better", "same", "worse", "rebuilt", "raw", "partial", "replay", "random-reward", "absent"], 3
)


def report(records: Sequence[Mapping[str, Any]], out: Path, **options: Any) -> dict[str, bytes]:
    options = {"title": "Demo", "subtitle": "synthetic", "expected_seeds": EXPECTED, **options}
    return {path.name: path.read_bytes() for path in write_report(typed(records), out, **options)}


def table(files: Mapping[str, bytes], name: str = "average") -> dict[str, dict[str, str]]:
    lines = csv.DictReader(io.StringIO(files["leaderboard.csv"].decode()))
    return {line["method"]: line for line in lines if line["set"] == name}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return report(standard(), tmp_path_factory.mktemp("report") / "deep")


def test_ranks_share_what_cannot_be_told_apart(files: dict[str, bytes]) -> None:
    rows = table(files)
    ranks = {name: (row["rank"], row["rank_last"]) for name, row in rows.items() if row["rank"]}
    assert ranks == {
        "better": ("1", "1"),
        "grpo": ("2", "3"),
        "same": ("2", "3"),
        "worse": ("4", "4"),
        "replay": ("1", "1"),
    }
    assert "| 2–3 | grpo |" in files["leaderboard.md"].decode()
    assert float(rows["better"]["p_holm"]) < 0.05 < float(rows["same"]["p_holm"])
    assert rows["better"]["interval_kind"] == "interval"
    assert 0.08 < float(rows["better"]["delta"]) < 0.14
    low, high = float(rows["better"]["delta_low"]), float(rows["better"]["delta_high"])
    assert 0 < low < float(rows["better"]["delta"]) < high < 0.2
    assert float(rows["same"]["delta_low"]) < 0 < float(rows["same"]["delta_high"])
    assert rows["partial"]["delta"] != "" and rows["partial"]["delta_low"] == ""  # two seeds in common


def test_controls_reconstructions_and_unranked_rows_stand_apart(files: dict[str, bytes]) -> None:
    rows = table(files)
    assert list(rows)[:2] == ["base", "random-reward"]
    assert list(rows)[-1] == "rebuilt" and rows["rebuilt"]["block"].startswith("Reconstructions")
    assert rows["replay"]["block"] == "Track: off-policy"
    main = [name for name, row in rows.items() if row["block"] == "Track: main"]
    assert main[0] == "better" and set(main[1:3]) == {"grpo", "same"}
    assert main[3:] == ["worse", "partial", "raw"]  # unranked rows below the ranked
    assert rows["raw"]["marks"] == "untuned" and rows["partial"]["marks"] == "2 of 3 seeds"
    assert (rows["base"]["interval_kind"], rows["partial"]["interval_kind"]) == ("problems", "range")
    assert rows["partial"]["p_holm"] == ""


def test_average_is_the_mean_of_the_sets_and_each_has_its_table(files: dict[str, bytes]) -> None:
    means = [float(table(files, name)["better"]["pass@8"]) for name in SETS]
    assert float(table(files)["better"]["pass@8"]) == pytest.approx(np.mean(means), abs=1e-5)
    markdown = files["leaderboard.md"].decode()
    for heading in ("Average over the test sets", "Harder (test_hard)", "What it cost"):
        assert f"## {heading}" in markdown
    assert not any(row["rank"] for row in table(files, "test_id").values())


def test_markdown_says_what_the_reader_needs(files: dict[str, bytes]) -> None:
    markdown = files["leaderboard.md"].decode()
    for text in (
        "not evidence about large models",
        "inactive here",
        "partial (2 of 3 seeds)",
        "raw (untuned)",
        "absent (0 of 3 seeds)",
        "points is found with 80 % probability",
        "- **Protocol.** Test: ",
        "*activity*: share of tokens",
        "0.80 → ",
        "1.23 M",
        "†",
        "2 of 3",
    ):
        assert text in markdown, text
    widths = {line.count("|") for line in markdown.split("## ")[1].splitlines() if line.startswith("|")}
    assert len(widths) == 1  # every row has every cell


@pytest.mark.usefixtures("unpainted")
def test_html_is_one_safe_page(tmp_path: Path) -> None:
    evil = '<script>alert("x")</script>'
    records = rows_of("grpo", 0.0) + rows_of(
        evil, 0.1, method_card=card(title=evil, paper="javascript:alert(1)")
    )
    page = report(records, tmp_path, title=evil)["leaderboard.html"].decode()
    assert evil not in page and "&lt;script&gt;" in page
    assert 'href="javascript' not in page
    assert json.loads(re.findall(r'id="data">(.*?)</script>', page, re.S)[0])["places"][0]["title"] == evil
    loaded = re.findall(r"<(?:link|img|script|iframe)[^>]*?(?:src|href)=\"(?!data:)[^\"]*\"", page)
    assert loaded == [] and "@import" not in page and "url(" not in page
    assert 'name="viewport"' in page and "https://arxiv.org/abs/2402.03300" in page
    markdown = (tmp_path / "leaderboard.md").read_text()
    assert "<script>" not in markdown.split("## ", 1)[1]


def test_equal_records_give_equal_bytes_in_any_order(
    files: dict[str, bytes], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    records = copy.deepcopy(standard())
    random.Random(4).shuffle(records)
    for record in records:  # problems and keys in another order are still the same record
        for evaluation in record["evals"].values():
            order = random.Random(record["run_id"]).sample(range(PROBLEMS), PROBLEMS)
            for key in ("correct", "problem_ids", "distinct"):
                evaluation[key] = [evaluation[key][i] for i in order]
    shuffled = [dict(reversed(record.items())) for record in standard()]
    random.Random(5).shuffle(shuffled)
    assert report(shuffled + shuffled[:3], tmp_path / "a") == files
    request.getfixturevalue("unpainted")
    assert report(records, tmp_path / "b")["leaderboard.csv"] == files["leaderboard.csv"]
    assert list(files) == [
        *(f"leaderboard.{kind}" for kind in ("md", "csv", "tex", "json", "html")),
        *("delta.png", "frontier.png", "rise.png", "fall.png", "entropy.png", "spent.png", "passk.png"),
        "law.png",
    ]
    assert all(b"Software" not in files[name] for name in files if name.endswith(".png"))


@pytest.mark.usefixtures("unpainted")
def test_all_untuned_sorts_without_ranks_and_says_so(tmp_path: Path) -> None:
    records = [
        r
        for name, level in (("grpo", 0.0), ("a", 0.1), ("b", -0.1))
        for r in rows_of(name, level, tuned=False)
    ]
    files = report(records, tmp_path)
    assert list(table(files)) == ["a", "grpo", "b"]
    assert not any(row["rank"] for row in table(files).values())
    assert "No row is tuned" in files["leaderboard.md"].decode()
    assert "grpo (untuned here)" in files["leaderboard.md"].decode()


@pytest.mark.usefixtures("unpainted")
def test_k_beyond_half_the_samples_is_hidden(tmp_path: Path) -> None:
    files = report(rows_of("grpo", 0.0, n=16) + rows_of("few", 0.1, n=4), tmp_path)
    rows = table(files)
    assert "pass@8" in rows["grpo"] and "pass@16" not in rows["grpo"]
    assert table(files, "test_id")["grpo"]["maj@8"] == "0.4" and table(files, "test_id")["few"]["maj@8"] == ""
    assert rows["few"]["pass@2"] and rows["few"]["pass@4"] == "" and rows["few"]["pass@8"] == ""


@pytest.mark.usefixtures("unpainted")
def test_fewer_than_three_seeds_print_a_range_and_no_rank(tmp_path: Path) -> None:
    files = report(rows_of("grpo", 0.0, (1, 2)) + rows_of("a", 0.1, (1, 2)), tmp_path, expected_seeds=None)
    assert {row["interval_kind"] for row in table(files).values()} == {"range"}
    assert {row["rank"] + row["p_holm"] for row in table(files).values()} == {""}
    assert "No p-value" in files["leaderboard.md"].decode()


def test_missing_data_prints_dashes_and_is_never_averaged_over(tmp_path: Path) -> None:
    records = rows_of("grpo", 0.0) + rows_of("a", 0.1)
    del records[3]["evals"]["test_ood"]
    for record in records[3:]:
        record.update(probe=[], frontier=[], budget={}, activity=None)
    files = report(records, tmp_path)
    row = table(files)["a"]
    assert row["marks"] == "evaluation incomplete" and row["rank"] == row["pass@1"] == row["updates"] == ""
    assert table(files, "test_id")["a"]["pass@1"] != "" and table(files, "test_ood")["a"]["pass@1"] == ""
    assert "| – |" in files["leaderboard.md"].decode()
    assert len(report([], tmp_path / "none")) == 13


@pytest.mark.usefixtures("unpainted")
def test_unequal_budget_is_marked(tmp_path: Path) -> None:
    budget = make_record("x", 1, 0.0)["budget"]
    more = {**budget, "generated_tokens": int(budget["generated_tokens"] * 1.25)}
    rows = table(report(rows_of("grpo", 0.0) + rows_of("a", 0.1, budget=more), tmp_path))
    assert rows["a"]["marks"] == "budget +25 %"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"benchmark": "micro@2"}, "different benchmark .*one report per benchmark version"),
        ({"numerics_version": 2}, "different numerics_version"),
        ({"model": "other"}, "different model"),
        ({"schema": 3}, "schema 3"),
        ({"role": "judge"}, "role 'judge'"),
        ({"method_hash": "m2"}, "differ in method_hash.*run the older seeds again"),
        ({"tuned": False}, "differ in tuned"),
        ({"hyperparameters": {"clip_high": 0.3}}, "differ in hyperparameters"),
        ({"seed": 1, "run_id": "again"}, "different records for seed 1"),
    ],
)
def test_what_must_not_be_mixed_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    records = rows_of("grpo", 0.0)
    with pytest.raises(ValueError, match=message):
        report([*records[:2], records[2] | changes], tmp_path)
    assert not list(tmp_path.iterdir())


def test_other_problems_are_refused(tmp_path: Path) -> None:
    records = rows_of("grpo", 0.0)
    records[2]["evals"]["test_id"]["problem_ids"] = [f"q{i}" for i in range(PROBLEMS)]
    with pytest.raises(ValueError, match="same problem set"):
        report(records, tmp_path)


def test_terminal_shows_the_headline() -> None:
    from rich.console import Console

    console = Console(width=160, file=io.StringIO(), color_system=None)
    console.print(render_terminal(typed(standard()), expected_seeds=EXPECTED))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for part in (
        "pass@1",
        "pass@32",
        "Reconstructions",
        "inactive here",
        "2 of 3",
        "untuned",
        "large models",
    ):
        assert part in text, part


def test_thousands_of_records_take_seconds(tmp_path: Path) -> None:
    small = make_record("x", 1, 0.0, problems=40)
    rng = np.random.default_rng(0)
    records = []
    for index in range(250):
        for seed in range(10):
            evals = {
                name: {**e, "correct": rng.integers(0, 65, 40).tolist()} for name, e in small["evals"].items()
            }
            records.append(
                small | {"method": f"m{index}", "seed": seed, "run_id": f"{index}-{seed}", "evals": evals}
            )
    start = time.process_time()
    report(records, tmp_path, expected_seeds=None, reference="m0")
    assert time.process_time() - start < 30
