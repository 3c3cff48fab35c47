"""Grading: is the answer in this response the reference answer? See ``docs/grading.md``.

Read ``grader.py`` first: it takes texts and gives verdicts, late or hostile answers included. It imports
``problems`` and ``util`` alone, because its workers are forked from a process without torch.
"""
