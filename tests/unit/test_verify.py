"""``entrobench verify``: numbers hold, or it says which do not; samples may come from elsewhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from msgspec.structs import replace

from harness.cli import main
from harness.evaluation.in_run import evaluate_benchmarks
from harness.records.load import load_records
from harness.records.record import Settings, as_record
from harness.registry import benchmarks as registry
from harness.run import execute as runs
from harness.run.verify import DIFFERS, HOLDS, MISSING, verify_record
from tests.helpers.execution import configured
from tests.helpers.math_files import write_sets
from tests.helpers.records import small_record, typed
from tests.helpers.tiny import SMALL, small_run, tiny_folder, tiny_policy

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    changed = ("train.steps", "eval.splits")
    base = [s for s in SMALL if s.partition("=")[0] not in changed]
    return runs.execute(configured([
        "method=grpo", f"model.path={tiny_folder()}", *base, "train.steps=1",
        "eval.splits=[test_id,test_hard]", f"runs_dir={tmp_path_factory.mktemp('runs')}",
    ]))  # fmt: skip


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "here" / finished.name))


def _changed(folder: Path, **entry: Any) -> None:
    result = json.loads((folder / "result.json").read_text())
    result["evals"]["test_id"] |= entry
    (folder / "result.json").write_text(json.dumps(result))


def test_the_numbers_of_a_run_hold(folder: Path, capsys: Capture) -> None:
    assert main(["verify", str(folder)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[:2] for line in told] == [[folder.name, "test_hard"], [folder.name, "test_id"]]
    assert all("holds: " in line and "samples graded again" in line for line in told)


def test_wrong_numbers_are_named(folder: Path, capsys: Capture) -> None:
    result = json.loads((folder / "result.json").read_text())
    right = result["evals"]["test_id"]["correct"]
    _changed(folder, correct=[right[0] + 1, *right[1:]], truncated=0.123)
    assert main(["verify", str(folder / "result.json")]) == 1
    told = capsys.readouterr().out.splitlines()
    assert "holds" in told[0]
    assert f"correct of 1 of {len(right)} problems (the first is {right[0] + 1} and should be" in told[1]
    assert "truncated is 0.123 and should be" in told[1]


def test_other_samples_and_other_verdicts_are_noticed(folder: Path, capsys: Capture) -> None:
    path = folder / "eval" / "test_id.parquet"
    table = pd.read_parquet(path)
    table["status"] = "right"  # verdicts that nobody gave do not matter: they are graded again
    table.to_parquet(path)
    assert main(["verify", str(folder)]) == 0
    assert "verdicts changed" in capsys.readouterr().out
    table.loc[0, "text"] = "something else"
    table.to_parquet(path)
    assert main(["verify", str(folder)]) == 1
    assert "the samples are not those of the record (samples_sha256)" in capsys.readouterr().out


def test_a_record_from_another_cluster_with_its_samples(
    folder: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    record = {"role": "method", "tuned": False, **json.loads((folder / "result.json").read_text())}
    records = tmp_path / "elsewhere" / "records.jsonl"
    records.parent.mkdir()
    records.write_text(json.dumps(record) + "\n")
    assert main(["verify", str(records)]) == 1
    assert "cannot be checked: no samples at" in capsys.readouterr().out
    files = tmp_path / "sent" / folder.name
    shutil.copytree(folder / "eval", files)
    assert main(["verify", str(records), f"samples={tmp_path / 'sent'}"]) == 0
    assert main(["verify", str(records.parent), f"samples={files}", "run=grpo-s1"]) == 0
    assert main(["verify", str(records), "run=dapo"]) == 2
    assert main(["verify", str(records), "sample=x"]) == 2
    assert "did you mean samples=" in capsys.readouterr().err


def test_what_cannot_be_checked_says_why(folder: Path) -> None:
    record = as_record(runs.result(folder))

    def told(**changes: Any) -> dict[str, tuple[str, str]]:
        return {
            f.name: (f.state, f.detail) for f in verify_record(replace(record, **changes), folder / "eval")
        }

    assert told()["test_id"][0] == HOLDS
    state, detail = told(benchmark="letters@999")["test_id"]
    assert state == MISSING and "made with other problems: letters@999" in detail
    assert told(data_hash="0")["test_id"][0] == MISSING
    (folder / "eval" / "test_hard.parquet").write_bytes(b"PAR1 cut off")
    found = told()
    assert found["test_hard"][0] == MISSING and "cannot be read" in found["test_hard"][1]
    assert found["test_id"][0] == HOLDS


def test_sets_of_a_profile_are_graded_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENTROBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ENTROBENCH_ACCEPT_DATA", write_sets(tmp_path / "data", ("gsm8k",), count=3))
    monkeypatch.setattr(registry, "_instances", {})
    settings = ["sampling:avg", "n:2", "max_tokens:6"]
    run = small_run("eval.benchmarks=[gsm8k]", f"eval.profile_settings={settings}", "eval.splits=[]")
    evals = evaluate_benchmarks(
        run, tiny_policy(), tmp_path / "eval", seed=1, on_progress=lambda name, done, total: None
    )
    asked = {"eval": {"profile": "standard", "profile_settings": settings}}
    record = small_record(evals=evals, settings=asked)
    (found,) = verify_record(record, tmp_path / "eval")
    assert (found.state, found.detail) == (HOLDS, "6 samples graded again")
    record.evals["gsm8k"].correct[0] = 2
    (found,) = verify_record(record, tmp_path / "eval")
    assert found.state == DIFFERS and "correct of 1 of 3 problems" in found.detail
    (found,) = verify_record(replace(record, settings=Settings()), tmp_path / "eval")
    assert found.state == MISSING
    record.settings.eval["profile_settings"] = ["sampling:avg", "n:2"]
    (found,) = verify_record(record, tmp_path / "eval")
    assert found.state == MISSING and "profile standard+changes is" in found.detail


def test_a_bad_line_never_hides_the_other_records(tmp_path: Path) -> None:
    from tests.unit.test_report import make_record

    good = make_record("grpo", 1, 0.0)
    text = json.dumps(good)
    broken = json.loads(text)
    broken["evals"]["test_id"]["correct"][0] = 65
    lines = [
        text, text[: len(text) // 2], json.dumps(good | {"schema": 0, "run_id": "old"}), "[]",
        json.dumps({k: v for k, v in good.items() if k != "evals"}), json.dumps(broken), "",
    ]  # fmt: skip
    path = tmp_path / "records.jsonl"
    path.write_text("\n".join(lines))
    loaded = load_records(path)
    assert [record.run_id for record in loaded.records] == [good["run_id"]]
    for place, reason in (
        (2, "a damaged record"), (3, "record old has schema 0, this version reads schema 1"),
        (4, "not a record"), (5, "lacks evals"), (6, "right answers on test_id lie outside 0 to n=64"),
    ):  # fmt: skip
        assert any(f"{path}:{place}: " in line and reason in line for line in loaded.left_out), reason
    assert len(loaded.left_out) == 5


@pytest.mark.usefixtures("unpainted")
def test_numbers_that_json_has_not_are_read_as_missing(tmp_path: Path) -> None:
    from harness.report.render.files import write_report
    from tests.unit.test_report import make_record

    path = tmp_path / "records.jsonl"
    wild = make_record(
        "grpo", 1, 0.0, activity=float("nan"), hyperparameters={"title": "a\u2028b", "big": 2**70}
    )
    wild["budget"]["wall_s"] = float("inf")
    plain = make_record("other", 1, 0.0)
    wild_line = json.dumps(wild, ensure_ascii=False).replace('"big": ', '"huge": 1e999, "big": ')
    path.write_text(f"{wild_line}\r\n\n{json.dumps(plain)}\n", encoding="utf-8")
    loaded = load_records(path)
    assert not loaded.left_out and loaded.records[1:] == tuple(typed([plain]))
    first = loaded.records[0]
    given = first.hyperparameters
    assert first.activity is None and first.budget.wall_s is None and given["huge"] is None
    assert given["title"] == "a\u2028b" and given["big"] == 2**70  # one line, and not a digit lost
    files = write_report(loaded.records, tmp_path / "out", title="t")
    assert "NaN" not in next(f for f in files if f.suffix == ".json").read_text()


def test_text_that_is_not_utf_8_is_a_damaged_record(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(b'{"a": "\xff"}\n' + b"[" * 100_000 + b"\n")
    first, second = load_records(path).left_out
    assert "records.jsonl:1: a damaged record ('utf-8' codec can't decode" in first
    assert "records.jsonl:2: a damaged record" in second
