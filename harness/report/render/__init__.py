"""Markdown, CSV, LaTeX, JSON, pictures, page and console, from a built report."""
