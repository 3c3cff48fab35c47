"""problem_sets."""
