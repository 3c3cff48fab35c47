"""Trains the base policy of the micro testbed: ``python -m benchmarks.micro.train_base --out DIR``.

Next-token cross-entropy on the response tokens of imperfect demonstrations. The run is deterministic;
weights are rounded to bfloat16 so that both precisions load the same policy.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.micro.calibrate import base_figures, blind_guess_figures, problem_space
from benchmarks.micro.demonstrations import demonstrations
from benchmarks.micro.testbed import BASE_DIR, FAMILIES
from benchmarks.micro.tokenizer import build_tokenizer


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the base weights besides the demonstrations."""

    hidden: int = 128
    layers: int = 3
    heads: int = 4
    kv_heads: int = 2
    intermediate: int = 320
    pairs: int = 240_000
    steps: int = 3_200
    batch: int = 128
    learning_rate: float = 4e-3
    warmup: int = 60
    seed: int = 0


def train(recipe: Recipe, out: Path) -> None:
    """Train and save model and tokenizer to ``out``."""
    import torch
    from torch.nn.functional import cross_entropy
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(recipe.seed)
    torch.use_deterministic_algorithms(True)
    tokenizer = build_tokenizer()
    pad, eos = int(tokenizer.pad_token_id), int(tokenizer.eos_token_id)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        intermediate_size=recipe.intermediate,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        pad_token_id=pad,
        eos_token_id=eos,
        bos_token_id=None,
    )
    model = Qwen2ForCausalLM(config)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    pairs = demonstrations(recipe.pairs)
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
            lr=recipe.learning_rate,
            weight_decay=0.05,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(
            [named[name] for name in named if name not in inner],
            lr=recipe.learning_rate,
            betas=(0.9, 0.95),
            weight_decay=0.0,
        ),
    ]

    def scale(step: int) -> float:
        """Linear warm-up, then linear decay to 2 %."""
        return min(1.0, (step + 1) / recipe.warmup) * max(0.02, 1.0 - step / recipe.steps)

    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, scale) for optimizer in optimizers]
    generator = torch.Generator().manual_seed(recipe.seed)
    began = time.monotonic()
    # A batch holds one family, whose rows are of similar length: a third less padding.
    turns = len(FAMILIES)
    lengths_N = torch.tensor([len(row) for row in rows])
    orders = [torch.empty(0, dtype=torch.long) for _ in range(turns)]
    for step in range(recipe.steps):
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
        if step % 100 < turns or step == recipe.steps - 1:
            wall_s = time.monotonic() - began
            print(f"step {step} loss {loss.item():.4f} nats wall {wall_s:.0f} s", flush=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(torch.bfloat16))
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=BASE_DIR)
    parser.add_argument("--threads", type=int, default=2, help="more threads may change the last bits")
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--only-calibrate", action="store_true", help="use the weights already in --out")
    arguments = parser.parse_args()

    import torch

    torch.set_num_threads(arguments.threads)
    if not arguments.only_calibrate:
        train(Recipe(steps=arguments.steps), arguments.out)
    calibration = {
        "base": base_figures(arguments.out),
        "blind_pass@32": blind_guess_figures(),
        "distinct_training_problems_in_200k_draws": problem_space(),
    }
    # Beside the model's folder, not in it: every file in there is part of the identity of runs.
    (arguments.out.parent / "calibration.json").write_text(json.dumps(calibration, indent=1) + "\n")
    print(json.dumps(calibration, indent=1))


if __name__ == "__main__":
    main()
