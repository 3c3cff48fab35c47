"""A tiny random model through all seven benchmarks, killed and resumed; and as a run's last phase."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from harness.cli import main
from harness.evaluation.samples import Sample, read_samples
from harness.rollout.engines import vllm as vllm_engine
from harness.util.locks import holder, lock_path
from tests.helpers.evaluated import record_of, samples_of, save_model
from tests.helpers.math_files import SEVEN, real_data, write_sets
from tests.helpers.warm_python import warm_python

VLLM = ("vllm", "device=cpu", "engine.kv_cache_gib=0.5")
NEEDS_VLLM = pytest.mark.skipif(bool(vllm_engine.unusable()), reason=str(vllm_engine.unusable()))
#: ``entrobench`` with every sample on disk as soon as it is judged, not within ten seconds.
COMMAND = """
import sys
from harness.cli import main
from harness.evaluation import samples

samples.PART_S = 0.0
sys.exit(main(sys.argv[1:]))
"""


@dataclass(frozen=True)
class Size:
    """An evaluation and the moment at which it is killed.

    Attributes:
        count: problems of each set.
        tokens: a prompt has at least so many, one a character.
        shortest: the longest response is not shorter.
        files: samples files of the whole evaluation.
        killed: pattern of files and how many of them there are when it is killed.
    """

    words: tuple[str, ...]
    sets: tuple[str, ...]
    count: int
    tokens: int
    shortest: int
    files: int
    killed: tuple[str, int]


#: At the third of fourteen files; and while the second of three blocks is drawn, in the middle of a file.
SIZES = {
    "seven sets": Size(
        ("n=4", "max_tokens=24", "engine.batch_rows=8"), SEVEN, 6, 0, 24, 14, ("*.parquet", 3)
    ),
    "long": Size(
        ("n=64", "max_tokens=300", "engine.batch_rows=48", "sampling=pass", "seed=3"),
        ("aime24",), 2, 300, 300, 1, ("*.parts/*.parquet", 20),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that seldom ends a response."""
    return save_model(tmp_path_factory.mktemp("model") / "talker", rare_end=True)


@pytest.fixture(scope="module")
def python() -> Iterator[str]:
    with warm_python() as path:
        yield path


def alike(one: Sample, other: Sample) -> bool:
    """Equal up to the rounding of log-probs, which depends on what is drawn side by side."""
    return replace(one, logp_sum=0.0) == replace(other, logp_sum=0.0) and one.logp_sum == pytest.approx(
        other.logp_sum, abs=1e-3
    )


@pytest.mark.timeout(900)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "engine", [("hf",), pytest.param(VLLM, marks=[pytest.mark.vllm, NEEDS_VLLM])], ids=lambda words: words[0]
)
def test_killed_and_resumed_gives_the_same(
    engine: tuple[str, ...], size: str, model: Path, talker: Path, python: str, tmp_path: Path
) -> None:
    wanted = SIZES[size]
    accept = write_sets(tmp_path / "data", wanted.sets, count=wanted.count, length=wanted.tokens)
    request = [
        f"model={talker if size == 'long' else model}", f"benchmark={','.join(wanted.sets)}",
        f"data_dir={tmp_path / 'data'}", f"accept_data={accept}", "dtype=float32", *wanted.words,
        f"engine={engine[0]}", *engine[1:],
    ]  # fmt: skip
    assert main(["eval", *request, f"out={tmp_path / 'whole'}"]) == 0
    whole = samples_of(tmp_path / "whole")
    n = int(wanted.words[0].removeprefix("n="))
    assert len(whole) == wanted.files and all(len(rows) == n * wanted.count for rows in whole.values())
    assert max(row.tokens for rows in whole.values() for row in rows) >= wanted.shortest

    out = tmp_path / "killed"
    finished, parts = killed_at(wanted.killed, out, python, request)
    assert len(finished) < wanted.files and all(len(rows) < n * wanted.count for rows in parts.values())
    assert main(["eval", *request, f"out={out}"]) == 0
    resumed = samples_of(out)
    assert resumed.keys() == whole.keys()
    for name, rows in whole.items():
        assert len(rows) == len(resumed[name]) and all(map(alike, rows, resumed[name])), name
    for path in out.glob("*/*.parquet"):
        assert path.name not in finished or path.read_bytes() == finished[path.name]  # never drawn twice
    assert all(row in resumed[name] for name, rows in parts.items() for row in rows)
    first, second = (record_of(folder) for folder in (tmp_path / "whole", out))
    assert first.pop("request")[:-1] == second.pop("request")[:-1]  # all but where it is
    assert first == second


def killed_at(
    moment: tuple[str, int], out: Path, python: str, request: list[str]
) -> tuple[dict[str, bytes], dict[str, list[Sample]]]:
    """Start the evaluation, kill it there; the finished files, and the samples of others that are kept."""
    pattern, count = moment
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [python, "-c", COMMAND, "eval", *request, f"out={out}"],
        env=environment, stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    try:
        while len(list(out.glob(f"*/{pattern}"))) < count:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    # the killed command stands for a process that dies a moment later, as its server hears of it
    locks = [lock_path(folder) for folder in out.iterdir() if folder.is_dir()]
    while any(holder(lock) is not None for lock in locks) and time.monotonic() < deadline:
        time.sleep(0.01)
    finished = {path.name: path.read_bytes() for path in out.glob("*/*.parquet")}
    parts: dict[str, list[Sample]] = {}
    for path in out.glob("*/*.parts/[0-9]*.parquet"):
        name = path.parent.with_suffix(".parquet").name
        parts[name] = [*parts.get(name, ()), *read_samples(path)]
    return finished, parts


def test_real_seven_benchmarks(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = real_data()
    words = [f"model={model}", f"benchmark={','.join(SEVEN)}", f"data_dir={data}", f"out={tmp_path}"]
    assert main(["eval", *words, "n=2", "limit=3", "max_tokens=16"]) == 0
    told = capsys.readouterr().out
    assert "not profile standard as it is: limit=3, max_tokens=16, n=2" in told
    record = record_of(tmp_path)
    assert set(record["benchmarks"]) == set(SEVEN)
    for entry in record["benchmarks"].values():
        assert entry["data"]["problems"] == 3 and entry["draws"]["avg"]["n"] == 2
    assert record["engine"]["determinism"] == "bitwise"


def test_a_run_is_evaluated_on_benchmarks_as_its_last_phase(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    accept = write_sets(tmp_path / "data", ("gsm8k", "aime24"), count=120)
    monkeypatch.setenv("ENTROBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ENTROBENCH_ACCEPT_DATA", accept)
    from harness.registry import benchmarks as registry

    monkeypatch.setattr(registry, "_instances", {})
    words = [
        f"model.path={model}", "data.benchmark=gsm8k", "data.template=chat-boxed",
        f"runs_dir={tmp_path / 'runs'}", "rollout.prompts_per_step=2", "rollout.group_size=2",
        "rollout.max_response_tokens=6", "train.minibatches=1", "train.steps=2", "probe.prompts=2",
        "probe.samples=1", "eval.frontier_n=2",
        "eval.benchmarks=[aime24]", "eval.profile_settings=[n:4,limit:3,max_tokens:8]",
    ]  # fmt: skip
    assert main(["train", *words]) == 0
    (run,) = (p for p in (tmp_path / "runs").iterdir() if p.name.startswith("grpo"))
    result = json.loads((run / "result.json").read_text())
    assert list(result["evals"]) == ["aime24"]
    entry = result["evals"]["aime24"]
    assert entry["n"] == 4 and len(entry["correct"]) == 3 and entry["pass"]["n"] == 4
    assert entry["profile"] == "standard+changes"
    assert len(list((run / "eval").glob("aime24-*.parquet"))) == 2
    capsys.readouterr()
    # the same weights by the same profile through the command line: the same samples
    command = [f"out={tmp_path / 'out'}", "benchmark=aime24", "n=4", "limit=3", "max_tokens=8", "seed=30000"]
    assert main(["eval", str(run), *command]) == 0
    ours = samples_of(tmp_path / "out")
    for path in (run / "eval").glob("aime24-*.parquet"):
        assert all(map(alike, read_samples(path), ours[path.name]))
