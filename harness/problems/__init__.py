"""What a problem is: its prompt, its reference answer, a verdict on a response, and prompt templates.

Read ``problem.py`` first: ``Problem``, ``Verdict`` and what a ``Benchmark`` offers. Imports ``util`` alone.
"""
