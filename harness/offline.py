"""Runs ask nothing of the network: what they need is fetched before, by ``entrobench prefetch``."""

from __future__ import annotations


def offline_environment() -> dict[str, str]:
    """Environment variables that keep a job's hub and data libraries to what is on disk.

    A missing file is then an error at once, and not a wait for a network that compute nodes do not have.
    """
    return {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
