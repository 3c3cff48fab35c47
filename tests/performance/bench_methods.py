"""What every method costs over GRPO after the rollouts: seconds in pairs, and passes counted.

    python -m tests.performance.bench_methods                  # every registered method
    python -m tests.performance.bench_methods --methods gspo   # anew, or a new one, beside what is there

Each side takes its training step again and again from the same weights on its own frozen rollouts (those of
its rollout program, sampled once), in alternating order; the row ``grpo`` is GRPO against itself and shows
the noise. Seconds are CPU seconds of one thread, so that other work on the machine does not count. What the
figures are says ``docs/methods/costs.md``, which ``entrobench methods docs`` makes from them.

Two shapes: the micro testbed as it is, where a minibatch is one pass; and a vocabulary of 151,936 with a
small random backbone and coins for verdicts, where a minibatch is two passes, so that statistics over a
minibatch need a pre-pass.
"""

from __future__ import annotations

import argparse
import copy
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.config.schema import RunConfig
from harness.model.agreement import check_agreement
from harness.model.own import layer_number
from harness.model.policy import Policy
from harness.problems.problem import Benchmark
from harness.registry import methods
from harness.registry.costs import MEASURED, cost_table
from harness.run.compose import compose
from harness.run.set_up import open_run
from harness.stages.base import Minibatch
from harness.stages.batch import Batch
from harness.stages.token_stats import ENTROPY, LOGP, TokenStat
from harness.train import update as update_module
from harness.train.trainer import Trainer
from harness.util.errors import UserError
from harness.util.files import read_json, write_json
from tests.helpers.settings import composed
from tests.helpers.tiny import SMALL, LetterBenchmark, build_model, build_tokenizer, tiny_folder
from tests.performance.timing import Comparison, order

RESULT = Path(__file__).parents[2] / MEASURED
VOCAB, HIDDEN = 151_936, 64
#: The run of the large vocabulary: 32 rollouts of 8 tokens, 2 optimiser steps of two micro-batches each.
LARGE = (
    "rollout.prompts_per_step=8", "rollout.group_size=4", "train.minibatches=2", "train.epochs=1",
    "train.micro_batch_rows=8", "train.random_reward=true",
)  # fmt: skip
Opened = tuple[RunConfig, Policy, Benchmark]


def open_micro(method: str) -> Opened:
    """The micro testbed with its default settings."""
    run = compose({"method": method, "device": "cpu"})
    return run, *open_run(run)


def open_large(method: str) -> Opened:
    """A random model of two layers under a head of :data:`VOCAB` tokens."""
    given = {o.partition("=")[0] for o in LARGE}
    settings = [*(o for o in SMALL if o.partition("=")[0] not in given), *LARGE]
    run = composed(f"method={method}", f"model.path={tiny_folder()}", *settings)
    tokenizer = build_tokenizer()
    model = build_model(
        tokenizer, scale=0.1, vocab_size=VOCAB, hidden_size=HIDDEN, intermediate_size=2 * HIDDEN,
        tie_word_embeddings=True,
    )  # fmt: skip
    policy = Policy(model, tokenizer, run.rollout.temperature)
    check_agreement(policy.at_temperature(1.0), "a random model")  # as loading does; rows are packed then
    return run, policy, LetterBenchmark()


#: How to open a run, and how many pairs are timed by default.
SHAPES: dict[str, tuple[Callable[[str], Opened], int]] = {
    "micro": (open_micro, 5),
    "vocab-152k": (open_large, 3),
}


@dataclass
class Side:
    """A trainer that takes the same step again: same weights, same rollouts, same state.

    ``cpu_s``, ``passed`` (response tokens by purpose of the pass), ``updated_tokens`` (response tokens in the
    rows of all optimiser steps) and ``network_tokens`` (tokens of their passes with gradient, each pass's
    prompts included) are of the last step.
    """

    trainer: Trainer
    rollouts: Batch
    state: dict[str, Any]
    scored_tokens: int = 0
    cpu_s: dict[str, float] = field(default_factory=dict)
    passed: Counter[str] = field(default_factory=Counter)
    updated_tokens: int = 0
    network_tokens: int = 0

    def step(self) -> None:
        """One step from the start."""
        self.trainer.load_state_dict(copy.deepcopy(self.state))
        self.cpu_s, self.updated_tokens, self.network_tokens = {"update": 0.0}, 0, 0
        self.passed.clear()
        start = time.process_time()
        self.trainer.step()
        self.cpu_s["step"] = time.process_time() - start

    def per_token_s(self) -> float:
        return self.cpu_s["update"] / max(self.updated_tokens, 1)

    def extra_passes(self) -> dict[str, float]:
        """Passes beyond GRPO's one old pass and one pass with gradient, see the module's docstring."""
        rolled, updated = int(self.rollouts.mask_BT.sum()), max(self.updated_tokens, 1)
        found = {
            "scoring": self.scored_tokens / rolled,
            "reference": self.passed["reference"] / rolled,
            "pre-pass": self.passed["update"] / updated,
            "head": self.passed["update, head"] / updated,
            "gradient": self.passed["update, gradient"] / updated - 1.0,
        }
        return {name: round(value, 4) for name, value in found.items() if abs(value) > 1e-9}


def frozen(opened: Opened) -> Side:
    """A method's first step, its rollouts sampled once."""
    run, policy, benchmark = opened
    trainer = Trainer(run, policy, benchmark, run.method.stages())
    side = Side(trainer, rollouts=None, state=copy.deepcopy(trainer.state_dict()))  # type: ignore[arg-type]
    purpose = "rollouts"

    def watch(watched: Policy, fixed: str = "") -> None:
        stats = watched.stats

        def counted(batch: Batch, wanted: Iterable[TokenStat]) -> dict[str, Tensor]:
            wanted, tokens, before = tuple(wanted), int(batch.mask_BT.sum()), watched.passed_tokens
            gradient = ", gradient" if torch.is_grad_enabled() else ""
            side.passed[fixed or purpose + gradient] += tokens
            found = stats(batch, wanted)
            if gradient and not fixed:
                layers = {layer_number(watched.model, s.layer) for s in wanted if s.on == "response"}
                if len(layers) > 1:
                    side.passed[f"{purpose}, head"] += tokens * (len(layers) - 1)
                side.network_tokens += watched.passed_tokens - before
            return found

        watched.stats = counted  # type: ignore[method-assign]
        hidden = watched.hidden

        def counted_hidden(batch: Batch) -> Tensor:
            side.passed[fixed or purpose] += int(batch.mask_BT.sum())
            return hidden(batch)

        watched.hidden = counted_hidden  # type: ignore[method-assign]

    def watch_norms() -> None:
        """Rows whose norms one pass gives do not go through ``stats``."""
        norms = update_module.row_grad_norms

        def counted(watched: Policy, batch: Batch, *limits: Any) -> Tensor:
            before = side.passed["update, gradient"]
            found = norms(watched, batch, *limits)
            if watched is policy:
                side.passed["update, gradient"] = before + int(batch.mask_BT.sum())
            return found

        update_module.row_grad_norms = counted

    watch(policy)
    if any(stage.needs_row_grad_norms for stage in trainer.stages.of_step()):
        watch_norms()
    if trainer.reference is not None:
        watch(trainer.reference, "reference")
    trainer.counters.step = 1
    ctx, update = trainer.context(), trainer.update
    for component in trainer.stages.all_components().values():
        component.begin_step(ctx)
    side.rollouts = trainer.rollouts.run_program(ctx)
    side.scored_tokens, purpose = side.passed["rollouts"], "old"

    def timed_update(minibatch: Minibatch, *args: Any) -> Any:
        nonlocal purpose
        side.updated_tokens += int(minibatch.batch.mask_BT.sum())
        purpose, start = "update", time.process_time()
        out = update(minibatch, *args)
        side.cpu_s["update"] += time.process_time() - start
        purpose = "old"
        return out

    trainer.rollouts.run_program = lambda ctx: side.rollouts  # type: ignore[method-assign]
    trainer.update = timed_update  # type: ignore[method-assign]
    return side


def extra_stats(side: Side) -> list[str]:
    """Token statistics of the method's stages beside log-prob and entropy, which every step takes."""
    declared = [
        s for stage in side.trainer.stages.of_step() for s in (*stage.old_stats, *stage.current_stats)
    ]
    return sorted({s.name for s in declared} - {LOGP.name, ENTROPY.name})


def against(ours: Side, grpo: Side, pairs: int, warm_up: int = 1) -> dict[str, Any]:
    """``pairs`` steps of both sides in alternating order."""
    seconds: dict[str, dict[str, list[float]]] = {
        k: {"ours": [], "peer": []} for k in ("update", "token", "step")
    }
    for name in order(warm_up + pairs):
        side = ours if name == "ours" else grpo
        side.step()
        for key, value in {**side.cpu_s, "token": side.per_token_s()}.items():
            seconds[key][name].append(value)
    summaries = {
        key: Comparison(key, both["ours"][warm_up:], both["peer"][warm_up:]).summary()
        for key, both in seconds.items()
    }
    return {
        **summaries,
        "updated_tokens": {"ours": ours.updated_tokens, "grpo": grpo.updated_tokens},
        "network_tokens": {"ours": ours.network_tokens, "grpo": grpo.network_tokens},
        "extra_passes": ours.extra_passes(),
        "extra_statistics": extra_stats(ours),
    }


def measure(names: Sequence[str], shape: str, pairs: int | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each method against GRPO at one shape; a setting that a method refuses is kept with its reason."""
    torch.set_num_threads(1)
    opened, usual = SHAPES[shape]
    grpo = frozen(opened("grpo"))
    for name in names:
        try:
            row = against(frozen(opened(name)), grpo, pairs or usual)
        except UserError as error:
            row = {"refused": str(error)}
        yield name, row | {"torch": torch.__version__, "machine": platform.machine()}


def keep(file: Path, shape: str, name: str, row: dict[str, Any]) -> dict[str, Any]:
    """Put one row into the result file, whose other rows stay; returns all of it."""
    result: dict[str, Any] = read_json(file) if file.exists() else {}
    rows = {**result.get(shape, {}), name: row}
    result[shape] = {key: rows[key] for key in sorted(rows)}
    write_json(file, result)
    return result


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bench_methods", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--methods", help="comma-separated names (default: every registered method)")
    parser.add_argument("--pairs", type=int, help="timed pairs per method (default: 5 and 3)")
    parser.add_argument("--shape", choices=list(SHAPES), action="append", help="default: both")
    parser.add_argument("--out", type=Path, default=RESULT, help="result file; other rows in it stay")
    args = parser.parse_args(argv)
    registry = methods
    try:
        names = args.methods.split(",") if args.methods else list(registry.entries())
        for name in names:
            registry.find(name)
    except UserError as error:
        parser.exit(2, f"{error}\n")
    for shape in args.shape or list(SHAPES):
        for name, row in measure(names, shape, args.pairs):
            result = keep(args.out, shape, name, row)
            print(f"{shape}: {name}", file=sys.stderr, flush=True)
    print("\n\n".join(f"{shape}\n\n{cost_table(rows)}" for shape, rows in result.items()))


if __name__ == "__main__":
    main()
