"""Runs ask nothing of the network: what they need is fetched before, by ``entrobench prefetch``."""

from __future__ import annotations

import os
from pathlib import Path

#: Folders that say where models and data are; jobs must look where ``prefetch`` put them.
PLACES = ("HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "ENTROBENCH_DATA", "ENTROBENCH_CACHE")
#: What else jobs must see as the submission did: data that differs from the known and was accepted.
WORDS = ("ENTROBENCH_ACCEPT_DATA",)


def cache_folder() -> Path:
    """Where fetched and converted things are kept: ``$ENTROBENCH_CACHE``, else beside the hub's own cache."""
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    return Path(os.environ.get("ENTROBENCH_CACHE") or f"{home}/entrobench").expanduser()


def offline_environment() -> dict[str, str]:
    """Environment variables of a job: the hub and data libraries keep to what is on disk, where it is.

    A missing file is then an error at once, and not a wait for a network that compute nodes do not have.
    """
    places = {
        name: str(Path(os.environ[name]).expanduser().absolute()) for name in PLACES if os.environ.get(name)
    }
    words = {name: os.environ[name] for name in WORDS if os.environ.get(name)}
    return (
        places
        | words
        | {
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
    )
