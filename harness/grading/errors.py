"""What failed while an answer was graded: such answers are unparsed, and the failure is told."""

from __future__ import annotations

import traceback


def where(error: BaseException) -> str:
    """Kind and place of an error: ``TypeError in compare.py, line 91 (_rounded)``; no text of the answer."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "grading" in frame.filename] or frames
    if not ours:
        return type(error).__name__
    frame = ours[-1]
    name = frame.filename.replace("\\", "/").rsplit("/", 1)[-1]
    return f"{type(error).__name__} in {name}, line {frame.lineno} ({frame.name})"
