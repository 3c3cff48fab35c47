"""What is registered, and what it means.

Start with :mod:`~harness.registry.meaning`: the identity of a registered class, read from syntax alone. It
uses :mod:`~harness.registry.canonical` (a definition and all it uses as one text),
:mod:`~harness.registry.sources` (modules, and what a name in them resolves to),
:mod:`~harness.registry.syntax` (a statement as text) and :mod:`~harness.registry.bindings` (which names a
statement binds), in this order. Nothing here imports what it reads. Of the harness it may import
:mod:`harness.errors` and :mod:`harness.files` only.
"""
