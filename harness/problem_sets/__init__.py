"""What a file of ``benchmarks/`` is made of: rows from a file or the hub, checked by digest, as problems.

Read ``math_set.py`` first (the base of the mathematics sets), then ``rows.py``. Imports ``grading``,
``problems`` and ``util``.
"""
