"""The command that tests take for ``python`` ends, prints and is stopped as an interpreter is."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.scripts import environment
from tests.helpers.warm_python import warm_python


@pytest.fixture(scope="module")
def python() -> Iterator[str]:
    with warm_python() as path:
        yield path


def test_words_folder_environment_and_code_are_those_of_the_command(python: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\nprint(sys.argv[1:], os.getcwd(), os.environ['OWN'], input())\n"
        "print('said', file=sys.stderr)\nsys.exit(3)\n"
    )
    for words in ([str(script)], ["-u", "-m", "script"], ["-c", script.read_text()]):
        done = subprocess.run(
            [python, *words, "a b"], cwd=tmp_path, env=environment(OWN="x"), input="line\n",
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.stdout == f"['a b'] {tmp_path} x line\n" and done.stderr == "said\n"
        assert done.returncode == 3


def test_an_error_is_a_traceback_and_the_root_is_on_the_path(python: str) -> None:
    code = "import harness, torch; raise ValueError('no')"
    done = subprocess.run([python, "-c", code], env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr.rstrip().endswith("ValueError: no")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_both_the_command_and_its_process(python: str, number: int) -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    command = subprocess.Popen([python, "-c", code], env=environment(), stdout=subprocess.PIPE, text=True)
    assert command.stdout is not None
    pid = int(command.stdout.readline())
    assert pid != command.pid
    command.send_signal(number)
    assert command.wait(20) == -number
    end = time.monotonic() + 20
    while _alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert not _alive(pid)


def test_a_process_that_kills_itself_is_told_as_killed(python: str) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert subprocess.run([python, "-c", code], env=environment(), timeout=60).returncode == -signal.SIGKILL


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
