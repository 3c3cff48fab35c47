"""A corpus of answers for the graders, in the forms that models write, with verdicts known by construction.

``cases()`` are the project's own references and the kinds of answers that graders get wrong; ``real_cases()``
the references of the real sets. ``python -m tests.unit.grading.corpus > FILE`` writes a file for
``entrobench check grading FILE``. Forms live in ``numbers.py`` and ``structures.py``; the second check, which
reads the answers again and compares exact values, in ``reader.py`` and ``values.py``. No grader is used.
"""
