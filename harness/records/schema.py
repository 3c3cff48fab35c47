"""The JSON schema of a record, from its type: ``python -m harness.records.schema`` writes it.

Records of schema 1, as the testbed's, are valid once they are brought to schema 2.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from harness.records.record import Record

FILE = Path(__file__).parents[2] / "results" / "record.schema.json"


def schema_text() -> str:
    """The schema of a line of ``records.jsonl``."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(head | msgspec.json.schema(Record), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(schema_text(), encoding="utf-8")
    print(FILE)
