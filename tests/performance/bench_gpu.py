"""Training and the log-prob operator at the papers' sizes on a GPU; tiny shapes on a CPU try the same code.

    python -m tests.performance.bench_gpu                        # all of it, some fifteen minutes on an H200
    python -m tests.performance.bench_gpu --only operator
    python -m tests.performance.bench_gpu --models 0.5b --lengths 1024 --steps 2
    python -m tests.performance.bench_gpu --tiny --out /tmp/x    # without a GPU

* Training: randomly initialised Qwen2.5 architectures in bf16 over fp32 weights, GRPO with coin flips for
  rewards, the built-in sampler. Seconds by stage, tokens a second, peak memory beside the planned one.
* The operator: log-prob and entropy of 16 x 2048 positions over 151,936 tokens, forward and backward in bf16,
  beside the plain computation and TRL's chunked one, after their values and gradients were compared.

Writes ``results/gpu/<date>-<gpu>.json``; once that is committed, what it ran on a GPU is no longer marked as
untested.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.config.schema import RunConfig, slug, to_dict
from harness.model.logits import chunk_rows, token_stats
from harness.model.memory import KNOWN, ModelShape, plan_memory
from harness.model.policy import Policy
from harness.run.untested import PATHS
from harness.stages.token_stats import ENTROPY, LOGP
from harness.train.trainer import Trainer
from harness.util.environment import commit, versions
from harness.util.files import write_json
from tests.helpers.live_bytes import LiveBytes
from tests.helpers.settings import composed
from tests.helpers.tiny import LetterBenchmark, build_tokenizer
from tests.performance.timing import table, timed

FOLDER = Path(__file__).parents[2] / "results" / "gpu"
MODELS = {"0.5b": KNOWN["Qwen/Qwen2.5-0.5B"], "1.5b": KNOWN["Qwen/Qwen2.5-1.5B"]}
TINY = replace(KNOWN["Qwen/Qwen2.5-0.5B"], layers=2, hidden=32, intermediate=48, heads=4, kv_heads=2,
               head_dim=8, vocab=512, positions=256)  # fmt: skip
#: Largest difference of the three implementations, relative to the largest value of the plain one in fp32.
TOLERANCE = 2e-2


@dataclass(frozen=True)
class Sizes:
    """What is measured."""

    models: dict[str, ModelShape]
    lengths: tuple[int, ...]
    rollouts: int
    micro_rows: int
    positions: int
    vocab: int
    width: int
    checked: int


FULL = Sizes(MODELS, (1024, 4096), 64, 4, 16 * 2048, 151_936, 1536, 512)
SMALL = Sizes({"tiny": TINY}, (8, 16), 8, 4, 96, 700, 32, 48)


class Device:
    """Clock and memory of a GPU, or of the CPU that stands in for one."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def title(self) -> str:
        return torch.cuda.get_device_name() if self.name == "cuda" else f"CPU {platform.machine()}"

    def seconds(self, work: Callable[[], object]) -> float:
        """Until the device has done it."""

        def done() -> None:
            work()
            if self.name == "cuda":
                torch.cuda.synchronize()

        return timed(done)

    def peak(self, work: Callable[[], object], given: Sequence[Tensor] = ()) -> int:
        """The most bytes that ``work`` held besides what was there before.

        On a CPU what was there before is known only if it is ``given``, see :class:`LiveBytes`.
        """
        gc.collect()
        if self.name == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.synchronize()
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            work()
            torch.cuda.synchronize()
            return int(torch.cuda.max_memory_allocated()) - before
        with LiveBytes() as held:
            for value in given:
                held.hold(value)
            before = held.live
            work()
        return held.peak - before


# --- training ---------------------------------------------------------------------------------------------


def open_trainer(shape: ModelShape, length: int, sizes: Sizes, device: str) -> Trainer:
    """A run of a randomly initialised model; responses hardly ever end before their limit."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    group = 4
    run: RunConfig = composed(
        "method=grpo", "model.path=micro", "model.compute_dtype=bfloat16", "train.random_reward=true",
        f"rollout.prompts_per_step={sizes.rollouts // group}", f"rollout.group_size={group}",
        f"rollout.max_response_tokens={length}", "train.minibatches=2", "train.epochs=1",
        f"train.micro_batch_rows={sizes.micro_rows}", "train.lr=1e-6", f"device={device}",
        f"eval.batch_rows={sizes.rollouts}",
        f"train.activation_checkpointing={str(length > min(sizes.lengths)).lower()}",
    )  # fmt: skip
    tokenizer = build_tokenizer()
    config = Qwen2Config(
        vocab_size=shape.vocab, hidden_size=shape.hidden, intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads, max_position_embeddings=shape.positions,
        tie_word_embeddings=shape.tied, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(device):
        model = Qwen2ForCausalLM(config).eval()
    return Trainer(run, Policy(model, tokenizer), LetterBenchmark(), run.method.stages())


def measure_training(
    name: str, shape: ModelShape, length: int, sizes: Sizes, device: Device, steps: int
) -> dict[str, Any]:
    """Seconds by stage of ``steps`` steps after one that is not timed, and the peak of that one."""
    trainer = open_trainer(shape, length, sizes, device.name)
    weights = sum(p.nbytes for p in (*trainer.policy.model.parameters(), *trainer._parameters))
    peak = device.peak(trainer.step) + (weights if device.name == "cuda" else 0)
    stages: dict[str, list[float]] = {"whole step": []}
    tokens = []
    for _ in range(steps):
        before = trainer.counters.generated_tokens
        stages["whole step"].append(device.seconds(trainer.step))
        tokens.append(trainer.counters.generated_tokens - before)
        for stage, value in trainer.clock.seconds.items():
            stages.setdefault(stage, []).append(value)
    longest = max(len(trainer.policy.encode(p.prompt)) for p in trainer.benchmark.problems("train"))
    plan = plan_memory(shape, to_dict(trainer.run), prompt_tokens=longest)
    whole = statistics.median(stages["whole step"])
    return {
        "model": name, "parameters": shape.params, "response_tokens": length, "rollouts": sizes.rollouts,
        "steps": steps, "tokens_per_step": statistics.mean(tokens),
        "tokens_per_s": statistics.mean(tokens) / whole,
        "stations_s": {k: statistics.median(v) for k, v in stages.items()},
        "peak_bytes": peak, "planned_bytes": sum(
            max(p.update, p.sampling) if plan.update < plan.sampling else p.update
            for p in plan.parts if "assumed" not in p.name
        ),
        "paths": [path.name for path in PATHS if path.used(to_dict(trainer.run), 1)],
    }  # fmt: skip


# --- the operator -----------------------------------------------------------------------------------------

Operator = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def ours(chunk_mib: int) -> Operator:
    """Ours with chunks of so many MiB of fp32 logits (`train.logits_chunk_mib`)."""

    def operator(hidden: Tensor, weight: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        chunk = chunk_rows(weight.shape[0], chunk_mib << 20)
        out = token_stats(hidden, weight, target, (LOGP, ENTROPY), chunk=chunk)
        return out["logp"], out["entropy"]

    return operator


def plain(hidden: Tensor, weight: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """All logits at once, in fp32 from the softmax on."""
    logp = (hidden @ weight.T).float().log_softmax(1)
    return logp.gather(1, target[:, None]).squeeze(1), -(logp.exp() * logp).sum(1)


def trl_operator() -> Operator | None:
    """TRL's chunked operator as its trainers call it, where TRL is installed."""
    if versions("trl")["trl"] == "not installed":
        return None
    from trl.kernels import ChunkedLogProbFunction
    from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE

    def operator(hidden: Tensor, weight: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        out = ChunkedLogProbFunction.apply(
            hidden, weight, None, target, 1.0, _CHUNKED_LOGPROB_CHUNK_SIZE, None, 1.0, ("entropy",)
        )
        return out[0], out[1]

    return operator


def operands(n: int, sizes: Sizes, device: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states and head of a size that gives logits as spread as a language model's."""
    generator = torch.Generator(device=device).manual_seed(7)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device)

    hidden = normal(n, sizes.width).to(dtype).requires_grad_()
    weight = (normal(sizes.vocab, sizes.width) * 3 / sizes.width**0.5).to(dtype).requires_grad_()
    return hidden, weight, torch.randint(sizes.vocab, (n,), generator=generator, device=device)


def outcome(operator: Operator, values: Sequence[Tensor]) -> list[Tensor]:
    hidden, weight, target = values
    logp, entropy = operator(hidden, weight, target)
    gradients = torch.autograd.grad((logp - 0.01 * entropy).mean(), [hidden, weight])
    return [x.detach().float() for x in (logp, entropy, *gradients)]


def check_operators(operators: dict[str, Operator], sizes: Sizes, device: str) -> dict[str, float]:
    """Each against the plain computation in fp32 of the same values.

    Raises:
        AssertionError: one is further away than rounding; nothing is timed then.
    """
    values = operands(sizes.checked, sizes, device, torch.bfloat16)
    exact = [*(v.detach().float().requires_grad_() for v in values[:2]), values[2]]
    want = outcome(plain, exact)
    gaps = {}
    for name, operator in operators.items():
        got = outcome(operator, values)
        gaps[name] = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(got, want, strict=True))
        if not gaps[name] < TOLERANCE:
            raise AssertionError(f"{name} is {gaps[name]:.1e} away from fp32; nothing is timed")
    return gaps


def measure_operators(sizes: Sizes, device: Device, repeats: int) -> dict[str, Any]:
    """Seconds of forward and backward, and the peak of both together, for every implementation."""
    theirs = trl_operator()
    operators: dict[str, Operator] = {f"ours, chunks of {mib} MiB": ours(mib) for mib in (64, 512)}
    operators |= {"plain": plain} | ({"trl": theirs} if theirs else {})
    gaps = check_operators(operators, sizes, device.name)
    values = operands(sizes.positions, sizes, device.name, torch.bfloat16)
    found: dict[str, Any] = {"gap_to_fp32": gaps}
    for name, operator in operators.items():
        try:
            peak = device.peak(lambda operator=operator: outcome(operator, values), values)
            forward, backward = [], []
            for _ in range(repeats):
                out: list[Tensor] = []
                forward.append(device.seconds(lambda o=operator, out=out: out.extend(o(*values))))
                loss = (out[0] - 0.01 * out[1]).mean()
                backward.append(device.seconds(lambda loss=loss: torch.autograd.grad(loss, values[:2])))
            found[name] = {
                "forward_s": statistics.median(forward),
                "backward_s": statistics.median(backward),
                "peak_bytes": peak,
            }
        except torch.OutOfMemoryError as error:
            found[name] = {"out_of_memory": str(error).splitlines()[0]}
    return found


# --- the report -------------------------------------------------------------------------------------------


def report(result: dict[str, Any]) -> str:
    """Both measurements as markdown tables."""
    lines = [f"{result['gpu']}, torch {result['versions']['torch']}, {result['date']}"]
    if result["training"]:
        names = list(dict.fromkeys(s for r in result["training"] for s in r["stations_s"]))
        head = ["model", "response tokens", "tokens/s", *names, "peak GiB", "planned GiB"]
        rows = [
            [r["model"], str(r["response_tokens"]), f"{r['tokens_per_s']:.0f}",
             *(f"{r['stations_s'].get(s, 0):.3f}" for s in names),
             f"{r['peak_bytes'] / 2**30:.3f}", f"{r['planned_bytes'] / 2**30:.3f}"]
            for r in result["training"]
        ]  # fmt: skip
        lines += ["", "training, seconds by stage", table(head, rows)]
    if result["operator"]:
        shown = {k: v for k, v in result["operator"].items() if k not in ("gap_to_fp32", "shape")}
        rows = [
            [name, f"{v['forward_s']:.4f}", f"{v['backward_s']:.4f}", f"{v['peak_bytes'] / 2**30:.3f}",
             f"{result['operator']['gap_to_fp32'][name]:.1e}"]
            if "forward_s" in v else [name, "out of memory", "", "", ""]
            for name, v in shown.items()
        ]  # fmt: skip
        head = ["log-prob and entropy", "forward s", "backward s", "peak GiB", "gap to fp32"]
        lines += ["", f"operator at {result['operator']['shape']} in bf16", table(head, rows)]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> Path:
    parser = argparse.ArgumentParser(prog="bench_gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="tiny shapes on the CPU: tries the code")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the result file")
    parser.add_argument("--only", choices=("training", "operator"), help="one of the two measurements")
    parser.add_argument("--models", help="comma-separated, of: " + ", ".join(MODELS))
    parser.add_argument("--lengths", help="comma-separated response tokens")
    parser.add_argument("--steps", type=int, default=2, help="timed training steps of each setting")
    args = parser.parse_args(argv)
    if not args.tiny and not torch.cuda.is_available():
        parser.exit(2, "bench_gpu: no GPU here; --tiny tries the code on the CPU\n")
    device, sizes = Device("cpu" if args.tiny else "cuda"), SMALL if args.tiny else FULL
    if args.models:
        sizes = replace(sizes, models={name: MODELS[name] for name in args.models.split(",")})
    if args.lengths:
        sizes = replace(sizes, lengths=tuple(int(n) for n in args.lengths.split(",")))
    training, operator = [], {}
    if args.only != "operator":
        for name, shape in sizes.models.items():
            for length in sizes.lengths:
                print(f"training {name} with {length} response tokens …", flush=True)
                training.append(measure_training(name, shape, length, sizes, device, args.steps))
    if args.only != "training":
        print("operator …", flush=True)
        operator = measure_operators(sizes, device, repeats=max(args.steps, 2))
        operator["shape"] = f"{sizes.positions} x {sizes.vocab}, width {sizes.width}"
    date = datetime.date.today().isoformat()
    result = {
        "date": date, "device": device.name, "gpu": device.title, "commit": commit(),
        "versions": versions("torch", "transformers", "trl"), "training": training, "operator": operator,
        "paths": sorted({path for r in training for path in r["paths"]}),
    }  # fmt: skip
    path = args.out / f"{date}-{slug(device.title).lower()}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, result)
    print(f"{report(result)}\n\nwrote {path}")
    return path


if __name__ == "__main__":
    main()
