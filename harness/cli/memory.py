"""``entrobench plan-memory``: what a run needs of each GPU, or of a CPU, before anything is asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.config.hydra import parse
from harness.config.schema import to_dict
from harness.model.checks import check_vocabulary
from harness.model.memory import Plan, find_shape, plan_memory
from harness.model.memory.estimate import GIB, PROMPT_TOKENS
from harness.model.memory.machine import machine_mib
from harness.model.source import resolve_model
from harness.registry import benchmarks
from harness.rollout.second_model import held_beside
from harness.run.compose import compose
from harness.sweep.resources import slurm_resources
from harness.util.errors import UserError
from harness.util.words import counted

#: Memory of the GPU that is assumed unless ``memory=`` says otherwise; with ``device=cpu`` this machine's.
MEMORY = "80G"


def plan_memory_of(words: Sequence[str]) -> int:
    """Print the table for the run that ``words`` describe; exit code 1 when it does not fit."""
    own = {"gpus": "1", "memory": "", "prompt_tokens": ""}
    typed = []
    for word in words:
        key, sign, value = word.partition("=")
        if key in own and sign:
            own[key] = value
        else:
            typed.append(f"model.path={value}" if key == "model" and sign else word)
    gpus = _whole(own["gpus"], "gpus")
    given = _whole(own["prompt_tokens"], "prompt_tokens") if own["prompt_tokens"] else None
    run = compose(parse(typed))
    cpu = run.device == "cpu"
    own["memory"] = own["memory"] or (f"{machine_mib()}M" if cpu else MEMORY)
    memory = gpu_bytes(own["memory"])
    path = resolve_model(run.model.path, benchmarks.shipped_models())
    shape = find_shape(path, run.model.revision)
    check_vocabulary(shape.vocab, run.train.logits_chunk_mib)
    read = None if given else longest_prompt(path, run.data.benchmark)
    prompt = given or read or PROMPT_TOKENS
    reference = any(stage.needs_reference for stage in run.method.stages().of_step())

    beside = {key: find_shape(*place) for key, place in held_beside(run).items()}

    def plan(config: Mapping[str, Any], on: int = gpus) -> Plan:
        return plan_memory(
            shape, config, gpus=on, gpu_bytes=memory, prompt_tokens=prompt, reference=reference, beside=beside
        )

    config = to_dict(run)
    found = plan(config)
    cards = "a CPU" if cpu else counted(gpus, "GPU")
    print(f"{run.model.path}: {shape.params / 1e9:.2f} billion parameters on {cards} of {own['memory']}")
    passes = run.model.dtype if run.model.compute_dtype == "same" else run.model.compute_dtype
    print(f"weights {run.model.dtype}, passes {passes}; micro-batches of {found.tokens} tokens at most")
    known = "as given" if given else f"the longest of {run.data.benchmark}" if read else "assumed"
    print(f"prompts of {prompt} tokens ({known}), responses of {run.rollout.max_response_tokens}\n")
    for line in table(found, "GiB" if cpu else "GiB on each GPU"):
        print(line)
    print(f"\n{verdict(found, memory, own['memory'])}")
    if found.peak <= memory:
        return 0
    print("what would help, each on top of those before:")
    for change, other in remedies(config, plan, gpus, memory):
        print(f"  {change}: {other.peak / GIB:.1f} GiB{', fits' if other.peak <= memory else ''}")
    return 1


def longest_prompt(path: str, name: str) -> int | None:
    """Tokens of the longest training prompt of a drawn set; None where data would have to be fetched.

    Args:
        path: of the model; its tokenizer is read where it is a folder.
    """
    benchmark = benchmarks.load(name)
    if not getattr(benchmark, "own_prompts", False) or not (Path(path) / "tokenizer_config.json").is_file():
        return None
    from harness.model.text import encode, load_tokenizer

    tokenizer = load_tokenizer(path)
    return max(len(encode(tokenizer, problem.prompt)) for problem in benchmark.problems("train"))


def table(plan: Plan, what: str = "GiB on each GPU") -> list[str]:
    """The parts by phase, in GiB; ``what`` heads the first column."""
    rows = [(p.name, f"{p.update / GIB:.2f}", f"{p.sampling / GIB:.2f}", p.knob) for p in plan.parts]
    rows.append(("sum", f"{plan.update / GIB:.2f}", f"{plan.sampling / GIB:.2f}", ""))
    width = max(len(row[0]) for row in rows)
    head = (what, "update", "sampling", "setting")
    return [
        f"{name:<{width}}  {update:>8}  {sampling:>8}  {knob}".rstrip()
        for name, update, sampling, knob in (head, *rows)
    ]


def verdict(plan: Plan, memory: float, text: str) -> str:
    """One line: whether it fits, and how much is left or missing."""
    worst = "update" if plan.update >= plan.sampling else "sampling"
    if plan.peak <= memory:
        return f"fits: {(memory - plan.peak) / GIB:.1f} GiB of {text} are left at the worst moment ({worst})"
    part = plan.largest()
    return (
        f"does not fit: {(plan.peak - memory) / GIB:.1f} GiB are missing in {worst}; "
        f"most of what a setting changes is {part.name} ({part.knob})"
    )


def remedies(config: Mapping[str, Any], plan: Any, gpus: int, memory: float) -> list[tuple[str, Plan]]:
    """Changes of settings and what is needed with them, the most useful first, until it fits."""
    taken: list[tuple[str, Plan]] = []
    now = plan(config)
    while now.peak > memory:
        tried = [(text, changed, plan(changed, gpus)) for text, changed in changes(config)]
        text, changed, best = min(tried, key=lambda item: item[2].peak, default=("", config, now))
        if best.peak > 0.98 * now.peak:  # settings do not help any more
            gpus *= 2
            text, changed, best = f"gpus={gpus}", config, plan(config, gpus)
            if best.peak > 0.98 * now.peak:
                break
        taken.append((text, best))
        config, now = changed, best
    return taken


def changes(config: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The run with one setting changed that lowers what it needs and hardly or never its numbers."""
    found: list[tuple[str, dict[str, Any]]] = []

    def change(section: str, key: str, value: Any) -> None:
        changed = {**config, section: {**config[section], key: value}}
        found.append((f"{section}.{key}={str(value).lower()}", changed))

    model, train, rollout = config["model"], config["train"], config["rollout"]
    if model["compute_dtype"] == "same" and model["dtype"] == "float32":
        change("model", "compute_dtype", "bfloat16")
    if not train["activation_checkpointing"]:
        change("train", "activation_checkpointing", True)
    if train["micro_batch_rows"] > 1:
        change("train", "micro_batch_rows", train["micro_batch_rows"] // 2)
    if train["logits_chunk_mib"] > 16:
        change("train", "logits_chunk_mib", 16)
    rows = rollout["prompts_per_step"] * rollout["group_size"]
    if config["eval"]["batch_rows"] > rows:
        change("eval", "batch_rows", rows)
    return found


def gpu_bytes(text: str) -> float:
    """``80G`` in bytes."""
    found = re.fullmatch(r"([1-9]\d*)([GM])i?B?", text)
    if not found:
        raise UserError(f"memory={text}: write a GPU's memory with its unit, e.g. 80G")
    return int(found[1]) * (GIB if found[2] == "G" else GIB / 1024)


def _whole(text: str, key: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"{key}={text}: write a whole number of at least 1")
    return int(text)


def sweep_notes(sweep: Any, jobs: Sequence[Any]) -> list[str]:
    """What of a sweep on GPUs would not fit: a line for each setting, by its most demanding row.

    Nothing is said about models whose sizes are not known on this machine.
    """
    resources = slurm_resources(sweep.slurm)
    if not resources.total_gpus:
        return []
    if not resources.gpu_memory:
        return ["memory: not compared; give slurm.gpu_memory, e.g. 80G, the memory of one GPU"]
    memory, shipped = gpu_bytes(resources.gpu_memory), benchmarks.shipped_models()
    worst: dict[str, tuple[Plan, Any]] = {}
    unknown: set[str] = set()
    for job in jobs:
        if job.role == "base":
            continue  # only evaluated
        path = job.config["model"]["path"]
        try:
            shape = find_shape(resolve_model(path, shipped), job.config["model"]["revision"])
        except UserError:
            unknown.add(path)
            continue
        plan = plan_memory(shape, job.config, gpus=resources.total_gpus, gpu_bytes=memory)
        if job.setting not in worst or plan.peak > worst[job.setting][0].peak:
            worst[job.setting] = plan, job
    lines = [f"memory: the sizes of {path} are not known here, fetch it first" for path in sorted(unknown)]
    for setting, (plan, job) in worst.items():
        need = f"memory of {setting}: {plan.peak / GIB:.0f} of {memory / GIB:.0f} GiB a GPU"
        if plan.peak <= memory:
            lines.append(f"{need} (estimated)")
        else:
            lines.append(f"WARNING: {need} (estimated), at {job.label}")
            lines.append(f"  {verdict(plan, memory, resources.gpu_memory)}")
            same = f"model={job.config['model']['path']} gpus={resources.total_gpus}"
            lines.append(
                f"  see: entrobench plan-memory {same} memory={resources.gpu_memory} and its settings"
            )
    return lines
