"""Trains the base policy of the micro testbed: ``python -m tests.testbed.train_base --out DIR``.

Next-token cross-entropy on the response tokens of three courses of demonstrations. The run is deterministic;
weights are rounded to bfloat16 after each course, so that both precisions load the same policy.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.micro.testbed import FAMILIES
from benchmarks.micro.tokenizer import build_tokenizer
from tests.testbed.demonstrations import Pair, careless, clean, rough

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast as Tokenizer
    from transformers import Qwen2ForCausalLM


@dataclass(frozen=True)
class Course:
    """One stretch of training: what is shown, and for how long."""

    demonstrations: Callable[[int], list[Pair]]
    pairs: int
    steps: int
    learning_rate: float
    warmup: int
    threads: int
    """CPU threads; another number changes the last bits."""


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the base weights besides the demonstrations."""

    hidden: int = 128
    layers: int = 3
    heads: int = 4
    kv_heads: int = 2
    intermediate: int = 320
    batch: int = 128
    seed: int = 0
    courses: tuple[Course, ...] = (
        Course(rough, pairs=240_000, steps=3_200, learning_rate=4e-3, warmup=60, threads=2),
        Course(clean, pairs=300_000, steps=1_200, learning_rate=3e-3, warmup=60, threads=1),
        Course(careless, pairs=33_000, steps=240, learning_rate=3e-4, warmup=20, threads=1),
    )


def train(recipe: Recipe, out: Path) -> None:
    """Train and save model and tokenizer to ``out``."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(recipe.seed)
    torch.use_deterministic_algorithms(True)
    tokenizer = build_tokenizer()
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        intermediate_size=recipe.intermediate,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    model = Qwen2ForCausalLM(config)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    for course in recipe.courses:
        torch.set_num_threads(course.threads)
        teach(model, course, recipe, tokenizer)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(parameter.to(torch.bfloat16))
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def teach(model: Qwen2ForCausalLM, course: Course, recipe: Recipe, tokenizer: Tokenizer) -> None:
    """One course: next-token cross-entropy on the responses, with optimisers of its own."""
    import torch
    from torch.nn.functional import cross_entropy

    pad, eos = int(tokenizer.pad_token_id), int(tokenizer.eos_token_id)
    pairs = course.demonstrations(course.pairs)
    vocabulary = tokenizer.get_vocab()
    rows = [[*(vocabulary[character] for character in p + r), eos] for p, r in pairs]
    width = max(map(len, rows))
    ids_NT = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    # The label of position t is token t + 1, and only response tokens count (-100 is ignored).
    labels_NT = torch.full_like(ids_NT, -100)
    for n, ((prompt, _), row) in enumerate(zip(pairs, rows, strict=True)):
        labels_NT[n, len(prompt) - 1 : len(row) - 1] = ids_NT[n, len(prompt) : len(row)]
    # Muon learns the digit arithmetic in about half the steps that AdamW needs.
    named = dict(model.named_parameters())
    inner = {name for name, parameter in named.items() if parameter.ndim == 2 and "embed" not in name}
    optimizers = [
        torch.optim.Muon(
            [named[name] for name in named if name in inner],
            lr=course.learning_rate,
            weight_decay=0.05,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(
            [named[name] for name in named if name not in inner],
            lr=course.learning_rate,
            betas=(0.9, 0.95),
            weight_decay=0.0,
        ),
    ]

    def scale(step: int) -> float:
        """Linear warm-up, then linear decay to 2 %."""
        return min(1.0, (step + 1) / course.warmup) * max(0.02, 1.0 - step / course.steps)

    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, scale) for optimizer in optimizers]
    generator = torch.Generator().manual_seed(recipe.seed)
    began = time.monotonic()
    # A batch holds one family, whose rows are of similar length: a third less padding.
    turns = len(FAMILIES)
    lengths_N = torch.tensor([len(row) for row in rows])
    orders = [torch.empty(0, dtype=torch.long) for _ in range(turns)]
    for step in range(course.steps):
        turn = step % turns
        if len(orders[turn]) < recipe.batch:
            orders[turn] = torch.randperm(len(rows) // turns, generator=generator) * turns + turn
        chosen_B, orders[turn] = orders[turn][: recipe.batch], orders[turn][recipe.batch :]
        ids_BT = ids_NT[chosen_B, : int(lengths_N[chosen_B].max())]
        labels_BT = labels_NT[chosen_B, : ids_BT.shape[1]]
        logits_BTV = model(ids_BT).logits
        loss = cross_entropy(logits_BTV.flatten(0, 1), labels_BT.flatten())
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        if step % 100 < turns or step == course.steps - 1:
            wall_s = time.monotonic() - began
            name = course.demonstrations.__name__
            print(f"{name}: step {step} loss {loss.item():.4f} nats wall {wall_s:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for model and tokenizer")
    train(Recipe(), parser.parse_args().out)


if __name__ == "__main__":
    main()
