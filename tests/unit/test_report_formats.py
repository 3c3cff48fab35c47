"""LaTeX and JSON of the leaderboard: complete, safe, and true to the tables."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.records.record import Evaluation
from harness.report.data.groups import Group
from harness.report.data.provenance import judged_by, run_facts
from harness.report.data.reported import Reported
from harness.report.render.files import write_report
from harness.report.render.latex import escape
from harness.report.render.plain_json import json_text
from harness.report.render.plot_data import report_data
from harness.report.tables.build import build_report
from tests.helpers.records import typed
from tests.unit.test_report import EXPECTED, make_record, standard, table

ROOT = Path(__file__).parent.parent.parent

ODD = r"50% of $x_1$ & #2 {a} \b ~ ^ <c> | “q” é 漢"


def with_law() -> list[dict[str, Any]]:
    """The standard records with the training entropy before every checkpoint, as newer runs have it."""
    records = standard()
    for record in records:
        for point in record["frontier"]:
            point["entropy_nats"] = 1 - point["step"] / 160
    return records


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("formats")
    write_report(typed(with_law()), out, title="Demo", subtitle=ODD, expected_seeds=EXPECTED)
    return out


def test_latex_is_a_whole_document_with_every_row(folder: Path) -> None:
    text = (folder / "leaderboard.tex").read_text()
    assert text.isascii() or "é" in text
    assert re.sub(r"[^\x00-\x7fé]", "", text) == text  # what an engine without fonts for it could not set
    stack: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert stack == []
    plain = re.sub(r"\\[{}\\]", "", text)
    assert plain.count("{") == plain.count("}")
    for body in re.findall(r"\\begin\{tabular\}\{@\{\}(\w+)@\{\}\}(.*?)\\end\{tabular\}", text, re.S):
        rows = [line for line in body[1].splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(body[0]) - 1}
        assert body[1].count(r"\toprule") == body[1].count(r"\bottomrule") == 1
    assert r"worse" in text and r"\emph{Reconstructions (never ranked)}" in text and "{Entropy}" in text


def test_latex_escapes_what_would_be_a_command() -> None:
    assert escape("50% & a_b") == r"50\% \& a\_b"
    assert escape(r"\input{x}") == r"\textbackslash{}input\{x\}"
    assert escape("−1.0 ± 2 → 漢") == r"$-$1.0 $\pm$ 2 $\to$ ?"


def test_latex_compiles(folder: Path, tmp_path: Path) -> None:
    engine = shutil.which("pdflatex")
    if engine is None:
        pytest.skip("no pdflatex here; install texlive-latex-recommended")
    command = [engine, "-interaction=nonstopmode", "-halt-on-error", f"-output-directory={tmp_path}"]
    done = subprocess.run([*command, str(folder / "leaderboard.tex")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout, re.findall(r"Overfull.*", done.stdout)
    assert (tmp_path / "leaderboard.pdf").stat().st_size > 10_000


def test_json_has_what_the_tables_show_and_the_runs_behind_it(folder: Path) -> None:
    data = json.loads((folder / "leaderboard.json").read_text())
    files = {"leaderboard.csv": (folder / "leaderboard.csv").read_bytes()}
    printed = table(files)
    lines = {line["row"]: line for line in data["tables"][0]["lines"]}
    assert len(lines) == len(printed) == len(data["rows"]) == 10
    for row in data["rows"]:
        line = lines[row["id"]]
        told = printed[row["method"]]["delta_low"]
        assert (f"{line['delta_low']:.6g}" if line["delta_low"] is not None else "") == told
        assert line["pass_at"]["1"] == pytest.approx(float(printed[row["method"]]["pass@1"]), abs=1e-5)
        assert [run["seed"] for run in row["runs"]] == line["seeds"]
        for run in row["runs"]:
            assert {"run_id", "commit", "config_hash", "method_hash", "determinism", "hardware"} <= set(run)
            assert set(run["evals"]) == {"test_id", "test_hard", "test_ood"}
    better = next(row for row in data["rows"] if row["method"] == "better")
    assert better["tuning_choice"] == {"lr": 1e-4} and better["runs"][0]["budget"]["updates"] == 640
    assert len(better["law"]["points"]) == 3 and better["law"]["applies"] is True
    assert better["passk"]["mean"][0] == pytest.approx(lines["method/better"]["pass_at"]["1"], abs=1e-5)
    assert max(map(len, (folder / "leaderboard.json").read_text().splitlines())) < 2000


def test_every_cell_of_the_committed_leaderboard_leads_to_its_provenance() -> None:
    data = json.loads((ROOT / "results" / "micro" / "leaderboard.json").read_text())
    sets = [own["name"] for own in data["tables"] if own["name"] != "average"]
    rows = {row["id"]: row for row in data["rows"]}
    for own in data["tables"]:
        assert len(own["lines"]) == len(rows) > 20
        for line in own["lines"]:
            row = rows[line["row"]]
            assert [run["seed"] for run in row["runs"]] == line["seeds"] != []
            assert row["tuning_choice"] if row["tuned"] else row["role"] == "base", row["id"]
            for run in row["runs"]:
                for key in ("commit", "config_hash", "method_hash", "hardware", "determinism", "run_id"):
                    assert run[key] not in ("", "not recorded"), (row["id"], key)
                assert {"generated_tokens", "updates", "extra_forward_tokens", "wall_s"} <= set(run["budget"])
                for name in sets:
                    judged = run["evals"][name]
                    assert judged["graded_by"] == f"{run['benchmark']} verifier"
                    assert re.fullmatch(
                        r"the run's own sampling \(n 64, temperature [\d.]+, at most 24 tokens\)",
                        judged["profile"],
                    )


def test_who_graded_comes_from_the_record_where_it_says_so() -> None:
    row = make_record("x", 1, 0.0)
    del row["commit"]
    (record,) = typed([row])
    entry = Evaluation(n=8, correct=[], profile="standard", profile_hash="p1", graded_by="math@3")
    assert judged_by(record, entry) == {"profile": "standard", "graded_by": "math@3"}
    assert judged_by(record, Evaluation(n=8, correct=[], profile="standard"))["graded_by"] == "not recorded"
    assert judged_by(record, Evaluation(n=8, correct=[])) == {
        "profile": "the run's own sampling (n 8)", "graded_by": "micro@1 verifier"
    }  # fmt: skip
    assert run_facts(record)["commit"] == "not recorded"


def test_the_law_and_the_entropies_have_tables(folder: Path) -> None:
    text = (folder / "leaderboard.md").read_text()
    assert "- **Law.**" in text and "Fewer than three seeds give no interval" in text
    assert "## Entropy" in text and "## Score against entropy" in text
    law = text.split("## Score against entropy")[1].split("## ")[0]
    assert "| better | " in law and "| yes |" in law and "no: trained" not in law
    assert "| base" not in law  # it was not trained
    collapse = text.split("## Entropy")[1].split("## ")[0]
    assert re.search(r"\| better .*\| none \|", collapse)


def _nudged(value: Any) -> Any:
    """The report with every computed number moved by the rounding error of another processor, and more."""
    if isinstance(value, (Group, Reported)):
        return value
    if isinstance(value, float):
        return value * (1 + 1e-12)
    if isinstance(value, np.ndarray):
        return value * (1 + 1e-12)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value) if field.init]
        return dataclasses.replace(value, **{name: _nudged(getattr(value, name)) for name in fields})
    if isinstance(value, Mapping):
        return {key: _nudged(part) for key, part in value.items()}
    return type(value)(map(_nudged, value)) if isinstance(value, (list, tuple)) else value


def test_the_last_digits_of_a_processor_change_no_byte() -> None:
    rows = typed(with_law())
    report = build_report(rows, title="t", subtitle="", expected_seeds=EXPECTED, reference="grpo")
    other = _nudged(report)
    first = report.tables[0].lines[0].numbers
    assert any(first[key] != value for key, value in other.tables[0].lines[0].numbers.items())
    assert report.discipline["method/better"].law is not None
    assert json_text(report_data(other)) == json_text(report_data(report))
