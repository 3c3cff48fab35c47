"""Throw-away methods of awkward shape: they show that the stages suffice, and are no reproductions."""
