"""The engine ``vllm``: continuous batching on GPUs; on a CPU, in float32, for tests. Here it is started."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from harness.rollout.engines import text, vllm_cpu
from harness.rollout.engines.base import choose_device, choose_dtype
from harness.rollout.engines.vllm_engine import MOST_LOGPROBS, VllmEngine, reason
from harness.util.errors import UserError

#: Releases that the tests of ``tests/vllm_engine`` ran on.
TESTED = ("0.32.0",)
OLDEST = (0, 32)
#: What torchrun tells its processes, and vLLM would take for its own.
_TORCHRUN = (
    "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK",
    "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
)  # fmt: skip
INSTALL = "pip install 'entrobench[vllm]'"


def open_(
    model: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    max_positions: int | None = None,
    logp_temperature: float = 1.0,
    batch_rows: int = 256,
    gpu_memory: float = 0.9,
    gpus: int = 1,
    kv_cache_gib: float | None = None,
    separate_process: bool | None = None,
    sleeps: bool = False,
) -> VllmEngine:
    """Start vLLM on a model; see :func:`harness.rollout.engines.base.open_engine`.

    Args:
        batch_rows: responses drawn side by side.
        gpu_memory: share of each GPU's memory that vLLM may take.
        gpus: GPUs that the model is spread over (tensor parallel).
        kv_cache_gib: memory for cached prefixes; what ``gpu_memory`` leaves when not given, 4 GiB on a CPU.
        separate_process: whether the model runs in a process of its own, where it goes on while its caller
            grades; by default on GPUs only, because on few CPU cores it is slower.
        sleeps: whether it can give back its GPU memory between draws, for training on the same GPU.
    """
    if why := unusable():
        raise UserError(f"engine=vllm: {why}")
    for option, number in {"batch_rows": batch_rows, "gpus": gpus}.items():
        if number < 1:
            raise UserError(f"{option} must be at least 1, not {number}")
    text.load_tokenizer(model, revision)
    _quiet()
    device = choose_device(device)
    _check_platform(device)
    found = installed_version()
    if found not in TESTED:
        warnings.warn(
            f"vllm {found} was never tested with entrobench ({', '.join(TESTED)} was); run pytest -m vllm",
            stacklevel=2,
        )
    separate = device != "cpu" if separate_process is None else separate_process
    if not separate and VllmEngine.open_here:
        raise UserError("a vLLM engine is already open in this process; close it first")
    if kv_cache_gib is None and device == "cpu":
        kv_cache_gib = 4.0
    settings: dict[str, Any] = {
        "model": model, "revision": revision, "dtype": choose_dtype(dtype, device),
        "max_model_len": max_positions, "max_num_seqs": batch_rows, "enable_prefix_caching": True,
        "enforce_eager": device == "cpu", "seed": 0, "generation_config": "vllm", "disable_log_stats": True,
        "use_tqdm_on_load": False, "max_logprobs": MOST_LOGPROBS,
        "logprobs_mode": "raw_logprobs" if logp_temperature == 1 else "processed_logprobs",
        "kv_cache_memory_bytes": int(kv_cache_gib * 2**30) if kv_cache_gib else None,
        "worker_extension_cls": "harness.rollout.engines.vllm_worker.WorkerExtension",
    }  # fmt: skip
    if device == "cpu":
        if gpus > 1:
            raise UserError(f"gpus={gpus}, but the device is the CPU; leave gpus out")
        if sleeps:
            raise UserError("sleeps=true, but the device is the CPU, whose memory vllm keeps; leave it out")
        vllm_cpu.check_heads(model, revision)
        settings |= vllm_cpu.WHOLE_PROMPTS | ({} if separate else {"distributed_executor_backend": "uni"})
    else:
        settings |= {
            "gpu_memory_utilization": gpu_memory, "tensor_parallel_size": gpus, "enable_sleep_mode": sleeps,
        }  # fmt: skip
    return VllmEngine(
        _start(settings, separate, device == "cpu"), model, revision, device=device, batch_rows=batch_rows,
        logp_temperature=logp_temperature, separate_process=separate, sleeps=sleeps,
        version=found or "unknown", tested=found in TESTED and device == "cpu",
    )  # fmt: skip


def _quiet() -> None:
    """Import vllm such that it talks on stderr, of errors only, and reports to nobody."""
    import logging

    level = os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    logging.getLogger("vllm").setLevel(level)  # for what it says before it reads its settings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import vllm  # noqa: F401


def _start(settings: dict[str, Any], separate: bool, on_cpu: bool) -> Any:
    from vllm import EngineArgs, LLMEngine
    from vllm.v1.executor import Executor

    # Without this a CPU worker gets a process of its own even where the rest of the engine has none.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = str(int(separate))
    try:
        with warnings.catch_warnings(), _of_its_own() if separate else nullcontext():
            warnings.simplefilter("ignore", FutureWarning)
            given = EngineArgs(**settings)
            if on_cpu:
                vllm_cpu.keep_states(given)
            config = given.create_engine_config()
            if on_cpu:
                vllm_cpu.check_whole_prompts(config, settings["model"])
            return LLMEngine(config, Executor.get_class(config), log_stats=False, multiprocess_mode=separate)
    except UserError:
        raise
    except Exception as error:  # what vLLM raises here ranges from its own to the system's
        raise UserError(
            f"vllm could not open '{settings['model']}': {reason(error)} (its own report, if any, is above; "
            "a smaller max_positions or batch_rows needs less memory, a larger kv_cache_gib or gpu_memory "
            "gives more, and engine=hf runs what vllm does not)"
        ) from error


@contextmanager
def _of_its_own() -> Iterator[None]:
    """A process started meanwhile knows nothing of torchrun, and sees this process's GPU as its only one."""
    run_locally = {name: os.environ[name] for name in _TORCHRUN if name in os.environ}
    changed: dict[str, str | None] = dict.fromkeys(run_locally)
    if int(run_locally.get("WORLD_SIZE", "1")) > 1:
        number = int(run_locally.get("LOCAL_RANK", "0"))
        seen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        changed["CUDA_VISIBLE_DEVICES"] = seen[number] if number < len(seen) else str(number)
    before = {name: os.environ.get(name) for name in changed}
    _set(changed)
    try:
        yield
    finally:
        _set(before)


def _set(environment: Mapping[str, str | None]) -> None:
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def unusable() -> str:
    """Why vLLM cannot be used here, with the remedy; empty when it can. Does not import it."""
    found = installed_version()
    if found is None:
        return f"vllm is not installed; {INSTALL} on a machine with GPUs, make .venv-vllm for tests on a CPU"
    numbers = [int(part) if part.isdigit() else 0 for part in found.split(".")[:2]]
    if tuple(numbers) < OLDEST:
        return f"vllm {found} is too old; install {'.'.join(map(str, OLDEST))} or newer"
    return ""


def installed_version() -> str | None:
    """The version of the installed vLLM (the CPU package has another name); ``None`` without one."""
    spec = find_spec("vllm")
    if spec is None or spec.origin is None:  # a folder that happens to be called vllm
        return None
    for package in ("vllm", "vllm-cpu"):
        try:
            return version(package).partition("+")[0]
        except PackageNotFoundError:
            continue
    return "unknown"


def status() -> str:
    """One line for ``entrobench doctor``."""
    if why := unusable():
        return f"not usable: {why}"
    import torch

    found = installed_version()
    tested = (
        "tested on a CPU" if found in TESTED else f"this version is untested, {', '.join(TESTED)} is tested"
    )
    gpu = "; untested on GPU" if torch.cuda.is_available() else ""
    return f"usable: vllm {found} ({tested}{gpu})"


def _check_platform(device: str) -> None:
    """vLLM is built for one kind of device, and picks it itself."""
    from vllm.platforms import current_platform

    built = "cpu" if current_platform.is_cpu() else "cuda"
    if built != device.partition(":")[0]:
        raise UserError(
            f"device={device}, but this vllm is built for {built}; use device={built} or engine=hf"
        )
