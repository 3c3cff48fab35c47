"""The samples file: kept as it comes, the same after any interruption, damaged files named and kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.evaluation import samples as module
from harness.evaluation.samples import CorruptSamples, Sample, SampleStore, read_samples, write_samples
from harness.util.errors import UserError

IDS = ("b", "a", "c")


def sample(problem: str, number: int, status: str = "wrong") -> Sample:
    return Sample(problem, number, f"text {problem}{number} ü", 5, "end", status, None, "wrong", -1.5, "g@1")


ALL = [sample(p, i, "right" if i else "wrong") for p in IDS for i in range(2)]


def test_interrupted_or_not_the_file_is_the_same(tmp_path: Path) -> None:
    whole = SampleStore(tmp_path / "whole.parquet", IDS, 2)
    for one in ALL:
        whole.add(one)
    whole.finish()
    path = tmp_path / "parts.parquet"
    order = [4, 0, 3, 1, 5, 2]
    for i, one in enumerate(order):
        store = SampleStore(path, IDS, 2)  # a new process after every sample
        assert len(store) == i and store.right == sum(ALL[j].status == "right" for j in order[:i])
        store.add(ALL[one])
        store.flush()
    store = SampleStore(path, IDS, 2)
    assert store.complete and store.problems_done == 3 and store.samples() == ALL
    store.finish()
    assert path.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["parts.parquet", "whole.parquet"]
    assert read_samples(path) == ALL


def test_samples_are_on_disk_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART_ROWS", 2)
    store = SampleStore(tmp_path / "x.parquet", IDS, 2)
    for one in ALL[:3]:
        store.add(one)
    assert len(SampleStore(tmp_path / "x.parquet", IDS, 2)) == 2
    monkeypatch.setattr(module, "PART_S", 0.0)
    store.add(ALL[3])
    assert len(SampleStore(tmp_path / "x.parquet", IDS, 2)) == 4
    with pytest.raises(ValueError, match="4 of 6 samples"):
        store.finish()


def test_what_another_process_is_writing_or_left_half_written_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    store = SampleStore(path, IDS, 2)
    store.add(ALL[0])
    store.flush()
    (part,) = path.with_suffix(".parts").iterdir()
    part.with_name(f".{part.name}.99.tmp").write_bytes(b"PAR1")
    store.add(ALL[1])
    store.flush()
    assert len(SampleStore(path, IDS, 2)) == 2


def test_a_damaged_part_is_named_kept_and_drawn_again(tmp_path: Path) -> None:
    path, told = tmp_path / "x.parquet", list[str]()
    store = SampleStore(path, IDS, 2)
    for one in ALL[:2]:
        store.add(one)
        store.flush()
    part = tmp_path / "x.parts" / "000001.parquet"
    whole = part.read_bytes()
    part.write_bytes(whole[: len(whole) // 2])
    store = SampleStore(path, IDS, 2, told.append)
    assert len(store) == 1 and len(told) == 1
    assert "000001.parquet cannot be read" in told[0] and "moved to 000001.parquet.corrupt" in told[0]
    assert part.with_name("000001.parquet.corrupt").read_bytes() == whole[: len(whole) // 2]
    for one in ALL[1:]:
        store.add(one)
    store.finish()
    assert read_samples(path) == ALL
    assert [p.name for p in (tmp_path / "x.parts").iterdir()] == ["000001.parquet.corrupt"]
    path.write_bytes(b"nothing")
    assert len(SampleStore(path, IDS, 2, told.append)) == 0 and (tmp_path / "x.parquet.corrupt").exists()
    with pytest.raises(CorruptSamples, match="has no column 'problem_id'"):
        import pandas as pd

        pd.DataFrame({"text": ["t"]}).to_parquet(path)
        read_samples(path)


def test_samples_of_other_problems_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write_samples(path, ALL)
    with pytest.raises(UserError, match="holds sample 0 of 'c', which this evaluation does not draw"):
        SampleStore(path, IDS[:2], 2)
    with pytest.raises(UserError, match="holds sample 1 of 'b'"):
        SampleStore(path, IDS, 1)
    assert read_samples(path) == ALL


@pytest.mark.parametrize("count", [3, 6])
def test_new_verdicts_replace_old_ones_on_disk(count: int, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    store = SampleStore(path, IDS, 2)
    for one in ALL[:count]:
        store.add(one)
        store.flush()
    store.regraded([replace(one, status="right", graded_by="g@2") for one in ALL[:count]])
    again = SampleStore(path, IDS, 2)
    assert len(again) == again.right == count
    assert {one.graded_by for one in again.samples()} == {"g@2"}
    assert path.exists() == (count == 6)
