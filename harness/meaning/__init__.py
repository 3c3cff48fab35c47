"""What a method's code means: the hash of its syntax that a run's identity holds.

Start with ``digest.py``: the identity of a registered class. It uses ``canonical.py`` (a definition and all
it uses as one text), ``sources.py`` (modules, and what a name in them resolves to), ``syntax.py`` (a
statement as text) and ``bindings.py`` (which names a statement binds), in this order. Nothing here imports
what it reads. ``moves.json`` says where a name of the harness was when identities were first taken,
``kept.json`` which identity a meaning has in committed records. Imports ``util`` alone.
"""
