"""Leaderboards and plots, derived from result records, in one direction: load, compute, lay out, print.

    data/      records of a report, grouped into rows; the papers' own numbers
    analysis/  scores, differences, intervals, entropy: numbers and nothing else
    tables/    which columns and notes stand where
    render/    Markdown, CSV, LaTeX, JSON, pictures, page, console

Read ``tables/columns.py`` for a column (its numbers: ``analysis/lines.py``), ``render/files.py`` for a
file. Equal records give equal bytes, in whatever order they come: no clock, no file names, no machine in
the output. Two things that no record holds come from the checkout: whether a method's card says that the
law of entropy applies to it (``analysis/conditions.py``), and the papers' own numbers
(``data/reported.py``). Imports records, registry, statistics and util; never a model or a trainer.
"""
