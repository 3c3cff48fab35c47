"""A run's configuration: its fields, sections, names, and the grammar that a person types.

Read ``schema.py`` first (all settings), then ``fields.py`` (ranges, what counts for the identity).
``hydra.py`` turns what a person types into values, ``values.py`` checks values against the fields,
``composition.py`` takes composed method names apart.
:mod:`harness.run.compose` makes a checked run of it. Imports ``util`` alone, and no torch.
"""
