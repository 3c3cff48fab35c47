"""Our training step against TRL's GRPOTrainer on a CPU: first equal loss and gradient, then time and memory.

    python -m tests.performance.bench_trl --steps 20
    python -m tests.performance.bench_trl --model smollm2-135m    # GSM8K: the whole step and its memory

Both train the same weights on the same prompts with the same optimiser steps, in fp32 on one thread; TRL
generates with transformers. Each side leads half of the pairs; ratios are ours / TRL's, of processor seconds,
so that other work on the machine counts little. What is timed:

* whole step: TRL's ``train()`` from one rollout batch to the next (data loader, callbacks and log included),
  and ``Trainer.step``;
* update phase: the optimiser steps on frozen completions: forward, loss, backward, clipping, AdamW (TRL's
  training loop around them is left out);
* old pass: log-probs of the frozen completions before the update, which our own steps take while sampling;
* sampler: the same prompts, ``group_size`` responses each (ours returns log-probs too, TRL's does not).
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from harness.stages.base import Minibatch
from harness.stages.batch import Batch
from harness.train.trainer import Trainer
from harness.train.update import UpdateLog
from tests.performance import real_model
from tests.performance import trl_peer as peer
from tests.performance.about import FOLDER, about, keep
from tests.performance.timing import (
    Comparison,
    alternate,
    cpu_timed,
    order,
    peak_bytes,
    resident_bytes,
    table,
    timed,
)

TOLERANCE = 1e-5
WARM_UP = 2
RESULT = FOLDER / "trl.json"
#: What is timed; a step of the real model takes so long that only the first is its default.
PARTS = ("whole", "update", "old", "sampler")
#: Rows that loss and gradient of the real model are compared on.
REAL_ROWS = 4
#: Noise of its old policy's weights, relative to theirs: ratios leave the clip range on both sides.
REAL_NOISE = 0.02


class Interleave(TrainerCallback):
    """Runs our steps between TRL's, in the order that :func:`order` gives, and times both."""

    def __init__(self, ours: Trainer, updates: int, pairs: int) -> None:
        self.ours, self.updates = ours, updates
        self.sides = order(pairs)
        self.seconds: dict[str, list[float]] = {"ours": [], "peer": []}
        self.stages: list[dict[str, float]] = []
        self.wall_s: list[float] = []
        self.our_tokens: list[int] = []
        self._start = 0.0

    def _ours_until_peer(self) -> None:
        """Our steps that stand before TRL's next one."""
        for side in self.sides:
            if side == "peer":
                break
            before = self.ours.counters.generated_tokens
            wall: list[float] = []
            self.seconds["ours"].append(cpu_timed(lambda wall=wall: wall.append(timed(self.ours.step))))
            self.wall_s += wall
            self.stages.append(dict(self.ours.clock.seconds))
            self.our_tokens.append(self.ours.counters.generated_tokens - before)
        self._start = time.process_time()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._ours_until_peer()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self.updates == 0:
            # TRL's log of the step runs after this hook: it falls to its next step
            self.seconds["peer"].append(time.process_time() - self._start)
            self._ours_until_peer()


def check_equal(settings: peer.Settings, ours: Trainer, batch: Batch, folder: Path) -> dict[str, Any]:
    """Loss and gradient of one optimiser step over ``batch`` by both; raises where they differ."""
    gaps: dict[str, Any] = {}
    if settings.real:
        batch = batch.rows(torch.arange(REAL_ROWS)).trimmed()
    for loss_type in ("grpo",) if settings.real else ("grpo", "bnpo", "dapo"):
        chosen = replace(settings, loss_type=loss_type, minibatches=1)
        theirs = peer.trl_trainer(chosen, ours.policy, ours.benchmark, list(batch.problems), folder)
        a, log = peer.our_loss(
            ours.policy, chosen.run().method.stages(), batch, micro_rows=len(batch), width=settings.max_tokens
        )
        b = peer.trl_loss(theirs, batch, 1)
        gaps[loss_type] = {
            "loss_ours": a.loss, "loss_trl": b.loss, "loss_gap": abs(a.loss - b.loss),
            "norm_ours": a.norm, "norm_trl": b.norm, "norm_relative_gap": abs(a.norm - b.norm) / b.norm,
            "gradient_relative_gap": a.relative_gap(b),
            "clipped_low": log.mean("clip_low"), "clipped_high": log.mean("clip_high"),
        }  # fmt: skip
        worst = max(gaps[loss_type][k] for k in ("loss_gap", "norm_relative_gap", "gradient_relative_gap"))
        if not worst < TOLERANCE:
            raise AssertionError(f"{loss_type}: ours and TRL's differ by {worst:.2e}; nothing is timed")
    ours.policy.model.zero_grad(set_to_none=True)
    return gaps


def whole_step(
    settings: peer.Settings, steps: int, warm_up: int, folder: Path
) -> tuple[Comparison, dict[str, Any], Any]:
    """Whole steps of both trainers in turn; also our stages, and TRL's trainer, ready for more."""
    ours = peer.our_trainer(settings)
    total = steps + warm_up
    interleave = Interleave(ours, settings.minibatches * settings.epochs, total)
    theirs = peer.trl_trainer(
        settings, ours.policy, ours.benchmark, peer.problems_of(ours, total), folder,
        steps=total, callbacks=[interleave],
    )  # fmt: skip
    theirs.train()
    seconds = {side: values[warm_up:] for side, values in interleave.seconds.items()}
    steps_s = interleave.wall_s[warm_up:]  # the stages' clock tells wall time
    stages = {name: [s.get(name, 0.0) for s in interleave.stages[warm_up:]] for name in interleave.stages[-1]}
    stages["rest"] = [whole - sum(parts) for whole, *parts in zip(steps_s, *stages.values(), strict=True)]
    details = {
        "stages": {
            name: {
                "share_of_step": statistics.median(v / w for v, w in zip(values, steps_s, strict=True)),
                "median_s": statistics.median(values),
            }
            for name, values in stages.items()
        },
        "our_tokens_per_step": statistics.mean(interleave.our_tokens),
        "trl_tokens_per_step": theirs.generated_tokens / total,
    }
    return Comparison("whole step", seconds["ours"], seconds["peer"]), details, theirs


def update_phase(settings: peer.Settings, steps: int, ours: Trainer, theirs: Any, batch: Batch) -> Comparison:
    """The optimiser steps of one rollout batch, on the same frozen minibatches."""
    # shuffled as both trainers do: rows of one prompt side by side would need less padding
    shuffled = torch.randperm(len(batch), generator=torch.Generator().manual_seed(settings.seed))
    parts = [batch.rows(rows) for rows in shuffled.tensor_split(settings.minibatches)]
    plan = [Minibatch(part.trimmed()) for _ in range(settings.epochs) for part in parts]
    items = int(batch.mask_BT.sum())
    inputs = [peer.trl_inputs(part, items) for _ in range(settings.epochs) for part in parts]
    model, optimizer = theirs.model_wrapped, theirs.optimizer
    theirs._prepare_inputs = lambda minibatch: minibatch  # the minibatches are made already

    def our_update(_: int) -> None:
        log, ctx = UpdateLog(), ours.context()
        for minibatch in plan:
            ours.update(minibatch, log, ctx)

    def trl_update(_: int) -> None:
        for minibatch in inputs:
            theirs.training_step(model, dict(minibatch), None)
            theirs.accelerator.clip_grad_norm_(model.parameters(), theirs.args.max_grad_norm)
            optimizer.step()
            model.zero_grad()

    return alternate("update phase", our_update, trl_update, steps, warm_up=WARM_UP, clock=cpu_timed)


def old_pass(steps: int, ours: Trainer, theirs: Any, batch: Batch) -> Comparison:
    """Log-probs of the rollouts before the update; ours takes the entropy too."""
    inputs = peer.trl_inputs(batch)
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)

    @torch.no_grad()
    def trl_old(_: int) -> None:
        theirs._get_per_token_logps_and_entropies(
            theirs.model, ids, mask, inputs["completion_ids"].shape[1],
            batch_size=theirs.args.per_device_train_batch_size,
        )  # fmt: skip

    return alternate(
        "old pass", lambda _: peer.scored(ours, batch), trl_old, steps, warm_up=WARM_UP, clock=cpu_timed
    )


def sampling(
    settings: peer.Settings, steps: int, ours: Trainer, theirs: Any
) -> tuple[Comparison, dict[str, float]]:
    """Responses to the same fresh prompts at the same weights."""
    from harness.rollout import sampler

    problems = peer.problems_of(ours, steps + WARM_UP)
    n, tokens = settings.group_size, {"ours": 0, "peer": 0}

    def prompts(pair: int) -> list[list[int]]:
        chosen = problems[pair * settings.prompts : (pair + 1) * settings.prompts]
        return [ours.policy.encode(p.prompt) for p in chosen]

    def our_sample(pair: int) -> None:
        keys = [(settings.seed, pair, row) for row in range(settings.rows)]
        out = sampler.sample(ours.policy, prompts(pair), n, keys=keys, max_tokens=settings.max_tokens)
        tokens["ours"] += int(out.mask_NT.sum())

    def trl_sample(pair: int) -> None:
        repeated = [ids for ids in prompts(pair) for _ in range(n)]
        completions, _ = theirs._generate_single_turn(repeated, None, {}, n)
        tokens["peer"] += sum(map(len, completions))

    comparison = alternate("sampler", our_sample, trl_sample, steps, warm_up=WARM_UP, clock=cpu_timed)
    return comparison, {side: count / (steps + WARM_UP) for side, count in tokens.items()}


# --- memory, each side in a process of its own ------------------------------------------------------------


def memory_of(side: str, settings: peer.Settings, steps: int) -> dict[str, int]:
    """Peak resident memory of one side's training, and what was resident when it was ready to start."""
    ours = peer.our_trainer(settings)
    if side == "ours":
        ready = resident_bytes()
        for _ in range(steps):
            ours.step()
    else:
        with peer.Scratch() as folder:
            problems = peer.problems_of(ours, steps)
            theirs = peer.trl_trainer(settings, ours.policy, ours.benchmark, problems, folder, steps=steps)
            del ours  # TRL has weights of its own: ours would count as its memory
            gc.collect()
            ready = resident_bytes()
            theirs.train()
    return {"peak_bytes": peak_bytes(), "ready_bytes": ready}


def memory(arguments: Sequence[str]) -> dict[str, Any]:
    """Both sides' peaks, and their ratios: whole process, and what training adds to the ready trainer."""
    peaks: dict[str, Any] = {}
    for side in ("ours", "peer"):
        command = [sys.executable, "-m", "tests.performance.bench_trl", "--memory-of", side, *arguments]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks[side] = json.loads(done.stdout.splitlines()[-1])
    added = {side: p["peak_bytes"] - p["ready_bytes"] for side, p in peaks.items()}
    return {
        **peaks,
        "ratio_peak": peaks["ours"]["peak_bytes"] / peaks["peer"]["peak_bytes"],
        "ratio_added": added["ours"] / max(added["peer"], 1),
    }


# --- the whole comparison ---------------------------------------------------------------------------------


def compare(settings: peer.Settings, steps: int, parts: Sequence[str] = PARTS) -> dict[str, Any]:
    """Everything but the memory, in this process; ``parts`` are what is timed."""
    comparisons, tokens = [], {}
    with peer.Scratch() as folder:
        ours = peer.our_trainer(settings)
        old = peer.perturbed(ours.policy, REAL_NOISE if settings.real else 0.06, seed=1)
        few = settings.real and not {"update", "old"} & set(parts)  # only loss and gradient are taken of it
        batch = peer.frozen_rollouts(_fewer(ours) if few else ours, old=old)
        result: dict[str, Any] = {"equality": check_equal(settings, ours, batch, folder)}
        whole, details, theirs = whole_step(settings, steps, 1 if settings.real else WARM_UP, folder)
        comparisons.append(whole)
        if "update" in parts:
            comparisons.append(update_phase(settings, steps, ours, theirs, batch))
        if "old" in parts:
            comparisons.append(old_pass(steps, ours, theirs, batch))
        if "sampler" in parts:
            comparison, tokens = sampling(settings, steps, ours, theirs)
            comparisons.append(comparison)
    result["time"] = {c.name: c.summary() for c in comparisons}
    return result | details | ({"sampler_tokens": tokens} if tokens else {})


def _fewer(ours: Trainer) -> Trainer:
    """A trainer with the same policy and one prompt a step."""
    run = replace(ours.run, rollout=replace(ours.run.rollout, prompts_per_step=1))
    return Trainer(run, ours.policy, ours.benchmark, ours.stages)


def report(result: dict[str, Any]) -> str:
    """The result as markdown: ratios only."""
    equality = [
        [name, f"{g['loss_gap']:.1e}", f"{g['norm_relative_gap']:.1e}", f"{g['gradient_relative_gap']:.1e}"]
        for name, g in result["equality"].items()
    ]
    times = [
        [name, f"{t['ratio_median']:.2f}", f"{t['ratio_min']:.2f} - {t['ratio_max']:.2f}", str(t["pairs"])]
        for name, t in result["time"].items()
    ]
    if "memory" in result:
        times += [
            ["peak memory, process", f"{result['memory']['ratio_peak']:.2f}", "", "1"],
            ["peak memory above the ready trainer", f"{result['memory']['ratio_added']:.2f}", "", "1"],
        ]
    stages = [[name, f"{s['share_of_step']:.1%}"] for name, s in result["stages"].items()]
    said = (
        f"Tokens per step: ours {result['our_tokens_per_step']:.0f}, TRL {result['trl_tokens_per_step']:.0f}"
    )
    if sampled := result.get("sampler_tokens"):
        said += f"; per sampler call: ours {sampled['ours']:.0f}, TRL {sampled['peer']:.0f}"
    return "\n\n".join(
        [
            table(["loss", "loss: difference", "gradient norm: rel.", "gradient: rel."], equality),
            table(["ours / TRL", "median", "min - max", "pairs"], times),
            said + ".",
            table(["our stage", "share of our step"], stages),
        ]
    )


def random_model(folder: Path) -> Path:
    """A randomly initialised Qwen2 of about 10 million parameters with the micro tokenizer."""
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    from harness.registry import benchmarks

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=16_384, hidden_size=256, intermediate_size=768, num_hidden_layers=8, num_attention_heads=8,
        num_key_value_heads=4, max_position_embeddings=64, tie_word_embeddings=True, eos_token_id=1,
        pad_token_id=0,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(str(benchmarks.shipped_models()["micro"])).save_pretrained(folder)
    return folder


def settings_of(model: str, prompts: int | None, folder: Path) -> peer.Settings:
    """Both sides' settings for the testbed, SmolLM2-135M, or a random model that is made in ``folder``."""
    if model == real_model.MODEL:
        return replace(peer.REAL, prompts=prompts or peer.REAL.prompts)
    if model == "random-10m":
        return peer.Settings(model=str(random_model(folder)), prompts=prompts or 4)
    return peer.Settings(model=model, prompts=prompts or 16)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bench_trl", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, help="timed pairs of everything; 20, smollm2-135m 2")
    parser.add_argument("--model", default="micro", choices=("micro", real_model.MODEL, "random-10m"))
    parser.add_argument("--prompts", type=int, default=None, help="per step; micro 16, the others 4")
    parser.add_argument("--parts", help=f"of {','.join(PARTS)}; the whole step is always timed")
    parser.add_argument("--memory-steps", type=int, help="0 skips the memory; 4, smollm2-135m 1")
    parser.add_argument("--out", type=Path, default=None, help="result file")
    parser.add_argument("--memory-of", choices=("ours", "peer"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    real = args.model == real_model.MODEL
    steps = args.steps or (2 if real else 20)
    memory_steps = (1 if real else 4) if args.memory_steps is None else args.memory_steps
    parts = args.parts.split(",") if args.parts else PARTS[:1] if real else PARTS
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; choose of {', '.join(PARTS)}")
    with peer.Scratch() as folder:
        settings = settings_of(args.model, args.prompts, folder)
        if args.memory_of:
            print(json.dumps(memory_of(args.memory_of, settings, memory_steps)))
            return
        result: dict[str, Any] = compare(settings, steps, parts)
    result["settings"] = asdict(settings) | {"model": args.model, "steps": steps, "threads": 1}
    if real:
        result["settings"]["problems"] = real_model.problems().name
    result |= about("transformers", "trl")
    out = args.out or (RESULT if args.model == "micro" else RESULT.with_name(f"trl-{args.model}.json"))
    keep(out, result)  # the memory takes as long again
    if memory_steps:
        prompts = str(settings.prompts)
        result["memory"] = memory(
            ["--model", args.model, "--prompts", prompts, "--memory-steps", str(memory_steps)]
        )
        keep(out, result)
    print(report(result))


if __name__ == "__main__":
    main()
