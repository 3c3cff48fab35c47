"""What a measurement's file says of itself: when, where, with what, and how busy the machine was."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path
from typing import Any

from harness.util.environment import commit, hardware, versions
from harness.util.files import write_json

FOLDER = Path(__file__).parents[2] / "results" / "performance"
#: Flags of processors that compute in bfloat16: without one of them it is emulated.
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16", "avx_ne_convert"})


def flags() -> frozenset[str]:
    """The processor's features as Linux names them; empty on other systems."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.exists() else []
    line = next((row for row in lines if row.startswith(("flags", "Features"))), "")
    return frozenset(line.partition(":")[2].split())


def vectors() -> str:
    """The widest vectors that the processor computes with, and whether it has bfloat16."""
    known = flags()
    wide = next(
        (name for name in ("amx_tile", "avx512f", "avx2", "asimd") if name in known), "no known vectors"
    )
    return f"{wide}, {'bfloat16' if has_bf16() else 'no bfloat16'}"


def has_bf16() -> bool:
    """Whether the processor computes in bfloat16."""
    return bool(flags() & BF16_FLAGS)


def about(*packages: str) -> dict[str, Any]:
    """Date, commit, hardware, versions and load of a measurement that ends now."""
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "hardware": f"{hardware()} ({vectors()})",
        "versions": {"python": platform.python_version(), **versions("torch", *packages)},
        "load": [round(x, 1) for x in os.getloadavg()],
    }


def keep(file: Path, result: dict[str, Any]) -> None:
    """Write a result, and make its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, result)
    print(f"wrote {file}")
