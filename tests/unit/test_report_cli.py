"""``entrobench report``: selections, comparisons, and the tables of the README, which have to be current."""

from __future__ import annotations

import csv
import json
import pickle
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.cli.readme import filled
from harness.report.analysis.model import Report
from harness.sweep.jobs import Runs
from harness.sweep.plan import make_plan
from harness.sweep.spec import load_sweep
from harness.util.errors import UserError
from tests.unit.test_report import rows_of, standard
from tests.unit.test_report_settings import _records
from tests.unit.test_sweep_rivals import finish

ROOT = Path(__file__).parent.parent.parent


def write(folder: Path, records: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def read(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]


def test_the_tables_of_the_readme_are_current() -> None:
    text = (ROOT / "README.md").read_text()
    assert filled(text, ROOT) == text, "run: entrobench report --readme README.md"
    language = text.split("<!-- table: sweeps/std-small.yaml -->")[1].split("<!-- end of table -->")[0]
    assert "| steer |" in language and "sweep submit sweeps/std-small.yaml" in language
    assert "GPU-hours for all" in language


def test_a_file_without_markers_is_refused() -> None:
    with pytest.raises(UserError, match="mark its place by"):
        filled("# nothing", ROOT)


@pytest.mark.usefixtures("unpainted")
def test_a_selection_has_a_folder_of_its_own(tmp_path: Path, capsys: Any) -> None:
    folder = write(tmp_path, standard())
    head = {"title": "Kept", "subtitle": "", "planned": [
        {"model": "micro-base", "training_set": "micro", "seeds": {"grpo": 3, "absent": 3}}]}  # fmt: skip
    (folder / "leaderboard.head.json").write_text(json.dumps(head))
    assert main(["report", str(folder), "--select", "methods=[better]", "tracks=[main]"]) == 0
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["selected"]
    text = (folder / "selected" / "leaderboard.md").read_text()
    assert text.startswith("# Kept") and "Selected: tracks main; methods better" in text
    assert "| better |" in text and "| worse" not in text and "absent" not in text
    assert not (folder / "leaderboard.md").exists()
    assert main(["report", str(folder), "--select", "methods=[bettr]"]) == 2
    assert "better" in capsys.readouterr().err


def test_two_folders_are_compared_on_the_console(tmp_path: Path, capsys: Any) -> None:
    first = write(tmp_path / "a", rows_of("grpo", 0.0) + rows_of("steer", 0.0) + rows_of("old", 0.1))
    changed = [r | {"run_id": r["run_id"] + "x", "method_hash": "m9"} for r in rows_of("steer", 0.2)]
    second = write(tmp_path / "b", rows_of("grpo", 0.0) + changed)
    assert main(["report", "--compare", str(first), str(second)]) == 0
    told = capsys.readouterr().out
    line = next(line for line in told.splitlines() if "steer" in line)
    assert "p < 0.001" in line and "+" in line and "method's code" in line
    assert "the same runs" in next(line for line in told.splitlines() if "grpo" in line)
    assert "only in A: old" in told
    folder = tmp_path / "compare" / "a-vs-b"
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(files) == ["compare.csv", "compare.json", "compare.md"]
    assert all(str(folder / name) in told for name in files)
    assert b"method's code" in files["compare.md"] and str(tmp_path).encode() not in b"".join(files.values())
    rows = {row["method"]: row for row in csv.DictReader(files["compare.csv"].decode().splitlines())}
    data = json.loads(files["compare.json"])
    steer = next(row for row in data["rows"] if row["method"] == "steer")
    assert float(rows["steer"]["difference"]) == pytest.approx(steer["difference"], abs=1e-5)
    assert steer["p"] < 0.001 and rows["grpo"]["same_runs"] == "true" and rows["grpo"]["p_holm"] == ""
    assert data["only_first"] == ["old"] and data["sets"] == ["test_id", "test_hard", "test_ood"]
    elsewhere = [write(tmp_path / "far" / name, read(tmp_path / name)[::-1]) for name in "ab"]
    to = tmp_path / "chosen"
    assert main(["report", "--compare", *map(str, elsewhere), "--to", str(to)]) == 0
    assert {path.name: path.read_bytes() for path in to.iterdir()} == files, "equal records, equal bytes"
    assert not (tmp_path / "far" / "compare").exists()
    assert main(["report", str(first), "--to", str(to)]) == 2
    (elsewhere[0] / "records.jsonl").open("a").write("{broken\n")
    assert main(["report", "--compare", *map(str, elsewhere), "--to", str(to)]) == 1, "a record was left out"
    assert main(["report", str(first), "--compare", str(first), str(second)]) == 2
    assert main(["report"]) == 2


def test_sweeps_of_several_places_are_compared_place_by_place(tmp_path: Path, capsys: Any) -> None:
    records = _records()
    first = write(tmp_path / "a", records)
    kept = [record for record in records if record["training_set"] == "math"]
    second = write(tmp_path / "b", [r | {"run_id": f"{r['run_id']}x"} for r in kept])
    assert main(["report", "--compare", str(first), str(second)]) == 0
    told = capsys.readouterr().out
    assert "only in A: a/small on gsm8k" in told and "a/small on math" in told
    made = sorted(path.name for path in (tmp_path / "compare" / "a-vs-b").iterdir())
    assert made == ["a-small-math", "b-other-math"]
    alone = write(tmp_path / "c", [record | {"training_set": "else"} for record in kept])
    assert main(["report", "--compare", str(first), str(alone)]) == 2


@pytest.mark.usefixtures("unpainted")
def test_the_page_of_several_places_holds_all_and_ours_stands_beside_the_papers(tmp_path: Path) -> None:
    records = _records()
    for record in records:
        record["evals"] = {name.replace("test_hard", "math500"): e for name, e in record["evals"].items()}
    out = write(tmp_path / "results" / "many", records)
    header = "paper,method,baseline,setting,model,benchmark,metric,value,unit,arxiv,source,certain,note\n"
    line = "dapo,dapo,,,small,math500,avg@8,61.5,percent,2503.14476,table 1,yes,\n"
    (tmp_path / "results" / "reported.csv").write_text(header + line)
    (tmp_path / "docs" / "methods").mkdir(parents=True)
    (tmp_path / "docs" / "methods" / "dapo.md").write_text("# DAPO")
    assert main(["report", str(out)]) == 0
    page = (out / "leaderboard.html").read_text()
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    models = [(setting["model"], setting["training_set"]) for setting in data["places"]]
    assert models == [("a/small", "gsm8k"), ("a/small", "math"), ("b/other", "math")]
    links = {row["page"] for row in data["places"][0]["rows"] if row["method"] == "dapo"}
    assert links == {"../../docs/methods/dapo.md"}
    inner = json.loads((out / "a-small-math" / "leaderboard.json").read_text())
    assert inner["reported"][0]["value"] == 61.5 and 0 < inner["reported"][0]["ours"] < 100
    text = (out / "a-small-math" / "leaderboard.md").read_text()
    assert "## Reported and reproduced" in text and "| dapo | small | math500 | avg@8 | 61.5 |" in text
    assert "1 of 1 printed numbers" in text


@pytest.fixture(scope="module")
def painted_once() -> Iterator[None]:
    """Equal reports share their pictures, which each test compares with the committed files."""
    from harness.report.render import files

    paint, known = files.draw_figures, dict[bytes, dict[str, bytes]]()

    def once(report: Report) -> dict[str, bytes]:
        key = BytesIO()
        pickler = pickle.Pickler(key)
        pickler.fast = True  # without what says that two equal values are one
        pickler.dump(report)
        if key.getvalue() not in known:
            known[key.getvalue()] = paint(report)
        return known[key.getvalue()]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "draw_figures", once)
        yield


@pytest.mark.usefixtures("painted_once")
@pytest.mark.parametrize("name", ["micro", "pocket"])
def test_the_committed_leaderboard_is_rebuilt_byte_by_byte(name: str, tmp_path: Path) -> None:
    source, out = ROOT / "results" / name, tmp_path / "results" / name
    out.mkdir(parents=True)
    for given in [*source.glob("*.jsonl"), *source.glob("*.head.json")]:
        shutil.copy(given, out)
    shutil.copy(ROOT / "results" / "reported.csv", tmp_path / "results")
    shutil.copytree(ROOT / "docs" / "methods", tmp_path / "docs" / "methods")
    assert main(["report", str(out)]) == 0
    made = sorted(path.name for path in out.iterdir())
    assert {"leaderboard.html", "leaderboard.md", "leaderboard.tex", "delta.png", "law.png"} < set(made)
    differing = [name for name in made if (out / name).read_bytes() != (source / name).read_bytes()]
    assert differing == [], f"run: entrobench report results/{name}"


@pytest.mark.usefixtures("painted_once")
def test_the_committed_leaderboard_stays_whatever_runs_there_are(tmp_path: Path) -> None:
    """Byte by byte, also by the sweep file: a run of today's code has an identity that it plans."""
    shutil.copytree(ROOT / "results" / "micro", tmp_path / "results" / "micro")
    shutil.copy(ROOT / "results" / "reported.csv", tmp_path / "results")
    shutil.copytree(ROOT / "docs" / "methods", tmp_path / "docs" / "methods")
    words = [f"runs_dir={tmp_path / 'runs'}", f"results_dir={tmp_path / 'results'}"]
    sweep = load_sweep(ROOT / "sweeps" / "micro.yaml", words)
    finish(next(job for job in make_plan(sweep, Runs()) if job.label == "grpo"), "cccc333", 1.0)
    assert main(["report", str(ROOT / "sweeps" / "micro.yaml"), *words]) == 0
    made = {path.name: path.read_bytes() for path in (tmp_path / "results" / "micro").iterdir()}
    assert made == {path.name: path.read_bytes() for path in (ROOT / "results" / "micro").iterdir()}
