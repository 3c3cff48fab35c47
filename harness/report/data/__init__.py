"""Records, checked and grouped into rows; the papers' own numbers. Imports nothing else of the report."""
