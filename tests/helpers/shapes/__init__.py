"""Throw-away methods of awkward shape: they show that the stations suffice, and are no reproductions."""
