"""The engines on the same prompts: greedy texts of ``hf`` and ``vllm`` in float32, and where they part."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from harness.evaluation.profiles import find
from harness.evaluation.sets import open_set, with_prompts
from harness.model.gguf.packages import packaged_folder
from harness.model.policy import Policy, load_policy
from harness.registry import benchmarks
from harness.rollout.engines.base import GenerationRequest, Sampling, open_engine
from harness.util.files import write_json
from tests.testbed.real_models import ENGINES, SMALL

LIMIT, TOKENS, LEAST = "40@1", 256, 0.95


def compare() -> int:
    """Draw with both, write what was found; 1 where fewer than 95 % of the texts are equal."""
    found = compared(str(packaged_folder(SMALL)))
    write_json(ENGINES, found | {"model": SMALL, "machine": platform.machine()})
    print(f"{found['equal']} of {found['problems']} texts are equal")
    for row in found["parted"]:
        print(f"{row['problem']}: token {row['at']}, gap of the logits {row['gap']:.2e}")
    return int(found["equal"] < LEAST * found["problems"])


def compared(folder: str, limit: str = LIMIT, tokens: int = TOKENS) -> dict[str, Any]:
    """Greedy responses of both engines to the same problems of GSM8K.

    Returns:
        how many texts are equal, and of each other pair where its first differing token is, with the gap
        between the two tokens' logits there, by the model itself.
    """
    profile = find("qwen-math", {"limit": limit})
    policy = load_policy(Path(folder), dtype="float32", device="cpu")
    chosen = with_prompts(open_set(benchmarks.load("gsm8k"), profile), profile, policy.tokenizer)
    prompts = {p.id: tuple(policy.encode(p.prompt)) for p in chosen.problems}
    texts = {name: _greedy(name, folder, prompts, tokens) for name in ("hf", "vllm")}
    parted = [
        {"problem": key} | parting(policy, prompts[key], texts["hf"][key], texts["vllm"][key])
        for key in prompts
        if texts["hf"][key] != texts["vllm"][key]
    ]
    return {
        "problems": len(prompts), "tokens": tokens, "dtype": "float32", "digest": chosen.digest,
        "equal": len(prompts) - len(parted), "parted": parted,
    }  # fmt: skip


def _greedy(
    name: str, folder: str, prompts: dict[str, tuple[int, ...]], tokens: int
) -> dict[str, tuple[int, ...]]:
    options = {"kv_cache_gib": 1.0, "max_positions": 1024} if name == "vllm" else {}
    engine = open_engine(name, folder, dtype="float32", device="cpu", batch_rows=20, **options)
    asked = [GenerationRequest((key,), ids, tag=key) for key, ids in prompts.items()]
    drawn = {c.request.tag: c.token_ids for c in engine.generate(asked, Sampling(0.0, 1.0, tokens))}
    engine.close()
    return drawn


def parting(
    policy: Policy, prompt: Sequence[int], ours: Sequence[int], theirs: Sequence[int]
) -> dict[str, Any]:
    """Where two responses part, and how far apart the two tokens are there for the model.

    Returns:
        ``at``: place of the first differing token; ``gap``: difference of their logits, in nats.
    """
    pairs = zip(ours, theirs, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
    if at is None:  # one of them goes on where the other one ends
        return {"at": min(len(ours), len(theirs)), "gap": float("inf")}
    ids = torch.tensor([[*prompt, *ours[:at]]])
    with torch.no_grad():
        logits = policy.model(ids).logits[0, -1].float()
    return {"at": at, "gap": float((logits[ours[at]] - logits[theirs[at]]).abs())}
