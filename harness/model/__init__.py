"""The policy: a Hugging Face model that gives log-probs and declared statistics of tokens.

Read ``policy.py`` first, then ``logits.py`` (the chunked operator over the vocabulary) and ``packing.py``
(each prompt once, responses behind it). ``sharding.py`` and ``precision.py`` say in what pieces and types the
network works, ``checks.py`` refuses what cannot be batched, ``source.py`` finds weights, and ``memory/``
plans a run's memory from sizes alone. Imports ``stages``, ``distributed``, ``config`` and ``util``.
"""
