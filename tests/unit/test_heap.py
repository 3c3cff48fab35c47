"""What is freed goes back to the system, so that a large model's training holds what it needs and no more."""

from __future__ import annotations

import sys

import pytest

from tests.helpers.scripts import run_code

#: Prints how many MiB go back when every second of forty blocks of 2 MiB is freed, in a process as it is and
#: in one after the call, which comes before any: forks of one that has loaded torch.
SCRIPT = """
import os
import torch
from harness.util import heap
from tests.performance.timing import resident_bytes

def given_back():
    blocks = [torch.ones(1 << 19) for _ in range(40)]
    full = resident_bytes()
    del blocks[::2]
    return (full - resident_bytes()) / 2**20

for apart in (False, True):
    if os.fork() == 0:
        big = torch.ones(1 << 22)
        del big  # glibc keeps blocks up to this size from now on: 16 MiB
        if apart:
            heap.keep_apart()
        print(given_back(), flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc alone")
def test_freed_blocks_are_given_back() -> None:
    kept, apart = map(float, run_code(SCRIPT).stdout.split())
    assert kept < 10 < 35 < apart
