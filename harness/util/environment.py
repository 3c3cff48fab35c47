"""Versions, hardware and commit: what a record says of where it was made. Imports no torch by itself."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from pathlib import Path

#: The checkout, or the folder that the packages are installed in.
ROOT = Path(__file__).resolve().parents[2]


def versions(*packages: str) -> dict[str, str]:
    """The installed version of each package."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def hardware(device: str = "cpu") -> str:
    """CPU model and core count, or the GPUs' name."""
    if device == "cuda":
        import torch

        return f"{torch.cuda.get_device_name()}, {torch.cuda.device_count()} on this node"
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
    return f"{name}, {os.cpu_count()} cores"


@cache
def commit() -> str:
    """The checkout's commit, with ``+changes`` when tracked files differ; ``unknown`` outside a checkout."""
    try:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=ROOT, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    changes = [line for line in dirty.stdout.splitlines() if not line[3:].startswith("results/")]
    return head.stdout.strip() + ("+changes" if changes else "")
