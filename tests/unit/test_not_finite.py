"""NaN or infinity in a model's logits ends sampling at once, wherever it samples, and says where."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.cli import main
from harness.evaluation.splits import evaluate_problems, probe_entropy
from harness.model.policy import Policy
from harness.rollout.engines.base import GenerationRequest, Sampling
from harness.rollout.engines.hf import HfEngine
from harness.rollout.finite import check_log_probs
from harness.rollout.sampler import sample
from harness.util.errors import UserError
from tests.helpers.evaluated import save_model
from tests.helpers.math_files import write_sets
from tests.helpers.tiny import LetterBenchmark, build_model, build_tokenizer, tiny_trainer

BROKEN = ["a norm is NaN", "a head row is infinite", "a head row is minus infinite", "a layer overflows"]


@torch.no_grad()
def broken(how: str, policy: Policy) -> Policy:
    """``policy`` with weights of the kind that damaged files and diverged runs have."""
    model: Any = policy.model
    if how == BROKEN[0]:
        model.model.norm.weight[3] = math.nan
    elif how == BROKEN[3]:
        model.model.layers[0].mlp.down_proj.weight.fill_(3e38)
    else:
        model.lm_head.weight[7] = math.inf if how == BROKEN[1] else -math.inf
    return policy


def untied() -> Policy:
    tokenizer = build_tokenizer()
    return Policy(build_model(tokenizer, tie_word_embeddings=False), tokenizer)


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_the_first_token_stops_the_sampler(how: str, top_p: float) -> None:
    policy = broken(how, untied())
    with pytest.raises(UserError, match=r"NaN or infinity at token 1 of a response \(x, 0\).*earlier check"):
        sample(policy, [[2, 3], [4]], 2, keys=[("x", i) for i in range(4)], top_p=top_p, max_tokens=4)


def test_a_later_token_is_named_with_its_response() -> None:
    """The embedding of one token is damaged: all is well until it is drawn."""
    policy = untied()
    keys: list[tuple[object, ...]] = [("p", i) for i in range(8)]
    good = sample(policy, [[2, 3]], 8, keys=keys, max_tokens=6)
    live = good.mask_NT[:, 1:]  # a token that another one follows
    row, at = (int(i[0]) for i in live.nonzero(as_tuple=True))
    drawn = int(good.tokens_NT[row, at])
    first = {
        r: next(i for i in range(6) if good.tokens_NT[r, i] == drawn and live[r, i])
        for r in range(8) if ((good.tokens_NT[r, :-1] == drawn) & live[r]).any()
    }  # fmt: skip
    earliest = min(first.values())
    who = min(r for r, i in first.items() if i == earliest)
    with torch.no_grad():
        policy.model.model.embed_tokens.weight[drawn] = math.nan
    assert drawn not in (2, 3)
    with pytest.raises(UserError, match=rf"at token {earliest + 2} of a response \(p, {who}\)"):
        sample(policy, [[2, 3]], 8, keys=keys, max_tokens=6)


def test_a_finished_response_stops_nobody() -> None:
    """What follows an end token is never looked at, though rows that ended are still in the batch."""
    policy = untied()
    keys: list[tuple[object, ...]] = [("p", i) for i in range(64)]
    good = sample(policy, [[2, 3]], 64, keys=keys, max_tokens=12)
    with torch.no_grad():
        policy.model.model.embed_tokens.weight[list(policy.eos_ids)] = math.nan
    again = sample(policy, [[2, 3]], 64, keys=keys, max_tokens=12)
    assert not good.truncated_N.all() and torch.equal(good.tokens_NT, again.tokens_NT)


def test_the_engine_and_its_scores() -> None:
    engine = HfEngine(broken(BROKEN[0], untied()))
    asked = [GenerationRequest(("set", 1, "problem-4", 0), (2, 3))]
    with pytest.raises(UserError, match=r"at token 1 of a response \(set, 1, problem-4, 0\)"):
        list(engine.generate(asked, Sampling(1.0, 1.0, 4)))
    with pytest.raises(UserError, match=r"at token 1 of a response \(score\)"):
        engine.score([2, 3, 4])
    check_log_probs([-0.5, -3.0, -0.0], "m", ())
    with pytest.raises(UserError, match="of model 'm' hold NaN or infinity at token 2"):
        check_log_probs([-0.5, -math.inf], "m", ("k",))


def test_training_probe_and_frontier(tmp_path: Path) -> None:
    trainer = tiny_trainer()
    broken(BROKEN[0], trainer.policy)
    with pytest.raises(UserError, match=r"logits of model '.*' hold NaN or infinity at token 1"):
        trainer.step()
    problems = LetterBenchmark().problems("validation")
    with pytest.raises(UserError, match=r"at token 1 of a response \(probe, 5, 2, "):
        probe_entropy(trainer.policy, problems, samples=2, max_tokens=4, seed=5, step=2)
    with pytest.raises(UserError, match=r"at token 1 of a response \(evaluation, 5, "):
        evaluate_problems(
            trainer.policy, LetterBenchmark(), problems, tmp_path / "x.parquet", n=2, temperature=1.0,
            max_tokens=4, seed=5, batch_rows=8,
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_eval_says_so_in_one_line_and_gives_no_score(tmp_path: Path, capsys: Any) -> None:
    folder = save_model(tmp_path / "model")
    policy = Policy(build_model(build_tokenizer(), scale=0.2, hidden_size=64, num_attention_heads=2,
                                num_key_value_heads=1, max_position_embeddings=8192), None)  # fmt: skip
    broken(BROKEN[0], policy).model.save_pretrained(folder)
    accept = write_sets(tmp_path / "data", ("aime24",))
    data = [f"data_dir={tmp_path / 'data'}", f"accept_data={accept}", f"out={tmp_path / 'out'}"]
    capsys.readouterr()
    code = main(["eval", f"model={folder}", "benchmark=aime24", *data, "n=2", "max_tokens=8"])
    said = capsys.readouterr().err.strip().splitlines()
    # found when the model is loaded, before anything is drawn
    assert code == 2 and len(said) == 1 and f"model '{folder}' gives logits that are not finite" in said[0]
    assert not list((tmp_path / "out").rglob("*.parquet"))
