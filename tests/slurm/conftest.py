"""The cluster that these tests use, and folders to submit from."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.slurm import cluster
from tests.slurm.site import ROOT, Site, slurm

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.slurm)


@pytest.fixture(scope="session", autouse=True)
def on_cluster() -> Iterator[None]:
    """Commands of Slurm reach our own cluster; without it the tests are skipped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(cluster.CONF))
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("COLUMNS", "160")
        if not shutil.which("sbatch") or not cluster.running():
            pytest.skip("no test cluster; start it as root: python tests/slurm/cluster.py start")
        for variable in [name for name in os.environ if name.startswith("SLURM_") and name != "SLURM_CONF"]:
            patch.delenv(variable)
        _revive()
        yield
        _revive()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    found = Site(tmp_path)
    yield found
    cancel_all(found)


@pytest.fixture(scope="module")
def make_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Site]]:
    made: list[Site] = []

    def make(name: str) -> Site:
        made.append(Site(tmp_path_factory.mktemp(name)))
        return made[-1]

    yield make
    for found in made:
        cancel_all(found)


def cancel_all(found: Site) -> None:
    """Take out of the queue what a failed test has left there."""
    for path in found.folder.glob("runs/.sweeps/*/*/arrays/*.job"):
        subprocess.run(["scancel", path.read_text()], capture_output=True, check=False)


def _revive() -> None:
    """Nodes that a test which was broken off has left down."""
    for node in cluster.NODES:
        state = slurm("sinfo", "-h", "-n", node, "-o", "%T")
        if "down" in state or "drain" in state:
            slurm("scontrol", "update", f"nodename={node}", "state=resume")
