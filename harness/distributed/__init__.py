"""Several processes as one run: who works on what, how they agree, and how they are started.

Read ``world.py`` first (``run_on_main``, ``all_gather``, ``run_locally``), then ``launch.py``, which starts
them by torchrun's agent. Imports ``config`` and ``util``.
"""
