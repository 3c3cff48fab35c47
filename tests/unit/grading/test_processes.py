"""Workers that are killed, replaced, limited and confined, that end with their parent, from any thread."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from harness.grading import children
from harness.grading.grader import Grader
from harness.grading.pool import PoolFailed
from tests.helpers.scripts import run_code, start_python

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
own = pytest.mark.usefixtures("forkers_of_their_own")
BOMB = (r"7", r"\boxed{10^{10^{10}}}")
EASY = ("x+1", r"\boxed{1+x}")


def alive(pid: int) -> bool:
    """Whether a process exists; one that has ended and is not waited for counts."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def gone(pid: int, within_s: float = 5.0) -> bool:
    end = time.monotonic() + within_s
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not alive(pid)


def test_a_bomb_is_a_timeout_within_the_limit_and_the_next_answer_is_graded() -> None:
    with Grader(workers=1, cpu_s=0.3, wall_s=3.0) as grader:
        assert grader.grade(gold=EASY[0], pred=EASY[1]).verdict.correct
        before = grader.worker_pids()
        start = time.monotonic()
        grade = grader.grade(gold=BOMB[0], pred=BOMB[1])
        assert time.monotonic() - start < 10  # far from hanging, whatever else the machine does
        assert grade.verdict.status == "timeout"
        assert grade.second == "unparsed"  # it refuses to compute this, and is asked in a fresh worker
        assert grader.grade(gold=EASY[0], pred=EASY[1]).verdict.correct
        assert grader.worker_pids() != before
        assert all(gone(pid) for pid in before)  # killed and waited for: no zombie


@linux
def test_a_worker_that_stands_still_is_killed_by_the_clock() -> None:
    """Without using processor time at all: stopped while it holds an answer."""
    with Grader(workers=1, wall_s=1.0) as grader:
        assert grader.grade(gold=EASY[0], pred=EASY[1]).verdict.correct
        [pid] = grader.worker_pids()
        os.kill(pid, signal.SIGSTOP)
        start = time.monotonic()
        grade = grader.grade(gold="y+1", pred=r"\boxed{1+y}")
        assert 0.5 < time.monotonic() - start < 10
        assert (grade.verdict.status, grade.second) == ("timeout", "right")
        assert gone(pid)


def test_a_worker_killed_from_outside_costs_one_verdict_at_most() -> None:
    with Grader(workers=1) as grader:
        assert grader.grade(gold=EASY[0], pred=EASY[1]).verdict.correct
        [pid] = grader.worker_pids()
        os.kill(pid, signal.SIGKILL)
        grades = grader.grade_all([EASY] * 5)
        assert sum(grade.verdict.correct for grade in grades) >= 4
        assert gone(pid)


def test_workers_are_replaced_after_so_many_answers() -> None:
    with Grader(workers=1, recycle_after=3) as grader:
        seen = set()
        for i in range(7):
            assert grader.grade(gold=f"x+{i}", pred=rf"\boxed{{{i}+x}}").verdict.correct
            seen.update(grader.worker_pids())
        assert len(seen) >= 2
        assert all(gone(pid) for pid in seen - set(grader.worker_pids()))


@linux
@own
def test_workers_are_limited_and_hold_no_torch() -> None:
    with Grader(workers=1, memory_mb=777) as grader:
        grader.grade(gold=EASY[0], pred=EASY[1])
        [pid] = grader.worker_pids()
        limits = Path(f"/proc/{pid}/limits").read_text()
        fields = {line[:25].strip(): line[25:].split()[0] for line in limits.splitlines()[1:]}
        assert fields["Max address space"] == str(777 << 20)
        assert fields["Max core file size"] == fields["Max file size"] == "0"
        assert "libtorch" not in Path(f"/proc/{pid}/maps").read_text()
        resident = next(
            line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")
        )
        assert int(resident.split()[1]) < 250_000  # KiB


def test_memory_beyond_the_limit_is_refused() -> None:
    code = """
    from harness.grading import confine
    confine.limit(400)
    try:
        bytearray(600 << 20)
    except MemoryError:
        print("refused")
    """
    assert run_code(code).stdout == "refused\n"


ATTEMPTS = (
    "import os; os.system('true')",
    "import subprocess; subprocess.run(['true'])",
    "open('pwned_marker', 'w')",
    "import os; os.open('pwned_marker', os.O_CREAT)",
    "import os; os.fork()",
    "eval('1+1')",
    "exec('x = 1')",
    "import socket; socket.create_connection(('127.0.0.1', 9))",
    "from sympy import sympify; sympify('1+1')",
    "from sympy import S; S('__import__(\"os\")')",
    "from sympy import Symbol, lambdify; lambdify(Symbol('x'), Symbol('x') + 1)",
)


def test_confined_processes_refuse_everything_but_mathematics(tmp_path: Path) -> None:
    code = r"""
    import os, sys
    from harness.grading import confine, first
    first.load()
    compiled = [compile(attempt, "attempt", "exec") for attempt in sys.argv[1:]]
    confine.never_evaluate()
    confine.refuse_side_effects()
    for attempt in compiled:
        try:
            exec(attempt)
            print("DONE")
        except PermissionError:
            print("refused")
    print(first.judge(gold=r"\frac{3}{2}x^2+1.5", pred=r"1.5x^2+\frac32")["status"])
    """
    done = run_code(code, *ATTEMPTS, cwd=tmp_path)
    assert done.stdout.split() == ["refused"] * len(ATTEMPTS) + ["right"], done.stderr
    assert list(tmp_path.iterdir()) == []


def test_from_many_threads_at_once() -> None:
    def work(i: int) -> bool:
        assert threading.current_thread() is not threading.main_thread()
        return grader.grade(gold=f"x+{i}", pred=rf"\boxed{{{i}+x}}").verdict.correct

    with Grader(workers=2) as grader, ThreadPoolExecutor(6) as threads:
        assert all(threads.map(work, range(40)))
        assert len(grader.worker_pids()) == 2


def test_a_thread_that_made_the_grader_may_end() -> None:
    made: list[Grader] = []

    def make() -> None:
        made.append(Grader(workers=1))
        assert made[0].grade(gold=EASY[0], pred=EASY[1]).verdict.correct

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    with made[0] as grader:
        pids = grader.worker_pids()
        assert grader.grade(gold=EASY[0], pred=EASY[1]).verdict.correct
        assert grader.worker_pids() == pids


def _in_a_process(_: int) -> list[str]:
    with Grader(workers=1, cpu_s=0.3) as grader:
        return [grade.verdict.status for grade in grader.grade_all([EASY, BOMB])]


@own
@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_from_a_worker_process(method: str) -> None:
    with get_context(method).Pool(1) as pool:
        assert pool.map(_in_a_process, [0]) == [["right", "timeout"]]


def test_a_grader_is_not_carried_through_a_fork() -> None:
    with Grader(workers=1) as grader:
        grader.grade(gold=EASY[0], pred=EASY[1])
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                grader.grade(gold="x+2", pred=r"\boxed{2+x}")  # not one that it remembers
            except RuntimeError as error:
                code = 0 if "after the fork" in str(error) else 2
            os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        assert grader.grade(gold=EASY[0], pred=EASY[1]).verdict.correct


PARENT = """
import signal, sys, time
from harness.grading.grader import Grader
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it from the start
grader = Grader(workers=2, cpu_s=30, wall_s=60)
grader.grade(gold="x+1", pred=r"\\boxed{1+x}")
grader.submit(gold="7", pred=r"\\boxed{10^{10^{10}}}")
grader.submit(gold="8", pred=r"\\boxed{10^{10^{10}}}")
while len(grader.worker_pids()) < 2:
    time.sleep(0.02)
time.sleep(0.3)
print(grader._pool.forker_pid(), *grader.worker_pids(), flush=True)
{then}
"""


def _parent(then: str) -> tuple[subprocess.Popen[str], list[int]]:
    parent = start_python("-c", PARENT.replace("{then}", then))
    assert parent.stdout is not None
    return parent, [int(pid) for pid in parent.stdout.readline().split()]


def test_nothing_outlives_a_killed_parent() -> None:
    parent, pids = _parent("time.sleep(60)")
    assert len(pids) == 3 and all(alive(pid) for pid in pids)
    parent.kill()
    parent.communicate()
    assert all(gone(pid) for pid in pids)


def test_nothing_outlives_a_parent_that_ends_without_closing() -> None:
    parent, pids = _parent("")
    _, errors = parent.communicate(timeout=20)
    assert parent.returncode == 0 and errors == ""
    assert all(gone(pid) for pid in pids)


def test_ctrl_c_ends_a_waiting_parent_cleanly() -> None:
    then = "with grader:\n    for _ in grader.finished(wait=True): pass"
    parent, pids = _parent(then)
    time.sleep(0.3)
    parent.send_signal(signal.SIGINT)
    _, errors = parent.communicate(timeout=20)
    assert errors.strip().endswith("KeyboardInterrupt") and errors.count("Traceback") == 1
    assert all(gone(pid) for pid in pids)


@linux
@own
def test_workers_end_when_their_forker_is_killed_and_grading_goes_on() -> None:
    with Grader(workers=1) as grader:
        grader.grade(gold=EASY[0], pred=EASY[1])
        forker, workers = grader._pool.forker_pid(), grader.worker_pids()
        assert forker is not None
        os.kill(forker, signal.SIGKILL)
        assert all(gone(pid) for pid in workers)
        assert grader.grade_all([EASY] * 3)[-1].verdict.correct
        assert grader._pool.forker_pid() != forker


@own
def test_processes_that_cannot_start_are_an_error_and_not_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.grading.children._START", "raise SystemExit('broken on purpose')")
    with Grader(workers=1) as grader:
        with pytest.raises(PoolFailed, match="do not start"):
            grader.grade(gold=EASY[0], pred=EASY[1])
        with pytest.raises(PoolFailed):
            grader.submit(gold=EASY[0], pred=EASY[1])
            list(grader.finished(wait=True))


def test_a_grader_that_fails_is_told_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, forkers_of_their_own: None
) -> None:
    broken = "import harness.grading.second as s; s.same = lambda *_: 1 / 0; from harness.grading.forker"
    start = children._START.replace("from harness.grading.forker", broken)
    monkeypatch.setattr("harness.grading.children._START", start)
    said: list[logging.LogRecord] = []
    monkeypatch.setattr("harness.grading.grader._LOG.handle", said.append)
    with Grader(workers=1) as grader:
        grades = grader.grade_all([EASY, ("x+2", r"\boxed{x+3}")])
        assert [(g.verdict.status, g.second) for g in grades] == [
            ("right", "unparsed"),
            ("wrong", "unparsed"),
        ]
        assert all(g.error.startswith("second grader: ZeroDivisionError in ") for g in grades)
        assert list(grader.errors.values()) == [2]
        assert grader.grade(gold="5", pred=r"\boxed{5}").error == ""
    assert [r.levelname for r in said if "ZeroDivisionError" in r.getMessage()] == ["WARNING"]


def test_submitting_never_waits_for_grading() -> None:
    with Grader(workers=1, cpu_s=0.5) as grader:
        grader.grade(gold=EASY[0], pred=EASY[1])
        for i in range(4):
            grader.submit(gold="7", pred=rf"\boxed{{10^{{10^{{1{i}}}}}}}")
        assert not list(grader.finished())  # half a second of work each: nothing was waited for
        assert [grade.verdict.status for _, grade in grader.finished(wait=True)] == ["timeout"] * 4
