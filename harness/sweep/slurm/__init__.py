"""Sweeps on a Slurm cluster: scripts, arrays, requeues, and what became of each run's jobs.

Read ``launcher.py`` first, then ``script.py`` (the sbatch script) and ``job.py`` (what a job does).
``queue.py`` asks squeue and sacct, ``states.py`` puts files, queue and history together into a run's state.
"""
