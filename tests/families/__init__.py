"""Every causal language model of the installed transformers, tiny and random: right here, or refused.

``python -m tests.families`` measures them all and writes ``docs/model-families.md``; with names behind it,
it prints what these do. :mod:`tests.families.build` makes the models, :mod:`tests.families.measure` compares
training and sampling with each model's own logits.
"""
