"""What is registered: methods, their cards, diagnostics and benchmarks, found by their folders.

Read ``folders.py`` first (where entries are found), then ``methods.py`` and ``benchmarks.py``. ``cards.py``
reads what stands beside a method, ``pages.py``, ``costs.py`` and ``peers.py`` make docs/methods, and
``golden.py`` replays vectors of official code. Imports ``stages``, ``meaning``, ``problems``, ``config`` and
``util``; no entry is imported by name.
"""
