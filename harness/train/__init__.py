"""The training step: rollouts in, one optimiser step after the other, metrics out.

Read ``trainer.py`` first, then ``update.py`` (the gradient of an optimiser step). ``metrics.py`` makes a
step's line of the log, ``off_policy.py`` compares the policy that sampled with the one that ratios divide by
and weighs tokens for it. Imports ``rollout``, ``model``, ``stages`` and what lies below; it knows no folder.
"""
