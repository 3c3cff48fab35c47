"""The micro testbed: a tiny character-level policy and procedurally generated problems.

It checks mechanisms in minutes on a CPU; it is not evidence about large models. The problem set is
:class:`benchmarks.micro.testbed.Micro`, its policy lies in ``base/`` (see ``tests/testbed/train_base.py``).
"""
