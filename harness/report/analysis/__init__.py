"""Scores, differences, intervals and entropy of a report's rows: numbers alone. Imports ``data``."""
