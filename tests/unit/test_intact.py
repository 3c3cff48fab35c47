"""Damage in the middle of a file is noticed: checkpoints, results, samples; older files are still read."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.evaluation.samples import CorruptSamples, Sample, read_samples, write_samples
from harness.evaluation.splits import evaluate_problems
from harness.model.policy import Policy
from harness.records.load import read_result
from harness.run import execute as runs
from harness.run import sharded_checkpoint as shards
from harness.run.checkpoints import last_checkpoint, load_weights, newest, save_state
from harness.run.export import export
from harness.util.errors import UserError
from harness.util.intact import damage, read_sealed, write_sealed
from tests.helpers.execution import Killed, configured, numbers_of
from tests.helpers.tiny import SMALL, LetterBenchmark, tiny_folder, tiny_policy, tiny_trainer


def spoil(path: Path, at: int, length: int = 1, mask: int = 0x5A) -> None:
    """Other bytes from ``at`` on; the file's length and its end stay."""
    content = bytearray(path.read_bytes())
    content[at : at + length] = bytes(byte ^ mask for byte in content[at : at + length])
    path.write_bytes(content)


def checkpoints(folder: Path) -> list[Path]:
    """Three checkpoint files whose tensors hold their number."""
    paths = []
    for step in (1, 2, 3):
        weights = {"a": torch.full((3000,), float(step)), "b": torch.full((7,), step)}
        paths.append(folder / f"step-{step:06d}.pt")
        save_state({"weights": weights, "counters": {"step": step}}, paths[-1])
    return paths


def test_the_newest_intact_checkpoint_is_taken(tmp_path: Path) -> None:
    one, two, three = checkpoints(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert newest(tmp_path) == three
    spoil(three, three.read_bytes().find(torch.full((50,), 3.0).numpy().tobytes()) + 4000, 64)
    spoil(two, two.read_bytes().find(torch.full((7,), 2).numpy().tobytes()))
    with pytest.warns(UserWarning) as told:
        state = last_checkpoint(tmp_path)
    assert state is not None and state["counters"] == {"step": 1} and [one] == list(tmp_path.iterdir())
    assert [str(w.message) for w in told] == [
        f"checkpoint step-00000{i}.pt is damaged (checksum of data/{d}); going on from the one before"
        for i, d in ((3, 0), (2, 1))
    ]


@pytest.mark.parametrize("mask", [0x01, 0x5A, 0xFF])
def test_any_changed_byte_is_noticed_or_changes_nothing(tmp_path: Path, mask: int) -> None:
    """Every third byte of a small file in turn: what is not noticed is what no reader looks at."""
    path = tmp_path / "x.pt"
    save_state({"w": torch.arange(40.0), "n": [1, 2, {"k": "v"}]}, path)
    good, noticed = path.read_bytes(), 0
    for at in range(mask % 3, len(good), 3):
        path.write_bytes(good)
        spoil(path, at, mask=mask)
        if damage(path):
            noticed += 1
            continue
        state = torch.load(path, weights_only=True)
        assert torch.equal(state["w"], torch.arange(40.0)) and state["n"] == [1, 2, {"k": "v"}], at
    assert noticed > 300
    path.write_bytes(good)
    assert damage(path) == ""


def test_older_files_are_read(tmp_path: Path) -> None:
    """They have the zip's own checksums, and none of its directory."""
    path = tmp_path / "step-000001.pt"
    torch.save({"w": torch.arange(40.0)}, path)
    assert newest(tmp_path) == path
    spoil(path, path.read_bytes().find(torch.arange(40.0).numpy().tobytes()) + 9)
    assert damage(path) == "damaged (checksum of data/0)"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint folders of steps 1 and 2, as several processes write them (here one)."""
    trainer, folder = tiny_trainer(), tmp_path_factory.mktemp("shards")
    for step in (1, 2):
        shards.write(folder / f"step-{step:06d}", *shards.tensors_of(trainer), trainer.rest_dict())
        trainer.step()
    return folder


def middle_of_a_tensor(folder: Path) -> None:
    (part,) = folder.glob("*.distcp")
    embedding = tiny_policy().weights()["model.embed_tokens.weight"]
    spoil(
        part, part.read_bytes().find(embedding[1].numpy().tobytes()) if folder.name[-1] == "1" else 2000, 32
    )


def a_file_is_gone(folder: Path) -> None:
    next(folder.glob("*.distcp")).unlink()


DAMAGES: list[tuple[Callable[[Path], None], str]] = [
    (middle_of_a_tensor, r"damaged \(checksum of data/0\)"),
    (lambda folder: spoil(folder / ".metadata", 500), "damaged"),
    (lambda folder: spoil(next(folder.glob("*.distcp")), 13800), r"damaged \(checksum of its contents\)"),
    (lambda folder: spoil(folder / "rest.pt", 100, 40), "damaged"),
    (lambda folder: (folder / ".metadata").unlink(), "incomplete"),
    (a_file_is_gone, "incomplete"),
]


@pytest.mark.parametrize(("harm", "said"), DAMAGES)
def test_damage_in_a_folder_of_several_processes(
    folders: Path, tmp_path: Path, harm: Callable[[Path], None], said: str
) -> None:
    here = Path(shutil.copytree(folders, tmp_path / "checkpoints"))
    assert [shards.damage(path) for path in here.iterdir()] == ["", ""]
    harm(here / "step-000002")
    with pytest.warns(UserWarning, match=f"checkpoint step-000002 is {said}.*; going on from the one before"):
        assert newest(here) == here / "step-000001"


def test_older_folders_are_read(folders: Path, tmp_path: Path) -> None:
    """They have no checksum of their table of contents."""
    here = Path(shutil.copytree(folders / "step-000002", tmp_path / "step-000002"))
    rest = torch.load(here / "rest.pt", weights_only=True)
    del rest["contents_sha256"]
    torch.save(rest, here / "rest.pt")
    assert newest(tmp_path) == here


def test_weights_that_are_asked_for_by_name_are_refused(tmp_path: Path) -> None:
    policy: Policy = tiny_policy()
    path = tmp_path / "best-000004.pt"
    save_state({"step": 4, "weights": policy.weights()}, path)
    load_weights(path, policy)
    spoil(path, path.stat().st_size // 2, 200)
    with pytest.raises(UserError, match=r"best-000004.pt is damaged .*; restore it, or take another step's"):
        load_weights(path, policy)


def test_a_result_has_its_checksum_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_sealed(path, {"score": 12})
    assert json.loads(read_sealed(path)) == {"score": 12}
    subprocess.run(["sha256sum", "-c", "result.json.sha256"], cwd=tmp_path, check=True, capture_output=True)
    path.write_text(path.read_text().replace("12", "13"))
    with pytest.raises(ValueError, match="not what was written.*restore it, or remove result.json.sha256"):
        read_sealed(path)
    write_sealed(path, {"score": 14})
    assert json.loads(read_sealed(path)) == {"score": 14}
    (tmp_path / "result.json.sha256").unlink()
    assert json.loads(read_sealed(path)) == {"score": 14}


def sample_rows() -> list[Sample]:
    return [
        Sample(f"p{i}", 0, f"answer {i}", 3, "end", "right", str(i), "right", -1.5 * i, "g1")
        for i in range(400)
    ]


def test_a_samples_file_with_damage_in_a_page(tmp_path: Path) -> None:
    path = tmp_path / "set.parquet"
    write_samples(path, sample_rows())
    assert read_samples(path) == sample_rows()
    content = path.read_bytes()
    for at in range(4, len(content), 97):
        path.write_bytes(content)
        spoil(path, at)
        try:
            assert read_samples(path) == sample_rows()  # a byte that says nothing
        except CorruptSamples:
            continue
    path.write_bytes(content)
    spoil(path, len(content) // 3)
    with pytest.raises(CorruptSamples, match="cannot be read"):
        read_samples(path)


def test_damaged_samples_of_a_split_are_drawn_again(tmp_path: Path) -> None:
    path, policy = tmp_path / "test_id.parquet", tiny_policy()
    problems = LetterBenchmark().problems("validation")

    def evaluated() -> Any:
        return evaluate_problems(
            policy,
            LetterBenchmark(),
            problems,
            path,
            n=4,
            temperature=1.0,
            max_tokens=6,
            seed=3,
            batch_rows=64,
        )

    first, digest = evaluated(), hashlib.sha256(path.read_bytes()).hexdigest()
    spoil(path, path.read_bytes().find(first["problem_id"][0].encode()), 2)
    with pytest.warns(UserWarning, match="test_id.parquet is damaged.*moved to test_id.parquet.corrupt"):
        again = evaluated()
    assert again.equals(first) and hashlib.sha256(path.read_bytes()).hexdigest() == digest
    assert evaluated().equals(first)


def test_a_run_goes_on_from_before_the_damage(tmp_path: Path) -> None:
    """In place of the last checkpoint the one before it: the same bits at the end."""
    words = [
        "method=grpo", f"model.path={tiny_folder()}", *[s for s in SMALL if not s.startswith("train.steps")],
        "train.steps=4", "train.checkpoint_every=2", "eval.splits=[test_id]", f"runs_dir={tmp_path}",
    ]  # fmt: skip
    Killed(words).finish()
    run = configured(words)
    folder = runs.run_folder(run)
    whole = Path(shutil.copytree(folder, tmp_path / "whole" / folder.name))
    assert read_result((folder / "result.json").read_bytes()) == runs.result(folder)
    last = folder / "checkpoints" / "step-000004.pt"
    content = last.read_bytes()
    spoil(last, len(content) // 2, 100)
    with pytest.raises(UserError, match="step-000004.pt is damaged"):
        export(folder, tmp_path / "exported", checkpoint="4")
    (folder / "result.json").unlink()
    with pytest.warns(UserWarning, match="step-000004.pt is damaged"):
        runs.execute(run)
    own, other = numbers_of(folder), numbers_of(whole)
    assert own.keys() == other.keys() and [name for name in own if own[name] != other[name]] == []
    path = folder / "result.json"
    path.write_text(path.read_text().replace('"seed": 1', '"seed": 2', 1))
    with pytest.raises(UserError, match="not what was written"):
        runs.result(folder)
