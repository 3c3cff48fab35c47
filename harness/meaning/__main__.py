"""``python -m harness.meaning``: see :mod:`harness.meaning.digest`."""

from harness.meaning.digest import main

raise SystemExit(main())
