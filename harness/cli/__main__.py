"""``python -m harness.cli``: the command line where the console script is not installed."""

import sys

from harness.cli import main

sys.exit(main())
