"""Sweeps: a declarative file -> plan -> tune -> submit -> status -> retry -> collect."""
