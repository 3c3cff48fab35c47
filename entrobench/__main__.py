"""``python -m entrobench`` is the command ``entrobench``."""

import sys

from harness.cli import main

sys.exit(main())
