#!/bin/sh
# torchrl: its CISPO loss gives no gradient to a token whose ratio is out of the clip bounds. The clipped
# weight is not detached and multiplies the advantage alone. All gradient is that of the weight, and clipping
# stops it, on both sides and for both signs of the advantage. GRPOLoss drops fewer tokens: it keeps a low
# ratio where the advantage is positive and a high one where it is negative.
#
# One expects otherwise from the paper that the docstring names for the method (MiniMax-M1, arXiv 2506.13585).
# In its objective the clipped weight is under a stop-gradient and multiplies advantage and log-probability,
# so that no token is left out, as PPO and GRPO leave some out. The docstring's own formula has no
# stop-gradient and no log-probability.
#
# It hurts whoever trains with CISPOLoss, or compares it with GRPOLoss, where ratios leave the bounds: the
# tokens that CISPO is there to keep are dropped. What helps: the subclass below, with a detached weight.
#
# Here four tokens with ratios of 0.5 to 2, the default bounds, and the derivative of each token's loss by its
# log-probability. The policy is a table of logits with the method get_dist that the loss asks for, in place
# of a language model.
#
# Seen (tensordict 0.14.3, torch 2.13.0):
#   0.14.1 advantage +1, ratio 0.5: detached weight -0.80, CISPOLoss +0.00, GRPOLoss -0.50
#   0.14.1 advantage +1, ratio 0.9: detached weight -0.90, CISPOLoss -0.90, GRPOLoss -0.90
#   0.14.1 advantage +1, ratio 1.1: detached weight -1.10, CISPOLoss -1.10, GRPOLoss -1.10
#   0.14.1 advantage +1, ratio 2.0: detached weight -1.20, CISPOLoss +0.00, GRPOLoss +0.00
#   0.14.1 advantage -1, ratio 0.5: detached weight +0.80, CISPOLoss +0.00, GRPOLoss +0.00
#   0.14.1 advantage -1, ratio 0.9: detached weight +0.90, CISPOLoss +0.90, GRPOLoss +0.90
#   0.14.1 advantage -1, ratio 1.1: detached weight +1.10, CISPOLoss +1.10, GRPOLoss +1.10
#   0.14.1 advantage -1, ratio 2.0: detached weight +1.20, CISPOLoss +0.00, GRPOLoss +2.00
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/ask.py" <<'PYTHON'
import torch
import torchrl
from tensordict import TensorDict
from torchrl.modules.distributions import LLMMaskedCategorical
from torchrl.objectives.llm import CISPOLoss, GRPOLoss

ratios = torch.tensor([0.5, 0.9, 1.1, 2.0])


class DetachedWeight(CISPOLoss):
    def _compute_policy_objective(self, log_weight, advantage):
        _, share = super()._compute_policy_objective(log_weight, advantage)
        weight = log_weight.clamp(*self._clip_bounds).exp().detach()
        # its derivative is that of the log-probability: the old one is a constant
        return -weight * advantage * log_weight, share


class Policy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.randn(1, 4, 5, generator=torch.Generator().manual_seed(1)))

    def get_dist(self, _data, **_more):
        return LLMMaskedCategorical(logits=self.logits, mask=torch.ones(1, 4, dtype=torch.bool))


def slopes(loss, advantage):
    policy = Policy()
    tokens = torch.zeros(1, 4, dtype=torch.long)
    now = policy.get_dist(None).log_prob(tokens).detach()
    old = now - ratios.log()
    data = TensorDict({("tokens", "full"): tokens, ("log_probs", "full"): old}, batch_size=[1])
    data["advantage"] = torch.full((1, 4, 1), advantage)
    loss(policy)(data).loss_objective.backward()
    # the loss is a mean over four tokens; a token's log-probability has the slope 1 - p by its own logit
    return 4 * policy.logits.grad[0, :, 0] / (1 - now[0].exp())


for advantage in (1.0, -1.0):
    seen = [slopes(loss, advantage).tolist() for loss in (DetachedWeight, CISPOLoss, GRPOLoss)]
    for ratio, detached, cispo, grpo in zip(ratios.tolist(), *seen):
        print(
            f"{torchrl.__version__} advantage {advantage:+.0f}, ratio {ratio:.1f}: "
            f"detached weight {detached:+.2f}, CISPOLoss {cispo + 0.0:+.2f}, GRPOLoss {grpo + 0.0:+.2f}"
        )
PYTHON
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "torch==2.13.0"
"$folder/venv/bin/pip" install -q "torch==2.13.0" "torchrl==0.14.1" "tensordict==0.14.3"
"$folder/venv/bin/python" "$folder/ask.py" 2> /dev/null | tee "$folder/seen"
cat > "$folder/expected" <<'TEXT'
0.14.1 advantage +1, ratio 0.5: detached weight -0.80, CISPOLoss +0.00, GRPOLoss -0.50
0.14.1 advantage +1, ratio 0.9: detached weight -0.90, CISPOLoss -0.90, GRPOLoss -0.90
0.14.1 advantage +1, ratio 1.1: detached weight -1.10, CISPOLoss -1.10, GRPOLoss -1.10
0.14.1 advantage +1, ratio 2.0: detached weight -1.20, CISPOLoss +0.00, GRPOLoss +0.00
0.14.1 advantage -1, ratio 0.5: detached weight +0.80, CISPOLoss +0.00, GRPOLoss +0.00
0.14.1 advantage -1, ratio 0.9: detached weight +0.90, CISPOLoss +0.90, GRPOLoss +0.90
0.14.1 advantage -1, ratio 1.1: detached weight +1.10, CISPOLoss +1.10, GRPOLoss +1.10
0.14.1 advantage -1, ratio 2.0: detached weight +1.20, CISPOLoss +0.00, GRPOLoss +2.00
TEXT
cmp "$folder/seen" "$folder/expected"
