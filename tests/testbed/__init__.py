"""Scripts that make and check the micro testbed; no run needs them."""
