"""A headless Chromium for the tests of the page.

    python tests/browser/chromium.py

installs Debian's ``chromium`` and the driver of the same version where they are missing (root). Exit code 3
says that this machine cannot have them; then the tests marked browser are skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import Any

PACKAGES = ("chromium", "chromium-driver")
PROGRAMS = ("chromium", "chromedriver")
NOT_HERE = 3


def missing() -> str:
    """Why no browser can be started; empty when one can."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"no {' and no '.join(absent)}; install them as root: python tests/browser/chromium.py"
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "no selenium; install the extra browser: pip install -c constraints.txt -e '.[dev,browser]'"
    return ""


def install() -> int:
    if all(map(shutil.which, PROGRAMS)):
        return 0
    if os.geteuid() or not shutil.which("apt-get"):
        print(
            f"chromium: install {' and '.join(PACKAGES)} by hand (no root or no apt-get here)",
            file=sys.stderr,
        )
        return NOT_HERE
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(["apt-get", "-qq", *command], env=quiet, stdout=subprocess.DEVNULL)
        if done.returncode:
            print(f"chromium: apt-get {command[0]} failed", file=sys.stderr)
            return 1
    return 0


def start() -> Any:
    """A driver of a headless Chromium that may not reach the network and keeps what the console says."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
        "--host-resolver-rules=MAP * ~NOTFOUND", "--no-first-run", "--disable-background-networking",
    ):  # fmt: skip
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return Chrome(options=options, service=Service(str(shutil.which("chromedriver"))))


if __name__ == "__main__":
    sys.exit(install())
