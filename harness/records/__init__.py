"""Result records as types: what a run found out (``RunResult``), and with what its sweep knows (``Record``).

Start with ``record.py``, which says of every field what it holds. ``load.py`` reads them, and says in a line
what is wrong with one that cannot be read. ``migrate.py`` brings older schemas to today's, ``write.py``
writes records, ``schema.py`` makes ``results/record.schema.json`` of the types. Imports ``util`` alone.
"""
