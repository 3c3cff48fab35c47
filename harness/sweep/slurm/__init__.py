"""Sweeps on a Slurm cluster: scripts, arrays, requeues, and what became of each run's jobs.

The keys of ``slurm:`` are in ``sweep/resources.py``; ``job.sh.j2`` is the script that prints them.
Read ``launcher.py`` first, then ``script.py`` (fills it in) and ``job.py`` (what a job does).
``queue.py`` asks squeue and sacct, ``states.py`` puts files, queue and history together into a run's state.
"""
