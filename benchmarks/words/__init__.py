"""Problems for small language models: plain English with many right answers and short responses.

The problem set is :class:`benchmarks.words.problems.Words`; how it was made and calibrated is told in
``docs/words.md``.
"""
