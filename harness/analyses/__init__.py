"""Analyses of finished runs, ``entrobench analyse NAME RUN…``: what a run's files and weights say afterwards.

A file each, with its card beside it: a frozen dataclass of settings whose ``of`` looks at one run or model
and returns a :class:`~harness.analyses.base.Finding`. ``subject.py`` says what a word of the command means,
``write.py`` puts a finding into the run's folder. The numbers themselves are plain functions in
``harness/statistics/``. Stands beside ``sweep``: may import runs, evaluation and everything below; ``cli``
alone imports it. Read ``base.py`` first.
"""
