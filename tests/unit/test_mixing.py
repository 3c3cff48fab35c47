"""A second model at sampling: which distribution is drawn from, whose log-probs are kept, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import chisquare

from harness.model.policy import Policy
from harness.registry.benchmarks import shipped_models
from harness.rollout.mixing import Mixing, same_width
from harness.rollout.sampler import Samples, sample
from harness.rollout.second_model import named, second_model_path, second_model_paths
from harness.run.compose import compose
from harness.run.identity import identity_parts
from harness.util.errors import UserError
from tests.helpers.tiny import build_model, tiny_folder, tiny_trainer
from tests.unit.test_sampler import ThreeLetters, keys, small_vocabulary


def other(seed: int = 9, **changes: Any) -> Policy:
    """Another model of the five tokens."""
    tokenizer: Any = ThreeLetters()
    return Policy(build_model(tokenizer, seed=seed, scale=0.9, **changes), tokenizer)


def drawn(policy: Policy, mixing: Mixing | None, rows: int = 40, **options: Any) -> Samples:
    prompts = [[2, 3, 4], [3]]
    settings = {"max_tokens": 6, "temperature": 0.8, **options}
    return sample(policy, prompts, rows, keys=keys(2 * rows), mixing=mixing, **settings)


def share(value: float) -> Any:
    return lambda probs_NV: torch.full((len(probs_NV),), value)


def same(one: Samples, two: Samples) -> bool:
    return torch.equal(one.tokens_NT, two.tokens_NT) and torch.equal(one.mask_NT, two.mask_NT)


def test_a_share_of_0_is_the_policy_and_of_1_the_second_model() -> None:
    policy, second = small_vocabulary(), other()
    plain = drawn(policy, None)
    none, all_of_it = (drawn(policy, Mixing(second, share(w))) for w in (0.0, 1.0))
    assert same(none, plain) and torch.equal(none.logp_NT, plain.logp_NT)
    theirs = drawn(second, None)
    assert same(all_of_it, theirs) and not same(theirs, plain)
    assert not torch.allclose(all_of_it.logp_NT, theirs.logp_NT)  # the policy's, of tokens it did not draw


def test_first_tokens_come_as_often_as_the_mixture_says() -> None:
    policy, second, rows = small_vocabulary(), other(), 4000
    seen: list[torch.Tensor] = []

    def half_or_less(probs_NV: torch.Tensor) -> torch.Tensor:
        seen.append(probs_NV.clone())
        return probs_NV.amax(1) / 2

    out = sample(
        policy, [[2, 3, 4]], rows, keys=keys(rows), max_tokens=1, mixing=Mixing(second, half_or_less)
    )
    with torch.no_grad():
        own, theirs = (p.model(torch.tensor([[2, 3, 4]])).logits[0, -1].softmax(0) for p in (policy, second))
    torch.testing.assert_close(seen[0][0], own)
    wanted = (1 - own.max() / 2) * own + own.max() / 2 * theirs
    counts = torch.bincount(out.tokens_NT[:, 0], minlength=5).numpy()
    expected = wanted.double().numpy()
    assert chisquare(counts, rows * expected / expected.sum()).pvalue > 0.01
    apart = own.double().numpy()
    assert chisquare(counts, rows * apart / apart.sum()).pvalue < 1e-6  # the policy alone


def test_a_draw_with_a_second_model_depends_on_its_key_alone() -> None:
    policy, mixing = small_vocabulary(), Mixing(other(), share(0.5))
    whole = drawn(policy, mixing)
    alone = sample(policy, [[3]], 1, keys=[("test", 79)], max_tokens=6, temperature=0.8, mixing=mixing)
    width = int(alone.mask_NT.sum())
    assert alone.tokens_NT[0, :width].tolist() == whole.tokens_NT[79][whole.mask_NT[79]].tolist()


def test_statistics_stay_those_of_the_policy() -> None:
    policy = small_vocabulary()
    out = drawn(policy, Mixing(other(), share(0.7)))
    row = int(out.mask_NT.sum(1).argmax())
    ids = [3] if row >= 40 else [2, 3, 4]
    tokens = out.tokens_NT[row][out.mask_NT[row]].tolist()
    with torch.no_grad():
        logp = policy.model(torch.tensor([ids + tokens])).logits[0, len(ids) - 1 : -1].log_softmax(1)
    own = logp.gather(1, torch.tensor(tokens)[:, None])[:, 0]
    torch.testing.assert_close(out.logp_NT[row, : len(tokens)], own, atol=1e-5, rtol=1e-5)


def test_heads_of_other_widths() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0]])
    assert same_width(logits, 2).tolist() == [[1.0, 2.0]]
    assert same_width(logits, 4).softmax(1)[0, 3] == 0
    policy = small_vocabulary()
    wide, narrow = drawn(policy, Mixing(other(vocab_size=8), share(1.0))), drawn(policy, None)
    assert int(wide.tokens_NT.max()) < 5 and not same(wide, narrow)


def test_what_is_no_number_is_the_second_models_fault() -> None:
    second = other()
    with torch.no_grad():
        next(second.model.parameters()).fill_(float("nan"))
    with pytest.raises(UserError, match="second model .* NaN or infinite"):
        drawn(small_vocabulary(), Mixing(second, share(0.5)))


def test_a_prompt_has_to_fit_both_contexts() -> None:
    with pytest.raises(UserError, match="context of 6; lower"):
        drawn(small_vocabulary(), Mixing(other(max_position_embeddings=6), share(0.5)))


# --- by name ----------------------------------------------------------------------------------------------


def test_which_model_a_name_is() -> None:
    run = compose({"method": "mentor"})
    assert list(named(run.method)) == [("method.expert", "auto")]
    assert second_model_path(run, "method.expert", "base") is None
    expert = str(shipped_models()["micro-expert"])
    assert second_model_path(run, "method.expert", "auto") == expert
    assert second_model_paths(run) == {"method.expert": expert}
    parts = compose({"method": "grpo+rollout=mentor"})
    assert second_model_paths(parts) == {"method.mentor.expert": expert}
    assert second_model_paths(compose({"method": "grpo"})) == {}


def test_its_weights_belong_to_the_identity(tmp_path: Path) -> None:
    folders = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(bytes([number]))
        folders.append(compose({"method": "mentor", "method.expert": str(folder)}))
    parts = [identity_parts(run)["second_models"]["method.expert"] for run in folders]
    assert parts[0] != parts[1]
    assert "second_models" not in identity_parts(compose({"method": "mentor", "method.expert": "base"}))
    assert "second_models" not in identity_parts(compose({"method": "grpo"}))


def test_another_tokenizer_is_refused_before_the_first_step() -> None:
    with pytest.raises(UserError, match="micro-expert has another tokenizer than the policy .*family"):
        tiny_trainer("method.expert=micro-expert", method="mentor")


def test_a_context_that_a_response_fills_is_refused() -> None:
    with pytest.raises(UserError, match="has a context of 128 tokens, which a response .* fills"):
        tiny_trainer("rollout.max_response_tokens=128", f"method.expert={tiny_folder()}", method="mentor")
