"""``entrobench doctor``: what is here, what a missing part is needed for, what nobody has tried yet."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib import import_module
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from harness.model.gguf.cache import is_there
from harness.model.gguf.packages import PACKAGED
from harness.registry import benchmarks, methods
from harness.rollout.engines.base import ENGINES
from harness.run.untested import evidence, untested
from harness.util.environment import ROOT, versions

#: Seconds that the hub has to answer.
HUB_TIMEOUT_S = 3.0
PACKAGES = ("torch", "transformers", "hydra-core", "submitit", "datasets", "math-verify")
#: What the wheel installs. Three names are plain words, which another distribution may take, too.
OWN = ("entrobench", "harness", "methods", "benchmarks")


def doctor() -> int:
    """Print the report; the exit code is 0 whatever is missing: a laptop needs less than a cluster."""
    own = versions("entrobench")["entrobench"]
    print(f"entrobench {own}, Python {platform.python_version()}")
    _block("versions", [f"{name} {number}" for name, number in versions(*PACKAGES).items()])
    gpus = devices()
    _block("packages", shadows() or [f"{', '.join(OWN)}: from {_short(ROOT)}"])
    _block("devices", [*(gpus or ["no GPU: device=auto uses the CPU"]), f"CPU: {os.cpu_count()} cores"])
    engines = {name: str(import_module(module).status()) for name, module in ENGINES.items()}
    _block("engines", [f"{name}: {status}" for name, status in engines.items()])
    queue, answers = slurm()
    _block("slurm", [queue])
    network = hub()
    _block("hub", network)
    models = []
    for name, folder in benchmarks.shipped_models().items():
        there = (folder / "model.safetensors").exists()
        models.append(f"shipped model {name}: {'there' if there else f'MISSING in {folder}'}")
    for name, model in PACKAGED.items():
        state = "there" if is_there(model.folder) else f"not fetched (entrobench prefetch-model {name})"
        models.append(f"packaged model {name}: {state}")
    _block("methods and models", [f"{len(methods.entries())} methods", *models])
    vllm = engines.get("vllm", "").startswith("usable")
    found = versions("trl")["trl"]
    _block(
        "what works here",
        [
            "micro testbed, reports, new methods: yes",
            f"language models: {'yes' if gpus else 'small ones (prefetch-model); larger ones need a GPU'}",
            f"evaluation and rollouts with vLLM: {'yes' if vllm else 'no: see engines'}",
            f"several GPUs: {'yes' if len(gpus) > 1 else 'not on this machine'}",
            f"sweeps on Slurm: {'yes' if answers else 'no: see slurm'}",
            f"prefetching models and data: {'yes' if network[0].startswith('reachable') else 'no: see hub'}",
            f"comparison with TRL: {'yes' if found != 'not installed' else 'no: needs the extra peers'}",
        ],
    )
    left = untested()
    if left:
        width = max(len(path.name) for path in left)
        lines = [f"{path.name:<{width}}  {path.what}" for path in left]
        _block("untested on GPU (records made with them say so; `make bench-gpu` tries most)", lines)
    if evidence():
        _block("tried on a GPU", [f"{name}: results/gpu/{file}" for name, file in evidence().items()])
    return 0


def _block(title: str, lines: list[str]) -> None:
    print("\n".join([title, *(f"  {line}" for line in lines)]))


def shadows() -> list[str]:
    """A line for each package of ours that another distribution has too, or that is loaded from elsewhere."""
    owners = packages_distributions()
    found = []
    for name in OWN:
        others = sorted({owner for owner in owners.get(name, ()) if owner != "entrobench"})
        spec = find_spec(name)
        places = [Path(place).resolve() for place in (spec and spec.submodule_search_locations) or ()]
        wrong = (ROOT / name) not in places[:1]
        if wrong or others:
            where = f"loaded from {places[0] if places else 'nowhere'}" if wrong else "loaded from here"
            remedy = f"uninstall {' and '.join(others)}" if others else "leave that folder, or rename it"
            also = f", also in {' and '.join(others)}" if others else ""
            found.append(
                f"{name}: SHADOWED: {where}{also}; {remedy}, or give entrobench an environment of its own"
            )
    return found


def devices() -> list[str]:
    """A line for each GPU that torch sees."""
    import torch

    if not torch.cuda.is_available():
        return []
    found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return [f"GPU {i}: {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB" for i, gpu in enumerate(found)]


def slurm() -> tuple[str, bool]:
    """Version and partitions of the cluster that this machine submits to, and whether it answers."""
    if not shutil.which("sbatch"):
        return "no sbatch here: use launcher=local, or log in to a cluster", False
    version = _said("sbatch", "--version") or "sbatch does not say its version"
    partitions = _said("sinfo", "--noheader", "--format=%P %D nodes %G").splitlines()
    if not partitions:
        return f"{version}; the cluster does not answer (sinfo): ask its operators, or see SLURM_CONF", False
    return f"{version}: {'; '.join(partitions)}", True


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def hub() -> list[str]:
    """Whether models and data can be fetched from here, with which token, and what has been."""
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        network = "not asked: HF_HUB_OFFLINE is set"
    else:
        try:
            urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=HUB_TIMEOUT_S).close()
            network = "reachable"
        except HTTPError as error:
            network = f"reachable, but it answers {error.code}"
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            network = f"not reachable ({reason}): run `entrobench prefetch` where there is a network"
    token = "there" if get_token() else "none: models that ask for a licence need `hf auth login`"
    cache = Path(constants.HF_HUB_CACHE)
    count = len(list(cache.glob("models--*"))) if cache.is_dir() else 0
    return [network, f"token: {token}", f"cache: {_short(cache)}, {count} models"]


def _short(folder: Path) -> str:
    """With ``~`` for the home folder: people paste this into reports."""
    return f"~/{folder.relative_to(Path.home())}" if folder.is_relative_to(Path.home()) else str(folder)
