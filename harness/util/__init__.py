"""What everything uses and what knows nothing of entrobench: errors, files, locks, signals, versions.

Read ``errors.py`` first: a user's mistake is a ``UserError`` of one line that names the remedy. Imports
nothing of the harness.
"""
