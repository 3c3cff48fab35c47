"""entrobench: the machinery that trains, evaluates and compares entropy-control methods for RLVR."""

__version__ = "0.1.0"
