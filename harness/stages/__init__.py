"""What a method is made of: the batch, token statistics, and a stage for every question of a step.

Read ``base.py`` first (the interfaces and ``Stages``), then ``defaults.py`` (plain GRPO) and ``loss.py``.
``compose.py`` and ``composed.py`` put stages of several methods together. Imports ``problems``, ``config``
and ``util``; it knows no model, no sampler and no trainer.
"""
