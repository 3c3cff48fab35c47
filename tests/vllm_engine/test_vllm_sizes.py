"""vLLM on a CPU at the sizes of real evaluations.

Prompts longer than a scheduling step, more requests than places, a cache that overflows, responses of
thousands of tokens, many samples of a problem. Samples and log-probs stay what they are when there is room.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.rollout.engines import vllm_cpu
from harness.rollout.engines.base import Completion, GenerationRequest, Sampling, open_engine
from harness.util.errors import UserError

CONTEXT, ROWS = 4096, 32
#: A token takes 512 bytes in the cache (two layers, keys and values, one head of 32): the context and a bit.
TIGHT_GIB = 512 * 1.25 * CONTEXT / 2**30
#: Together 14,400 tokens, three and a half times what a step takes.
PROMPTS = [tuple(5 + (31 * p + 7 * j + j * j % (p + 3)) % 80 for j in range(300)) for p in range(48)]
MANY = [GenerationRequest(("many", p), prompt, p) for p, prompt in enumerate(PROMPTS)]
SAMPLES = [GenerationRequest(("one problem", i), PROMPTS[0], i) for i in range(64)]
LONG = [GenerationRequest(("long", p), PROMPTS[p], p) for p in range(3)]
#: With its response it fills the context, so it has to wait until little else runs.
WHOLE = [
    *MANY[:20],
    GenerationRequest(("whole",), tuple(5 + j * j % 80 for j in range(CONTEXT - 20)), "whole"),
]
SHORT, THOUSANDS = Sampling(1.0, 1.0, 12), Sampling(1.0, 1.0, 2100)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose responses hardly ever end by themselves."""
    from tests.helpers.tiny import build_model, build_tokenizer

    made, tokenizer = tmp_path_factory.mktemp("endless"), build_tokenizer()
    model = build_model(
        tokenizer, scale=0.2, hidden_size=64, num_attention_heads=2, num_key_value_heads=1,
        max_position_embeddings=CONTEXT,
    )  # fmt: skip
    with torch.no_grad():  # the first number of every state is the same, and holds the end token down
        model.model.embed_tokens.weight[:, 0] = 4
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[0] = layer.mlp.down_proj.weight[0] = 0
        model.lm_head.weight[:, 0] = 0
        model.lm_head.weight[tokenizer.eos_token_id, 0] = -20
    model.save_pretrained(made)
    tokenizer.save_pretrained(made)
    return made


def opened(folder: Path, **more: Any) -> Any:
    return open_engine(
        "vllm", str(folder), **{"device": "cpu", "batch_rows": ROWS, "kv_cache_gib": 0.5} | more
    )


def drawn(engine: Any, requests: list[GenerationRequest], sampling: Sampling) -> dict[Any, Completion]:
    return {c.request.tag: c for c in engine.generate(requests, sampling)}


@dataclass
class Preempted:
    count: int = 0


@pytest.fixture(scope="module")
def preempted() -> Iterator[Preempted]:
    """How many requests lost their place in the cache so far."""
    from vllm.v1.core.sched.scheduler import Scheduler

    told, own = Preempted(), Scheduler._preempt_request

    def counted(self: Any, *given: Any, **named: Any) -> Any:
        told.count += 1
        return own(self, *given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Scheduler, "_preempt_request", counted)
        yield told


@pytest.fixture(scope="module")
def roomy(folder: Path, preempted: Preempted) -> dict[str, dict[Any, Completion]]:
    """What is drawn with a large cache; long responses and prompts alone, which is the plainest way."""
    engine = opened(folder)
    told = {
        "many": drawn(engine, MANY, SHORT),
        "samples": drawn(engine, SAMPLES, SHORT),
        "long": drawn(engine, LONG, THOUSANDS),
        "whole": drawn(engine, WHOLE[-1:], SHORT),
    }
    engine.close()
    assert preempted.count == 0
    return told


@pytest.fixture(scope="module")
def engine(folder: Path, roomy: Any) -> Iterator[Any]:
    """An engine whose cache holds hardly more than one response of the largest size."""
    tight = opened(folder, kv_cache_gib=TIGHT_GIB)
    yield tight
    tight.close()


def same(one: Completion, other: Completion) -> None:
    assert (one.token_ids, one.text, one.stop_reason) == (other.token_ids, other.text, other.stop_reason)
    assert one.logps == pytest.approx(other.logps, abs=1e-3)


def forward(policy: Any, completion: Completion) -> list[float]:
    """Log-probs of a completion's tokens by one transformers forward pass."""
    ids = torch.tensor([[*completion.request.prompt_ids, *completion.token_ids]])
    start = len(completion.request.prompt_ids)
    with torch.no_grad():
        logp = policy.model(ids).logits[0, start - 1 : -1].log_softmax(1)
    return logp.gather(1, ids[0, start:, None])[:, 0].tolist()


def test_a_cache_too_small_for_one_response_is_refused_with_the_remedy(folder: Path) -> None:
    """The first test, while no other engine is open in this process."""
    with pytest.raises(UserError, match="KV cache .*smaller max_positions .*larger kv_cache_gib"):
        opened(folder, kv_cache_gib=TIGHT_GIB / 2)


def test_prompts_longer_than_a_scheduling_step(
    engine: Any, roomy: dict[str, dict[Any, Completion]], folder: Path
) -> None:
    budget = engine._core.vllm_config.scheduler_config.max_num_batched_tokens
    assert sum(len(r.prompt_ids) for r in MANY[:ROWS]) > 2 * budget
    policy = open_engine("hf", str(folder), device="cpu").policy
    for tag, completion in drawn(engine, MANY, SHORT).items():
        same(completion, roomy["many"][tag])
        assert completion.logps == pytest.approx(forward(policy, completion), abs=1e-3)
    (alone,) = engine.generate(MANY[40:41], SHORT)
    same(alone, roomy["many"][40])


def test_a_prompt_that_fills_a_step_waits_for_its_turn(
    engine: Any, roomy: dict[str, dict[Any, Completion]]
) -> None:
    together = drawn(engine, WHOLE, SHORT)
    assert len(together) == len(WHOLE)
    same(together["whole"], roomy["whole"]["whole"])


def test_64_samples_of_a_problem(engine: Any, roomy: dict[str, dict[Any, Completion]]) -> None:
    assert len({c.token_ids for c in roomy["samples"].values()}) == 64
    left_over = [GenerationRequest(r.key, r.prompt_ids, (r.tag,)) for r in SAMPLES[:5:-3]]
    for tag, completion in drawn(engine, MANY[:10] + left_over, SHORT).items():  # in other company
        same(completion, roomy["samples"][tag[0]] if isinstance(tag, tuple) else roomy["many"][tag])


def test_responses_of_thousands_of_tokens_that_overflow_the_cache(
    engine: Any, roomy: dict[str, dict[Any, Completion]], preempted: Preempted, folder: Path
) -> None:
    before = preempted.count
    together = drawn(engine, LONG, THOUSANDS)
    assert preempted.count > before
    policy = open_engine("hf", str(folder), device="cpu").policy
    for tag, completion in together.items():
        assert len(completion.token_ids) == 2100
        same(completion, roomy["long"][tag])
        assert completion.logps == pytest.approx(forward(policy, completion), abs=1e-3)


def test_splitting_prompts_is_refused_with_its_cause(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_cpu, "WHOLE_PROMPTS", {})
    with pytest.raises(UserError, match="would split long prompts .*seeded sample on a CPU; use engine=hf"):
        opened(folder, separate_process=True)


def test_prefixes_are_cached_unless_layers_carry_a_state() -> None:
    for carries in (False, True):
        model = SimpleNamespace(has_inner_state=carries)
        given = SimpleNamespace(create_model_config=lambda model=model: model, enable_prefix_caching=True)
        vllm_cpu.keep_states(given)
        assert given.enable_prefix_caching is not carries
