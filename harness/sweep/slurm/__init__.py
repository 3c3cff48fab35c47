"""Sweeps on a Slurm cluster: resources, submission, the queue, and what a job does on its node."""
