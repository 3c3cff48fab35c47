"""A sweep: file -> plan -> tune -> submit -> status -> collect, by processes here or on Slurm.

Read ``spec.py`` first (the file), then ``plan.py`` (one job per cell) and ``launcher.py`` (what a launcher
is). ``tune.py`` gives all methods the same trials, ``state.py`` of ``run`` says what a run is doing,
``collect.py`` writes records. Imports ``run`` and what lies below; no daemon, no state but files.
"""
