"""Trains the expert of the micro testbed: ``python -m tests.testbed.train_expert --out DIR``.

The base policy is shown solutions without slips once more, which takes most of its slips away. Its tokenizer
is the base's. The run is deterministic; the weights are stored in bfloat16.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.micro.testbed import BASE_DIR
from benchmarks.micro.tokenizer import build_tokenizer
from tests.testbed.demonstrations import faultless
from tests.testbed.train_base import Course, Recipe, teach

COURSE = Course(faultless, pairs=19_200, steps=150, learning_rate=1e-3, warmup=15, threads=1)


def train(out: Path) -> None:
    """Train and save model and tokenizer to ``out``."""
    import torch
    from transformers import Qwen2ForCausalLM

    recipe = Recipe()
    torch.manual_seed(recipe.seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(COURSE.threads)
    tokenizer = build_tokenizer()
    model = Qwen2ForCausalLM.from_pretrained(BASE_DIR)
    teach(model, COURSE, recipe, tokenizer)
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for model and tokenizer")
    train(parser.parse_args().out)


if __name__ == "__main__":
    main()
