"""Processes that a test starts: forked from one that has imported everything, or new ones from the root."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

#: Forks processes in which nothing is left to import: an interpreter of its own takes six seconds to do so.
WARM = multiprocessing.get_context("forkserver")
WARM.set_forkserver_preload(["tests.helpers.warm"])


def _one_of(work: Callable[..., None], arguments: tuple[Any, ...], environment: dict[str, str]) -> None:
    import torch

    os.environ |= environment
    torch.set_num_threads(1)
    work(*arguments)


def run_together(size: int, work: Callable[..., None], *arguments: Any, timeout_s: float = 280.0) -> None:
    """``work(*arguments)`` in ``size`` processes that know of each other as those that torchrun starts.

    Raises:
        AssertionError: one of them failed, or they took too long.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)}
    common |= {"LOCAL_WORLD_SIZE": str(size), "OMP_NUM_THREADS": "1"}
    common |= {name: value for name, value in os.environ.items() if name.startswith("ENTROBENCH_")}
    processes = []
    for rank in range(size):
        own = common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        processes.append(WARM.Process(target=_one_of, args=(work, arguments, own)))
        processes[-1].start()
    try:
        for process in processes:
            process.join(timeout_s)
        assert [process.exitcode for process in processes] == [0] * size
    finally:
        for process in processes:
            process.kill()
            process.join()
