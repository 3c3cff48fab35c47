"""Tests against a Slurm cluster: ``python tests/slurm/cluster.py start`` makes one."""
