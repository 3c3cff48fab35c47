"""The marks of what never ran on a GPU: in records, in doctor, in the docs; and what takes them away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.cli import main
from harness.config.schema import to_dict
from harness.run import untested
from harness.run.identity import new_result
from harness.run.untested import PATHS, evidence, untested_in
from tests.helpers.tiny import small_run

PAGE = Path(__file__).parents[2] / "docs" / "cluster.md"
BF16 = "model.compute_dtype=bfloat16"


@pytest.fixture
def nothing_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(untested, "evidence", dict)


def names(*overrides: str, processes: int = 1) -> set[str]:
    return set(untested_in(to_dict(small_run(*overrides)), "cuda", processes))


def test_each_path_is_found_in_the_runs_that_take_it(nothing_tried: None) -> None:
    always = {"packed-training", "builtin-sampler"}
    assert names() == always
    assert names(BF16) == always | {"bf16"}
    assert names(BF16, processes=8) == always | {"fsdp2", "bf16-fsdp2"}
    assert names("train.activation_checkpointing=true") == always | {"activation-checkpointing"}


def test_a_record_of_a_cpu_says_nothing_and_one_of_a_gpu_does(
    nothing_tried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tests.helpers.tiny as tiny
    from harness.registry import benchmarks as registry

    monkeypatch.setattr(registry, "load", lambda name: tiny.LetterBenchmark())
    run = small_run(BF16)
    assert new_result(run, evals={}).untested_on_gpu == []
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA Example")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    record = new_result(run, device="cuda", processes=2, evals={})
    assert record.untested_on_gpu == ["packed-training", "builtin-sampler", "fsdp2", "bf16-fsdp2"]
    assert record.hardware == "NVIDIA Example, 2 on this node"


def test_a_file_of_a_gpu_takes_its_marks_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(name: str, **content: Any) -> None:
        (tmp_path / name).write_text(json.dumps(content))

    write("2026-01-01-tiny.json", device="cpu", paths=["bf16"])
    write("2026-01-02-card.json", device="cuda", paths=["bf16", "packed-training"])
    found = evidence(tmp_path)
    assert found == {"bf16": "2026-01-02-card.json", "packed-training": "2026-01-02-card.json"}
    monkeypatch.setattr(untested, "evidence", lambda: found)
    assert names(BF16) == {"builtin-sampler"}


def test_committed_evidence_names_known_paths_and_a_gpu() -> None:
    known = {path.name for path in PATHS}
    for file in untested.EVIDENCE.glob("*.json"):
        record = json.loads(file.read_text())
        assert set(record["paths"]) <= known, file
        assert record["device"] == "cuda" and record["gpu"] and record["date"], file


def test_the_page_marks_exactly_what_is_untested() -> None:
    text = PAGE.read_text()
    for path in PATHS:
        marked = f"| `{path.name}` | {path.what} | untested on GPU |" in text
        assert marked == (path.name not in evidence()), f"docs/cluster.md: {path.name}"


def test_doctor_names_what_is_missing_and_what_is_untested(
    nothing_tried: None, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import harness.cli.doctor as doctor

    def refuse(*arguments: Any, **more: Any) -> Any:
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(doctor, "urlopen", refuse)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for path in PATHS:
        assert path.name in out and path.what in out
    for text in (
        "untested on GPU", "versions\n", "devices\n", "engines\n", "no sbatch here: use launcher=local",
        "not reachable (no route to host)", "sweeps on Slurm: no: see slurm",
    ):  # fmt: skip
        assert text in out, text


def test_doctor_asks_the_cluster(capsys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import harness.cli.doctor as doctor

    for name, said in (("sbatch", "slurm 24.05"), ("sinfo", "gpu* 4 nodes gpu:8")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {said!r}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert doctor.slurm() == ("slurm 24.05: gpu* 4 nodes gpu:8", True)
    (tmp_path / "sinfo").write_text("#!/bin/sh\nexit 1\n")
    said, answers = doctor.slurm()
    assert not answers and "does not answer" in said
