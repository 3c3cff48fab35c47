"""``entrobench eval`` with a scripted engine: mistakes, records, stored samples, grading again, runs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.cli import main
from harness.evaluation import session
from harness.evaluation.samples import read_samples
from harness.rollout.engines.base import EngineDied
from harness.util.intact import write_sealed
from harness.util.locks import lock_path, locked
from tests.helpers.engines import ScriptedEngine, answer_of
from tests.helpers.math_files import write_rows, write_sets
from tests.helpers.tiny import build_model, build_tokenizer, tiny_folder

Opened = list[ScriptedEngine]


@pytest.fixture(autouse=True)
def _no_data_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENTROBENCH_DATA", "ENTROBENCH_ACCEPT_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ENTROBENCH_CACHE", "/nowhere")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Engines that were opened, in place of real ones."""
    made: Opened = []

    def open_engine(name: str, model: str, **options: Any) -> ScriptedEngine:
        made.append(ScriptedEngine())
        return made[-1]

    monkeypatch.setattr(session, "open_engine", open_engine)
    return made


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A good request over two small sets."""
    accept = write_sets(tmp_path / "data", ("aime24", "gsm8k"))
    return [
        f"model={tiny_folder()}", "benchmark=gsm8k,aime24", f"data_dir={tmp_path / 'data'}",
        f"accept_data={accept}", "n=8", f"out={tmp_path / 'out'}",
    ]  # fmt: skip


def folder_of(tmp_path: Path) -> Path:
    (folder,) = [p for p in (tmp_path / "out").iterdir() if p.is_dir() and p.name != ".sweeps"]
    return folder


def changed(words: list[str], **changes: str) -> list[str]:
    kept = [w for w in words if w.partition("=")[0] not in changes]
    return [*kept, *(f"{k}={v}" for k, v in changes.items() if v)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"benchmark": "aime42"}, "unknown benchmark 'aime42'; did you mean aime2"),
        ({"benchmark": ""}, "no benchmark; say benchmark="),
        ({"benchmark": "gsm8k:dev"}, "unknown split of gsm8k 'dev'"),
        ({"benchmark": "dapo-math-17k"}, "unknown split of dapo-math-17k 'test'"),
        ({"model": ""}, "no model; say model="),
        ({"model": "nowhere"}, "unknown model 'nowhere'"),
        ({"profile": "standart"}, "unknown profile 'standart'; did you mean standard"),
        ({"engine": "hff"}, "unknown engine 'hff'; did you mean hf"),
        ({"grader": "exact"}, "unknown grader 'exact'"),
        ({"k": "8"}, "k=8 needs at least 16 samples a problem, but gsm8k (pass) has n=8"),
        ({"k": "many"}, "k=many must be a whole number"),
        ({"n": "none"}, "n=none must be a whole number"),
        ({"seed": "-1"}, "seed=-1 must be a whole number"),
        ({"temprature": "1"}, "unknown setting 'temprature'; did you mean temperature"),
        ({"template": "qwen-math"}, "the token <|im_start|>, which"),
        ({"data_dir": "/nowhere"}, "no gsm8k_test.jsonl or gsm8k_test.jsonl.gz in data_dir=/nowhere"),
        ({"data_dir": __file__}, "is one file for 2 sets; give the folder, or one set"),
        ({"accept_data": ""}, "3 rows instead of 1319"),
        ({"limit": "4@1"}, "limit=4@1: gsm8k has 3 problems; say limit=3@1 or less, or leave limit out"),
        ({"limit": "2@x"}, "limit=2@x: the seed behind @ must be a whole number, e.g. limit=2@1"),
        ({"max_tokens": "99999"}, "max_tokens=99999 does not fit the model's context of 4096"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    changes: dict[str, str], message: str, words: list[str], opened: Opened, tmp_path: Path, capsys: Any
) -> None:
    assert main(["eval", *changed(words, **changes)]) == 2
    err = capsys.readouterr().err
    assert message in err and err.startswith("entrobench: ") and err.count("\n") == 1
    assert not any(engine.yielded for engine in opened)
    assert not [p for p in tmp_path.glob("out/*") if p.name != ".sweeps"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "say what to evaluate: model=… benchmark=…"),
        (["nowhere"], "nowhere is not a run folder"),
        (["nowhere", "--regrade"], "nowhere is not an evaluation's folder"),
        (["model=a", "model=b"], "model is given twice"),
        (["model=a/b", "benchmark=aime24", "fast"], "'fast' is not a setting; write key=value"),
        (["nowhere", "n=3"], "'n=3' changes nothing in a finished run; add benchmark="),
    ],
)
def test_requests_that_cannot_be_read(words: list[str], message: str, capsys: Any) -> None:
    assert main(["eval", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_model_without_tokenizer_is_refused(words: list[str], tmp_path: Path, capsys: Any) -> None:
    build_model(build_tokenizer()).save_pretrained(tmp_path / "bare")
    assert main(["eval", *changed(words, model=str(tmp_path / "bare"))]) == 2
    assert "has no tokenizer; copy the files" in capsys.readouterr().err


def test_a_profile_with_chat_asks_for_a_chat_template_and_standard_does_not(
    words: list[str], opened: Opened, tmp_path: Path, capsys: Any
) -> None:
    shutil.copytree(tiny_folder(), tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").unlink()
    assert main(["eval", *changed(words, model=str(tmp_path / "base"), profile="siri", max_tokens="64")]) == 2
    assert "template 'chat-boxed' needs a chat template" in capsys.readouterr().err
    assert main(["eval", *changed(words, model=str(tmp_path / "base"))]) == 0


def test_the_record_holds_the_protocol_and_the_table_the_scores(
    words: list[str], opened: Opened, tmp_path: Path, capsys: Any
) -> None:
    assert main(["eval", *words]) == 0
    out = capsys.readouterr().out
    rows = {line[:17].strip(): line[17:].split() for line in out.splitlines()}
    assert rows[""] == ["gsm8k", "aime24"] and rows["problems"] == ["3", "3"]
    assert rows["pass@1"] == ["0.500", "0.500"]  # the script is right on two of four
    assert rows["unparsed"] == ["25.0%", "25.0%"] and rows["2nd grader agrees"[:17]] is not None
    assert "not profile standard as it is: n=8" in out
    folder = folder_of(tmp_path)
    record = json.loads((folder / "record.json").read_text())
    assert record["profile"]["template"]["name"] == "plain" and record["profile"]["changes"] == {"n": "8"}
    assert record["engine"]["engine"] == "scripted" and record["model"]["fingerprint"]
    assert record["versions"]["math-verify"] and record["commit"]
    entry = record["benchmarks"]["aime24"]
    assert entry["data"]["source"].endswith("aime24.jsonl") and entry["data"]["problems"] == 3
    avg, passes = entry["draws"]["avg"], entry["draws"]["pass"]
    assert (avg["temperature"], avg["top_p"], passes["temperature"], passes["top_p"]) == (0.6, 0.95, 1.0, 1.0)
    assert avg["graded_by"].startswith("math-verify/") and avg["agreement"] == 1.0
    assert avg["max_tokens"] == 3072 and avg["correct"] == [4, 4, 4]
    samples = read_samples(folder / avg["samples"])
    assert len(samples) == 24 and samples[1].text == answer_of(("aime24-test-0", 1))
    # the two samplings have draws of their own
    keys = [request.key for request, _ in opened[0].asked]
    assert len(set(keys)) == len(keys) == 2 * 2 * 24
    assert opened[0].closed


def test_problems_that_a_seed_draws_stand_in_the_record(
    words: list[str], opened: Opened, tmp_path: Path
) -> None:
    """They keep their order, a smaller number is a part of a larger one, and another seed is another set."""
    accept, found = write_sets(tmp_path / "data", ("gsm8k",), count=12), {}
    for limit in ("8@1", "5@1", "8@2", "8"):
        out = tmp_path / "out" / limit
        own = changed(words, benchmark="gsm8k", accept_data=accept, limit=limit, out=str(out), n="2")
        assert main(["eval", *own]) == 0
        (path,) = out.glob("*/record.json")
        record = json.loads(path.read_text())
        found[limit] = record["benchmarks"]["gsm8k"]["draws"]["avg"]["problem_ids"]
        data = record["benchmarks"]["gsm8k"]["data"]
        drawn = (12, int(limit[-1])) if "@" in limit else (None, None)
        assert (data.get("drawn_of"), data.get("drawn_with_seed")) == drawn
        assert record["profile"].get("limit_seed") == drawn[1]
        assert data["problems"] == len(found[limit]) == int(limit[0])
    order = [f"gsm8k-test-{i}" for i in range(12)]
    assert all(ids == [i for i in order if i in ids] for ids in found.values())
    assert set(found["5@1"]) < set(found["8@1"]) != set(found["8@2"])
    assert found["8"] == order[:8] not in (found["8@1"], found["8@2"])


def test_the_same_request_again_draws_nothing(
    words: list[str], opened: Opened, tmp_path: Path, capsys: Any
) -> None:
    assert main(["eval", *words]) == 0
    before = capsys.readouterr().out
    assert main(["eval", *words]) == 0
    again = capsys.readouterr().out
    assert before.endswith(again) and "problems" in again and len(opened) == 1
    folder = folder_of(tmp_path)
    assert main(["eval", str(folder), "k=1,2"]) == 0
    assert "pass@2" in (out := capsys.readouterr().out) and "pass@4" not in out
    assert main(["eval", str(folder), "k=8"]) == 2
    assert "k=8 needs at least 16 samples" in capsys.readouterr().err
    assert main(["eval", str(folder), "n=16"]) == 2
    assert "'n=16' needs new samples" in capsys.readouterr().err
    assert len(opened) == 1
    assert main(["eval", *changed(words, n="2")]) == 0  # another profile is another folder
    assert (
        len(opened) == 2
        and len(list((tmp_path / "out").glob("tiny*")))
        + len(list((tmp_path / "out").glob("entrobench-tiny*")))
        == 2
    )


def test_a_folder_grows_set_by_set(words: list[str], opened: Opened, tmp_path: Path, capsys: Any) -> None:
    assert main(["eval", *changed(words, benchmark="aime24")]) == 0
    assert main(["eval", *changed(words, benchmark="gsm8k")]) == 0
    heads = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert heads.count(["aime24"]) == heads.count(["aime24", "gsm8k"]) == 1  # the second table has both
    record = json.loads((folder_of(tmp_path) / "record.json").read_text())
    assert "benchmark=aime24,gsm8k" in record["request"]
    assert record["benchmarks"]["gsm8k"]["draws"]["avg"]["engine"]["engine"] == "scripted"
    assert main(["eval", str(folder_of(tmp_path)), "--regrade"]) == 0
    assert "aime24 avg: 0 verdicts changed" in (out := capsys.readouterr().out) and "gsm8k pass: 0" in out


def test_a_damaged_samples_file_is_named_moved_aside_and_drawn_again(
    words: list[str], opened: Opened, tmp_path: Path, capsys: Any
) -> None:
    assert main(["eval", *words]) == 0
    folder = folder_of(tmp_path)
    record = (folder / "record.json").read_bytes()
    file = next(folder.glob("aime24-*.avg.parquet"))
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    assert main(["eval", str(folder), "--regrade"]) == 2
    assert "cannot be read" in capsys.readouterr().err and file.read_bytes() == whole[:100]
    body = json.loads(record)
    del body["benchmarks"]["aime24"]["draws"]["avg"]
    write_sealed(folder / "record.json", body)
    assert main(["eval", *words]) == 0
    err = capsys.readouterr().err
    assert file.name in err and "moved to" in err and err.count("\n") == 1
    assert file.read_bytes() == whole and file.with_name(f"{file.name}.corrupt").read_bytes() == whole[:100]
    file.unlink()  # a record of samples that are gone does not count
    assert main(["eval", *words]) == 0
    assert file.read_bytes() == whole


def test_a_record_that_is_not_what_was_written_is_refused(
    words: list[str], opened: Opened, tmp_path: Path, capsys: Any
) -> None:
    assert main(["eval", *words]) == 0
    folder = folder_of(tmp_path)
    file, seal = folder / "record.json", folder / "record.json.sha256"
    whole = file.read_text()
    file.write_text(whole.replace('"seed": 0', '"seed": 1'))
    assert file.read_text() != whole
    for command in ([str(folder)], [str(folder), "--regrade"], words):
        assert main(["eval", *command]) == 2
        err = capsys.readouterr().err
        assert "record.json cannot be read (it is not what was written" in err and err.count("\n") == 1
    seal.unlink()  # as earlier versions wrote it, or changed on purpose
    assert main(["eval", str(folder)]) == 0


def test_grading_again_with_another_grader_is_another_evaluation(
    words: list[str], opened: Opened, tmp_path: Path, capsys: Any
) -> None:
    assert main(["eval", *words]) == 0
    folder = folder_of(tmp_path)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    capsys.readouterr()
    assert main(["eval", str(folder), "--regrade"]) == 0
    assert "aime24 avg: 0 verdicts changed" in capsys.readouterr().out
    assert {p.name: p.read_bytes() for p in folder.glob("*.parquet")} == {
        k: v for k, v in before.items() if k.endswith(".parquet")
    }
    assert main(["eval", str(folder), "--regrade", "grader=math-dapo"]) == 0
    out = capsys.readouterr().out
    assert "grader math-dapo" in out and "aime24 avg: 18 verdicts changed" in out
    (other,) = [p for p in (tmp_path / "out").iterdir() if p.name not in (folder.name, ".sweeps")]
    record = json.loads((other / "record.json").read_text())
    assert record["samples_of"] == folder.name and record["profile"]["grader"] == "math-dapo"
    assert record["benchmarks"]["aime24"]["draws"]["avg"]["unparsed"] == 1.0
    assert len(opened) == 1
    assert main(["eval", str(folder), "--regrade", "n=4"]) == 2
    assert "n=4 would need new samples" in capsys.readouterr().err
    assert main(["eval", "--regrade", *words]) == 0  # by its settings instead of its folder


def test_samples_of_an_older_grader_are_judged_again(
    words: list[str], opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.grading.grader import Grader
    from harness.grading.graders import Kind

    assert main(["eval", *words]) == 0
    monkeypatch.setattr(Kind, "version", property(lambda self: f"{self.name}/next"))
    assert Grader().version == "math-verify/next"
    assert main(["eval", *words]) == 0
    folder = folder_of(tmp_path)
    assert {s.graded_by for f in folder.glob("*.parquet") for s in read_samples(f)} == {"math-verify/next"}
    assert sum(engine.yielded for engine in opened) == 2 * 2 * 24  # nothing was drawn for it


def test_other_data_under_the_same_name_is_another_set(
    words: list[str], opened: Opened, tmp_path: Path
) -> None:
    assert main(["eval", *changed(words, benchmark="aime24")]) == 0
    rows = [{"id": f"aime24-test-{i}", "problem": f"Other {i}?", "answer": "2"} for i in range(3)]
    write_rows(tmp_path / "data" / "aime24.jsonl", rows)
    from harness.problems.text import content_digest

    accept = f"aime24:{content_digest((r['problem'], r['answer']) for r in rows)}"
    assert main(["eval", *changed(words, benchmark="aime24", accept_data=accept)]) == 0
    assert len(list(folder_of(tmp_path).glob("aime24-*.avg.parquet"))) == 2


def test_an_engine_that_dies_loses_nothing(
    words: list[str], opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def dying(key: Any) -> str:
        if key[-2:] == ("gsm8k-test-1", 3):
            raise EngineDied("out of memory; lower engine.batch_rows")
        return answer_of(key)

    with monkeypatch.context() as patch:
        patch.setattr(session, "open_engine", lambda *a, **o: ScriptedEngine(dying))
        assert main(["eval", *words]) == 1
    err = capsys.readouterr().err
    assert "out of memory; lower engine.batch_rows; the same command goes on" in err
    assert main(["eval", *words]) == 0
    assert opened[0].yielded < 2 * 2 * 24


def test_two_processes_do_not_share_a_folder(
    words: list[str], opened: Opened, tmp_path: Path, capsys: Any
) -> None:
    assert main(["eval", *words]) == 0
    folder = folder_of(tmp_path)
    with locked(lock_path(folder), wait=False) as ours:
        assert ours
        assert main(["eval", *words]) == 2
    assert f"process {os.getpid()} is working on" in capsys.readouterr().err


@pytest.fixture
def run_folder(tmp_path: Path) -> Callable[..., Path]:
    """A training run's folder as far as its weights are concerned."""

    def make(*, finished: bool = True, weights: bool = True) -> Path:
        folder = tmp_path / "runs" / "grpo-s1-abc"
        (folder / "checkpoints").mkdir(parents=True)
        config = {"config": {"model": {"path": str(tiny_folder()), "revision": None}}, "identity": {}}
        (folder / "config.json").write_text(json.dumps(config))
        if finished:
            (folder / "result.json").write_text("{}")
        for step in (1, 2) if weights else ():
            state = {"weights": {"w": torch.tensor([float(step)])}}
            torch.save(state, folder / "checkpoints" / f"step-{step:06d}.pt")
        return folder

    return make


def test_the_last_weights_of_a_run(
    run_folder: Callable[..., Path], words: list[str], opened: Opened, tmp_path: Path, capsys: Any
) -> None:
    folder = run_folder()
    assert main(["eval", str(folder), *changed(words, model="")]) == 0
    assert opened[0].weights is not None and opened[0].weights["w"].item() == 2.0
    record = json.loads((folder_of(tmp_path) / "record.json").read_text())
    assert record["model"]["run"] == "grpo-s1-abc" and record["model"]["checkpoint"] == "step-000002.pt"
    assert record["id"].startswith("grpo-s1-abc-standard")


def test_a_run_without_its_weights_says_what_is_missing(
    run_folder: Callable[..., Path], words: list[str], capsys: Any
) -> None:
    folder = run_folder(weights=False)
    assert main(["eval", f"model={folder}", *changed(words, model="")]) == 2
    assert "run grpo-s1-abc has no weights: checkpoints/step-*.pt is missing" in capsys.readouterr().err
    shutil.rmtree(folder)
    folder = run_folder(finished=False)
    assert main(["eval", f"model={folder}", *changed(words, model="")]) == 2
    assert "is not finished; entrobench eval" in capsys.readouterr().err


def test_the_help_names_every_setting_profile_and_set() -> None:
    from harness.cli.parser import EVAL_HELP
    from harness.evaluation.profiles import OF_DRAWS, OF_PROFILE, PROFILES
    from harness.evaluation.request import KEYS
    from harness.registry import benchmarks as registry

    words = set(EVAL_HELP.replace(",", " ").replace(";", " ").split())
    assert {f"{key}=" for key in (*KEYS, *OF_PROFILE, *OF_DRAWS, "sampling")} <= words
    assert set(PROFILES) <= words
    tested = {name for name in registry.names() if "test" in registry.load(name).splits()}
    assert tested <= words
