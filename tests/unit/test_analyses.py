"""``entrobench analyse`` on a finished run of the micro testbed: tables, files, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.analyses.base import Finding
from harness.analyses.features import last_features
from harness.analyses.subject import find_subject, problems_of
from harness.analyses.write import plain, table
from harness.cli import main
from harness.registry import analyses
from harness.util.errors import UserError
from harness.util.files import read_json
from tests.helpers.tiny import tiny_policy

SETTINGS = (
    "method=grpo", "model.path=micro", "data.benchmark=micro", "device=cpu", "train.steps=4", "train.lr=3e-4",
    "train.checkpoint_every=2", "train.keep_checkpoints=9", "train.minibatches=2", "train.epochs=1",
    "rollout.prompts_per_step=8", "rollout.group_size=4", "eval.frontier_every=1", "eval.frontier_n=2",
    "eval.frontier_problems=48", "eval.splits=[test_id]", "eval.n=2", "probe.prompts=2", "probe.samples=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("analysed")
    assert main(["train", *SETTINGS, f"runs_dir={runs}"]) == 0
    (folder,) = runs.glob("grpo-*")
    return folder


def analysed(name: str, *words: str) -> int:
    return main(["analyse", name, *map(str, words)])


def test_the_law_is_fitted_from_the_files_of_a_run(run: Path, capsys: Any) -> None:
    assert analysed("entropy-performance-law", str(run), "early_fraction=0.6") == 0
    out = capsys.readouterr().out
    found = read_json(run / "analysis" / "entropy-performance-law.json")
    assert found["points"] == 5 and found["step"] == [0, 1, 2, 3, 4] and found["early_points"] == 3
    fitted = found["b"] - found["a"] * np.exp(found["entropy"])
    assert np.allclose(np.array(found["score"]) - fitted, found["residual"])
    assert found["ceiling"] == pytest.approx(found["b"] - found["a"])
    late = found["early"]["b"] - found["early"]["a"] * np.exp(found["entropy"][3:]) - found["score"][3:]
    assert found["predicted_last"] == pytest.approx(late[-1])
    assert f"the first 3 points predict the other 2 to {np.sqrt((late**2).mean()):.4f}" in out
    assert analysed("entropy-performance-law", str(run)) == 0
    assert "no prediction: the first 0.15 of the points are 1" in capsys.readouterr().out


def test_the_geometry_of_every_checkpoint_against_the_start(run: Path, tmp_path: Path, capsys: Any) -> None:
    settings = ("texts=90", "halves=3", "--to", str(tmp_path))
    assert analysed("representation-geometry", str(run), *settings) == 0
    out = capsys.readouterr().out
    assert "90 texts of micro:validation, micro:test_id" in out and "(published: 12 to 100)" in out
    found = read_json(tmp_path / f"representation-geometry-{run.name}.json")
    assert not (run / "analysis" / "representation-geometry.json").exists()
    assert (found["features"], found["texts"], found["fit"]) == (128, 90, [5, 40])
    steps = found["points"]
    assert [point["step"] for point in steps] == sorted({0, 2, 4} | {point["step"] for point in steps})
    start, last = steps[0], steps[-1]
    assert start["change"] is None and last["change"]["rankme"]["spread"] > 0
    assert last["change"]["rankme"]["value"] == pytest.approx(last["rankme"] - start["rankme"]) != 0
    assert len(start["variance_shares"]) == 90 and 1 < start["rankme"] < 89
    assert last["beside"]["entropy"] > 0
    # the start alone is the model: the same numbers, and no change to speak of
    model = ("micro", "problems=micro:validation,micro:test_id,micro:test_hard,micro:test_ood")
    assert analysed("representation-geometry", *model, *settings) == 0
    alone = read_json(tmp_path / "representation-geometry-micro.json")["points"]
    assert [point["rankme"] for point in alone] == [start["rankme"]]


def test_self_critique_of_what_a_run_drew(run: Path, capsys: Any) -> None:
    assert analysed("self-critique-mia", str(run), "n=12", "steps=0,last", "top=9") == 0
    assert "12 members (micro:train), 12 others (micro:validation)" in capsys.readouterr().out
    found = read_json(run / "analysis" / "self-critique-mia.json")
    assert [point["step"] for point in found["points"]] == [0, 4]
    first = found["points"][0]
    trained = {problem.id for problem in problems_of("micro:train")}
    assert all(p["member"] == (p["id"] in trained) for p in first["problems"])
    wins = [
        (a["score"] > b["score"]) + (a["score"] == b["score"]) / 2
        for a in first["problems"] if a["member"]
        for b in first["problems"] if not b["member"]
    ]  # fmt: skip
    assert first["auc"] == pytest.approx(np.mean(wins))
    assert first["generated_tokens"] == sum(sum(p["tokens"]) for p in first["problems"])
    assert [p["score"] for p in first["problems"]] != [p["score"] for p in found["points"][1]["problems"]]


def test_members_are_the_problems_that_the_run_drew_first(run: Path) -> None:
    from harness.analyses.self_critique_mia import drawn_by
    from harness.stages.defaults import ShuffledPrompts

    problems, source = problems_of("micro:train"), ShuffledPrompts()
    source.bind(problems, 1)
    drawn = source.draw(32)  # four steps of eight prompts
    assert [p.id for p in drawn_by(find_subject(str(run)), problems, 100)] == [p.id for p in drawn]


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (("entropy-performance-lw", "x"), "did you mean entropy-performance-law?"),
        (("self-critique-mia",), "the folders of runs"),
        (("entropy-performance-law", "micro"), "is no run's folder"),
        (("representation-geometry", "micro"), "problems=BENCHMARK:SPLIT"),
        (("representation-geometry", "micro", "problems=micro"), "names no split"),
        (("representation-geometry", "micro", "problems=micro:valid"), "it has train, validation"),
        (("representation-geometry", "micro", "halfs=2"), "did you mean halves?"),
        (("representation-geometry", "micro", "halves=1"), "valid: >= 2"),
        (("representation-geometry", "RUN", "steps=7"), "it has 0, "),
        (("representation-geometry", "RUN", "texts=8"), "take more texts"),
        (("self-critique-mia", "micro"), "members=BENCHMARK:SPLIT"),
        (("self-critique-mia", "micro", "members=micro:test_id", "others=micro:test_id"), "share none"),
        (("self-critique-mia", "micro", "steps=4"), "leave it out"),
        (("self-critique-mia", "RUN", "engine=tf"), "valid: hf | vllm"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_in_one_line(
    words: tuple[str, ...], remedy: str, run: Path, capsys: Any
) -> None:
    name, *rest = (str(run) if word == "RUN" else word for word in words)
    assert main(["analyse", name, *rest]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("entrobench: ") and remedy in error


def test_features_are_what_the_head_is_given_at_the_last_token() -> None:
    import torch

    policy = tiny_policy()
    texts = ["the quick brown fox", "a", "numbers are 0 1 2", "the lazy dog jumps over"]
    found = last_features(policy, texts, rows=2)
    for text, row in zip(texts, found, strict=True):
        with torch.no_grad():
            hidden = policy.model.model(torch.tensor([policy.encode(text)])).last_hidden_state[0, -1]
        assert np.allclose(row, hidden.numpy(), atol=1e-5)
    with pytest.raises(UserError, match="longer context"):
        last_features(policy, ["numbers are 0 1 2 " * 50])


def test_a_table_aligns_and_what_is_no_number_is_a_dash() -> None:
    finding = Finding("x", None, ("step", "AUC"), [(0, 0.5), (12, None), (3, float("nan"))], ["note"], {})
    assert table(finding).splitlines() == [
        "| step |    AUC |", "|-----:|-------:|", "|    0 | 0.5000 |", "|   12 |      – |",
        "|    3 |      – |", "", "note",
    ]  # fmt: skip
    assert plain({"a": (1.0, float("inf"))}) == {"a": [1.0, None]}


def test_every_analysis_is_named_by_the_help() -> None:
    from harness.cli.parser import ANALYSE_HELP

    assert set(analyses.entries()) == {
        line.split()[0] for line in ANALYSE_HELP.splitlines()[1:] if line.startswith("  ")
    }


def test_every_analysis_has_a_folder_with_an_adapter() -> None:
    folders = Path(__file__).parents[1] / "methods"
    for entry in analyses.entries().values():
        assert (folders / entry.file.stem / "adapter.py").is_file(), entry.file.stem
