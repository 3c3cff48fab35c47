#!/bin/sh
# torchrl: the KL penalty of its GRPO loss is weaker, the more padding and prompt a batch has. The policy's loss is a
# mean over the tokens of the responses; the KL terms (kl_to_ref, kl_to_inference) set all other positions to 0 and then
# take the mean over every position. Three tokens in a row of 93 are pulled back with a 31st of the coefficient, and
# one long response or prompt weakens the pull on the whole batch. The logged entropy is a mean over every position,
# too: its fall may be no more than a longer row.
#
# What helps: aggregate the KL term by hand, and divide what is logged by the share of positions that are responses.
#
# Here the same three tokens, with no, 6 and 90 positions in front of them that belong to no response. The policy is a
# table of logits with the method get_dist that the loss asks for, in place of a language model.
#
# Seen (tensordict 0.14.3, torch 2.13.0):
#   0.14.1 3 positions: loss -1.067, gradient of the KL term 0.2074, kl_to_ref 0.1065, entropy 1.479
#   0.14.1 9 positions: loss -1.067, gradient of the KL term 0.0691, kl_to_ref 0.0355, entropy 0.493
#   0.14.1 93 positions: loss -1.067, gradient of the KL term 0.0067, kl_to_ref 0.0034, entropy 0.048
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/ask.py" <<'PYTHON'
import torch
import torchrl
from tensordict import TensorDict
from torchrl.modules.distributions import LLMMaskedCategorical
from torchrl.objectives.llm import GRPOLoss


class Policy(torch.nn.Module):
    def __init__(self, before):
        super().__init__()
        logits = torch.randn(1, 3, 5, generator=torch.Generator().manual_seed(1))
        self.logits = torch.nn.Parameter(torch.cat([torch.zeros(1, before, 5), logits], 1))
        self.mask = torch.tensor([[False] * before + [True] * 3])

    def get_dist(self, _data, **_more):
        return LLMMaskedCategorical(logits=self.logits, mask=self.mask)


for before in (0, 6, 90):
    policy = Policy(before)
    tokens = torch.zeros(1, before + 3, dtype=torch.long)
    now = policy.get_dist(None).log_prob(torch.where(policy.mask, tokens, -100)).detach()
    old = torch.where(policy.mask, now - torch.tensor([0.0] * (before + 2) + [0.4]), 0.0)
    data = TensorDict({("tokens", "full"): tokens, ("log_probs", "full"): old}, batch_size=[1])
    data["next", "ref_log_probs", "full"] = torch.where(policy.mask, now - 0.5, 0.0)
    data["advantage"] = torch.ones(1, before + 3, 1)
    seen = GRPOLoss(policy, clip_epsilon=0.2, kl_to_ref_coeff=1.0)(data)
    (slope,) = torch.autograd.grad(seen.loss_kl_to_ref, policy.logits, retain_graph=True)
    print(
        f"{torchrl.__version__} {before + 3} positions: loss {float(seen.loss_objective):.3f}, gradient of the KL term "
        f"{float(slope.norm()):.4f}, kl_to_ref {float(seen.kl_to_ref):.4f}, entropy {float(seen.entropy):.3f}"
    )
PYTHON
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "torch==2.13.0"
"$folder/venv/bin/pip" install -q "torch==2.13.0" "torchrl==0.14.1" "tensordict==0.14.3"
"$folder/venv/bin/python" "$folder/ask.py" 2> /dev/null | tee "$folder/seen"
grep -q " 3 positions:.* kl_to_ref 0.1065, entropy 1.479$" "$folder/seen"
grep -q " 93 positions:.* kl_to_ref 0.0034, entropy 0.048$" "$folder/seen"
