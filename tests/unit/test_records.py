"""Result records: their schema, what is refused and how it is told, and records of schema 1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.records.load import load_records, read_record, read_result
from harness.records.record import Evaluation, Record, RunResult, as_record
from harness.records.schema import FILE, schema_text
from harness.records.write import plain, record_line
from tests.helpers.records import small_record

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "results" / "micro" / "records.jsonl"


def test_the_committed_schema_is_that_of_the_type() -> None:
    assert FILE.read_text(encoding="utf-8") == schema_text(), "run python -m harness.records.schema"
    schema = json.loads(schema_text())
    own = schema["$defs"]["Record"]
    assert own["additionalProperties"] is False and own["properties"]["schema"] == {"enum": [2]}
    assert {"schema", "run_id", "role", "evals"} <= set(own["required"])


def test_committed_records_are_of_the_type_and_survive_being_written() -> None:
    loaded = load_records(COMMITTED)
    assert loaded.records and not loaded.left_out
    for record in loaded.records:
        assert read_record(record_line(record)) == record
        assert plain(record)["schema"] == 2


def test_schema_1_becomes_schema_2_and_no_number_changes() -> None:
    lines = COMMITTED.read_text(encoding="utf-8").splitlines()
    for line in lines[::20]:
        old, new = json.loads(line), plain(read_record(line))
        assert (old.pop("schema"), new.pop("schema")) == (1, 2)
        if "mirror" in old["train"]:
            assert new["train"].pop("tracking") == old["train"].pop("mirror")
        assert _said(new) == _said(old)


def _said(value: Any) -> Any:
    """What a record says: without nulls and what is empty, which schema 2 does not write, or a default."""
    if isinstance(value, dict):
        kept = {key: _said(part) for key, part in value.items()}
        return {k: v for k, v in kept.items() if v is not None and v not in ("", [], {}) and v is not False}
    return [_said(part) for part in value] if isinstance(value, list) else value


def test_what_the_oldest_records_lack_is_filled_in() -> None:
    old = plain(small_record()) | {
        "schema": 1, "evals": {"a": None}, "probe": [{"step": 3, "entropy_nats": 0.5}], "changes": None,
    }  # fmt: skip
    del old["tuned"]
    record = read_record(json.dumps(old))
    assert record.evals == {} and record.tuned is False and record.probe[0].generated_tokens == 3


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"schema": 3}, "record m-s1 has schema 3, this version reads schema 1 and 2: collect the run again"),
        ({"role": "judge"}, r"record m-s1 has role 'judge': use one of \('base', 'control', 'method'\)"),
        (
            {"seed": "one"},
            r"m-s1 is not of schema 2 \(Expected `int`, got `str` - at `\$.seed`\); col",
        ),
        ({"sede": 1}, r"unknown field `sede`\); collect the run again"),
        ({"evals": {"a": {"n": 4, "corect": [1]}}}, r"is not of schema 2 .* collect the run again"),
        ({"evals": {"a": {"n": 4, "correct": [5]}}}, "right answers on a lie outside 0 to n=4"),
        ({"evals": {"a": {"n": 4, "correct": [1], "pass": {"n": 2, "correct": [3]}}}}, "outside 0 to n=2"),
        ({"numerics_version": None}, "is not of schema 2"),
    ],
)
def test_a_bad_record_is_told_in_one_line(changes: dict[str, Any], told: str) -> None:
    row = plain(small_record()) | changes
    with pytest.raises(ValueError, match=told) as caught:
        read_record(json.dumps(row))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("schema", [1, 2])
def test_everything_that_is_missing_is_named(schema: int) -> None:
    row = {k: v for k, v in plain(small_record()).items() if k not in ("evals", "model", "role")}
    with pytest.raises(ValueError, match="record m-s1 lacks model, evals, role: collect the run again"):
        read_record(json.dumps(row | {"schema": schema}))
    with pytest.raises(ValueError, match="record m-s1 lacks model, evals: collect the run again"):
        read_result(json.dumps({k: v for k, v in row.items() if k != "tuned"} | {"schema": schema}))


def test_a_result_becomes_a_record_with_what_its_sweep_knows() -> None:
    result = RunResult(
        run_id="m-s1", method="m", seed=1, model="small", benchmark="letters@1", numerics_version=1,
        evals={"a": Evaluation(n=2, correct=[1])},
    )  # fmt: skip
    assert read_result(json.dumps(plain(result))) == result and result.role == "method"
    record = as_record(result, role="control", tuned=True, sweep="s")
    assert isinstance(record, Record) and (record.role, record.tuned, record.evals) == (
        "control", True, result.evals,
    )  # fmt: skip
    assert list(plain(result)) and "tuned" not in plain(result)
