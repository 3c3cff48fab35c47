"""What a run needs of a GPU's memory, from the model's configuration alone. Imports no torch."""

from harness.model.memory.estimate import Plan, plan_memory
from harness.model.memory.shape import KNOWN, ModelShape, find_shape

__all__ = ["KNOWN", "ModelShape", "Plan", "find_shape", "plan_memory"]
