"""Which columns, rows and notes stand where. Imports ``data`` and ``analysis``; prints nothing."""
