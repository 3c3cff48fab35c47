"""What a run needs of a GPU's memory, from the model's configuration alone. Imports no torch."""

from harness.memory.estimate import Plan, plan_memory
from harness.memory.shape import KNOWN, ModelShape, find_shape

__all__ = ["KNOWN", "ModelShape", "Plan", "find_shape", "plan_memory"]
