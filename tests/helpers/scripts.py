"""Python that a test starts as a process of its own, with the root of the checkout on its path.

Only the root: pytest puts the folders of test files on its own path, and ``tests/`` there hides ``methods/``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def environment(**more: str) -> dict[str, str]:
    """This process's environment with the root as the only entry of ``PYTHONPATH``, and ``more``."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def run_python(
    *words: str | Path, cwd: Path = ROOT, timeout_s: float = 280.0, **more: str
) -> subprocess.CompletedProcess[str]:
    """``python *words``, with what it printed; ``more`` goes into its environment."""
    return subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, env=environment(**more), capture_output=True, text=True,
        timeout=timeout_s,
    )  # fmt: skip


def run_code(code: str, *words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """``python -c code *words``; the code may be indented."""
    return run_python("-c", textwrap.dedent(code), *words, **options)


def start_python(*words: str | Path, cwd: Path = ROOT, **more: str) -> subprocess.Popen[str]:
    """As :func:`run_python`, and goes on while it runs; its outputs are pipes."""
    return subprocess.Popen(
        [sys.executable, *map(str, words)], cwd=cwd, env=environment(**more), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
