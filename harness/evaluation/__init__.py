"""Evaluation of language models: profile, samples that survive a stop, grading beside generation, scores."""
