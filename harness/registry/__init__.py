"""What is registered, and what it means.

Start with :mod:`~harness.registry.meaning`: the identity of a registered class, read from syntax alone. It uses
:mod:`~harness.registry.canonical` (syntax as text, with every name resolved), which uses
:mod:`~harness.registry.sources` (files, modules, and what a name in them stands for). Nothing here imports
what it reads; of the harness it may import :mod:`harness.errors` and :mod:`harness.files` only.
"""
