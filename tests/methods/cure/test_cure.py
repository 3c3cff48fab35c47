"""CURE's branches: where they begin, what they keep, who is their group; and the second stage."""

from __future__ import annotations

import copy

import torch

from harness.stages.branching import highest_positions
from methods.cure import eligible, kept_tokens, says_enough
from tests.helpers.rollouts import rollouts
from tests.helpers.tiny import tiny_trainer

#: The tiny model's tokens are letters and pairs of them.
PLAIN = ("method.dynamic_sampling=false",)


def test_candidates_by_hand() -> None:
    texts = ["So", " x", " wait", "=", "Thus"]
    assert says_enough(texts) == [True, False, True, False, True]
    ids = torch.arange(5)[None]
    allowed = eligible(
        ids, torch.ones_like(ids, dtype=torch.bool), lambda i: says_enough([texts[j] for j in i])
    )
    entropy = torch.tensor([[9, 0.1, 2.0, 1.5, 0.3]])
    (found,) = highest_positions(entropy, allowed, 2)
    assert found == [2, 4] and kept_tokens(found[1], 10, 1500) == 4
    assert highest_positions(entropy, allowed, 1) == [[2]]
    assert highest_positions(entropy, allowed & False, 2) == [[]]


def test_a_prompt_that_is_full_keeps_less() -> None:
    assert [kept_tokens(4, 10, most) for most in (None, 14, 12, 10, 3)] == [4, 4, 2, 0, 0]


def test_branches_go_on_from_their_originals() -> None:
    trainer = tiny_trainer(*PLAIN, "method.n2=1", "method.critical_top_k=3", method="cure")
    batch, ((first, _), (second, _)) = rollouts(trainer)
    assert first.n == 2 and second.n == 1 and len(second.prompts) == len(first.prompts) * first.n
    level, parent, cut = (batch.tags[name].long() for name in ("level", "parent", "cut"))
    assert torch.equal(batch.tags["extra"], level.float()) and int(level.sum()) == len(batch) // 2
    assert int(cut.sum()) > 0, "no response was cut behind its start"
    for row in (level == 1).nonzero().flatten().tolist():
        (original,) = (
            (batch.group_B == batch.group_B[row]) & (batch.sample_B == parent[row]) & (level == 0)
        ).nonzero().flatten().tolist()  # fmt: skip
        kept = batch.response_BT[original, : cut[row]]
        prompt = batch.prompt_BP[original][batch.prompt_mask_BP[original]]
        mine = batch.prompt_BP[row][batch.prompt_mask_BP[row]]
        assert torch.equal(mine, torch.cat([prompt, kept]))
        entropy = batch.old["entropy"][original]
        if cut[row]:
            assert says_enough(trainer.policy.decode([[int(batch.response_BT[original, cut[row]])]])) == [
                True
            ]
            above = (entropy > entropy[cut[row]]) & batch.mask_BT[original]
            able = [
                says_enough([text])[0]
                for text in trainer.policy.decode([[i] for i in batch.response_BT[original].tolist()])
            ]
            assert int((above & torch.tensor(able))[1:].sum()) < 3
        whole = trainer.policy.decode(
            [[*kept.tolist(), *batch.response_BT[row][batch.mask_BT[row]].tolist()]]
        )
        assert batch.texts[row] == whole[0]
    for group in batch.group_B.unique():
        assert batch.sample_B[batch.group_B == group].tolist() == [0, 1, 2, 3]
    assert trainer.counters.generated_tokens == int(batch.mask_BT.sum())
    assert trainer.counters.verifier_calls == len(batch)


def test_the_verifier_may_see_the_continuation_alone() -> None:
    trainer = tiny_trainer(*PLAIN, "method.n2=1", "method.judged=continuation", method="cure")
    batch, _ = rollouts(trainer)
    for row, mask in enumerate(batch.mask_BT):
        assert batch.texts[row] == trainer.policy.decode([batch.response_BT[row][mask].tolist()])[0]


def test_an_order_at_random_draws_others() -> None:
    cuts = []
    for order in ("entropy", "random"):
        trainer = tiny_trainer(
            *PLAIN, f"method.critical_order={order}", "method.critical_top_k=1", method="cure"
        )
        cuts.append(rollouts(trainer)[0].tags["cut"])
    assert not torch.equal(*cuts)


def test_an_entropy_pass_of_its_own_is_counted() -> None:
    trainer = tiny_trainer(*PLAIN, "train.old_pass=always", method="cure")
    batch, _ = rollouts(trainer)
    originals = batch.rows(batch.tags["level"] == 0)
    assert trainer.counters.extra_forward_tokens == int(originals.mask_BT.sum()) > 0
    again, _ = rollouts(tiny_trainer(*PLAIN, method="cure"))
    assert torch.equal(again.response_BT, batch.response_BT)


def test_dynamic_sampling_keeps_the_branches_tags() -> None:
    trainer = tiny_trainer("method.n2=1", "method.gen_factor=0.5", method="cure")
    batch, asked = rollouts(trainer)
    assert len(asked) > 2, "no round was drawn again"
    assert bool((batch.tags["extra"] >= (batch.tags["level"] > 0).float()).all())
    assert len(batch) % 4 == 0 and int((batch.tags["level"] > 0).sum()) == len(batch) // 2


def test_the_second_stage_is_dapo_with_a_fresh_optimiser() -> None:
    run = ("train.steps=4", "method.first_share=0.5")
    trainer = tiny_trainer(*run, method="cure")
    trainer.step()
    assert trainer.optimizer.state
    trainer.step()
    assert not trainer.optimizer.state and trainer.stages.components["cure"].state_dict() == {
        "begun": True,
        "steps": 2,
    }
    saved = copy.deepcopy(trainer.state_dict())
    dapo = tiny_trainer("train.steps=4", "method.gen_factor=2", method="dapo")
    for other in (dapo, tiny_trainer(*run, method="cure")):
        state = copy.deepcopy(saved)
        if other is dapo:
            del state["components"]["cure"]
        other.load_state_dict(state)
        theirs, mine = other.step(), None
        if other is dapo:
            mine = trainer.step()
            expected = {k: v for k, v in mine.items() if not k.startswith("cure/")}
            assert theirs == expected
        else:
            assert theirs["cure/first_stage_steps"] == 2 and theirs["loss"] == expected["loss"]
