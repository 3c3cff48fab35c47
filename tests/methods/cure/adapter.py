"""CURE: candidates, the cut that was drawn, the branch's prompt, and the advantages of the joint group."""

from __future__ import annotations

import numpy as np
import torch

from harness.model.decoding import left_padded
from harness.registry.golden import GoldenCase
from harness.stages.branching import highest_positions
from harness.stages.defaults import group_normalised
from methods.cure import eligible, kept_tokens, says_enough
from tests.methods.support.golden import spread, tensor

#: Rows of the first draw have no mask: their prompts and responses are compared everywhere.
MASKS = {name: "" for name in ("out_candidate_mask", "out_branch_prompts", "out_branch_attention")}


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, tokens, prompts = case.hp, tensor(case, "tokens"), tensor(case, "prompts")
    pad, width = hp["pad_token_id"], prompts.shape[1]
    enough = says_enough(hp["vocab_text"])

    def says(ids: list[int]) -> list[bool]:
        return [enough[i] and i not in hp["special_ids"] for i in ids]

    allowed = eligible(tokens, tokens != pad, says)
    found = highest_positions(tensor(case, "entropy"), allowed, hp["critical_top_k"])
    chosen = torch.zeros_like(tokens)
    for row, positions in enumerate(found):
        chosen[row, positions] = 1
    drawn = [places[d] if places else 0 for places, d in zip(found, case["draw"].tolist(), strict=True)]
    made = []
    for prompt, response, cut in zip(prompts, tokens.tolist(), drawn, strict=True):
        own = prompt[prompt != pad].tolist()
        made.append(own + response[: kept_tokens(cut, len(own), width)])
    ids, attention = left_padded([*made, [pad] * width], pad)
    mask, group = tensor(case, "mask"), tensor(case, "groups")
    out = {
        "out_branch_idx": drawn,
        "out_candidate_mask": chosen,
        "out_branch_prompts": ids[:-1],
        "out_branch_attention": attention[:-1].long(),
        "out_advantages": spread(group_normalised(tensor(case, "rewards"), group, eps=hp["adv_eps"]), mask),
    }
    return {k: np.asarray(v) for k, v in out.items()}
