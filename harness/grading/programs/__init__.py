"""A small language of our own, for tasks that a model proposes: read, run within limits, in killable workers.

Integers, texts, lists, truth values and expressions over them, with calls of the program itself; no names but
its parameters and a fixed list of functions, so no files, no connections and no Python. ``reader`` makes a
tree of a text, ``interpreter`` runs it, ``runner`` has workers do both. Start with ``reader``.
"""
