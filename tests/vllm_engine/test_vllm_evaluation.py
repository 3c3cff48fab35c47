"""``entrobench eval engine=vllm`` on the real sets, and with an engine that dies (kills: tests/e2e)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from tests.helpers.evaluated import record_of, samples_of, save_model
from tests.helpers.math_files import SEVEN, real_data, write_sets

ENGINE = ["engine=vllm", "device=cpu", "engine.batch_rows=8", "engine.kv_cache_gib=0.5"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "tiny")


def test_real_seven_benchmarks(model: Path, tmp_path: Path) -> None:
    data = real_data()
    words = [f"model={model}", f"benchmark={','.join(SEVEN)}", f"data_dir={data}", f"out={tmp_path}"]
    assert main(["eval", *words, *ENGINE, "n=2", "limit=3", "max_tokens=16"]) == 0
    record = record_of(tmp_path)
    assert set(record["benchmarks"]) == set(SEVEN)
    for entry in record["benchmarks"].values():
        assert entry["data"]["problems"] == 3 and entry["draws"]["avg"]["n"] == 2


def test_an_engine_that_dies_keeps_what_is_finished(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.rollout.engines.vllm_engine import VllmEngine

    accept = write_sets(tmp_path / "data", ("aime24",), count=6)
    request = [
        f"model={model}", "benchmark=aime24", f"data_dir={tmp_path / 'data'}", "n=4", "max_tokens=24",
        f"accept_data={accept}", f"out={tmp_path / 'out'}", *ENGINE,
    ]  # fmt: skip
    answer, answered = VllmEngine._completion, 0

    def tired(self: VllmEngine, *given: Any) -> Any:
        nonlocal answered
        answered += 1
        if answered == 10:  # of 48

            def fail() -> None:
                raise RuntimeError("no memory left")

            self._core.step = fail
        return answer(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(VllmEngine, "_completion", tired)
        assert main(["eval", *request]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("entrobench: the vLLM engine died: no memory left") and "goes on" in error
    assert main(["eval", *request]) == 0
    assert all(len(rows) == 24 for rows in samples_of(tmp_path / "out").values())
