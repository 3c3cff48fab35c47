"""Engines that draw responses, behind one interface: ``hf`` (built in) and ``vllm``."""

from harness.rollout.engines.base import (
    ENGINES,
    Completion,
    Engine,
    EngineDied,
    Request,
    Sampling,
    check_length,
    open_engine,
)

__all__ = [
    "ENGINES",
    "Completion",
    "Engine",
    "EngineDied",
    "Request",
    "Sampling",
    "check_length",
    "open_engine",
]
