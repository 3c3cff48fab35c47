"""The machinery of entrobench, in layers that the folders show; imports run downwards only.

    cli            parses and prints; a command a file
    sweep | analyses                 a sweep file -> plan -> tune -> submit -> collect; analyses of runs
    run            one run and its folder
    report, evaluation, train        leaderboards; scores; the training step
    rollout        what answers a rollout program, and the engines that draw
    registry, model, records         what is registered; the policy; the types of a result record
    stages         what a method is made of
    problem_sets, distributed, meaning
    grading, config
    problems, statistics
    util

``make lint`` holds it (import-linter). Each folder's docstring says what it is and where to start reading.
Authors of methods and benchmarks import from ``entrobench`` instead, which re-exports what they use.
"""

__version__ = "0.1.0"
