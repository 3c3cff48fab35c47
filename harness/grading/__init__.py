"""Grading: is the answer in this response the reference answer? See ``docs/grading.md``."""

from harness.grading.grader import Grade, Grader
from harness.grading.graders import GRADERS

__all__ = ["GRADERS", "Grade", "Grader"]
