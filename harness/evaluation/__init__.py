"""Scores of a policy: on benchmarks by a profile, and on the splits that a run looks at while it trains.

Read ``session.py`` first (``entrobench eval``), then ``draw.py`` (an engine draws, a judge works beside it)
and ``scores.py``. ``in_run.py`` is the same as a run's last phase, ``splits.py`` samples the training
problems' splits and probes entropy, ``regrade.py`` judges stored samples again. Imports ``rollout``,
``grading``, ``statistics`` and what lies below; never the trainer.
"""
