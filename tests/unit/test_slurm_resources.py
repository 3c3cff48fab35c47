"""The ``slurm:`` section: what is read, and what is refused with which remedy."""

from __future__ import annotations

from typing import Any

import pytest

from harness.sweep.resources import SlurmResources, slurm_resources
from harness.util.errors import UserError


def test_an_empty_section_leaves_everything_to_the_cluster() -> None:
    assert slurm_resources({}) == SlurmResources()
    assert SlurmResources().time_s is None and SlurmResources().processes == 1


def test_every_key_is_read() -> None:
    raw: dict[str, Any] = {
        "partition": "gpu", "account": "lab", "qos": "high", "constraint": "a100&ib", "nodes": 2,
        "gpus": "a100:4", "cpus": 8, "memory": "64G", "time": "1-12:00:00", "limit": 20, "requeue": False,
        "notice": 300, "setup": "module load cuda", "container": "apptainer exec --nv x.sif",
        "python": "/opt/python", "export": ["LAB_CACHE"], "srun": ["--cpu-bind=none"],
        "sbatch": {"mail_type": "END"},
    }  # fmt: skip
    found = slurm_resources(raw)
    assert found.setup == ("module load cuda",) and found.sbatch == {"mail-type": "END"}
    assert (found.gpus_per_node, found.processes, found.total_gpus) == (4, 8, 8)
    assert found.time_s == 36 * 3600


@pytest.mark.parametrize(("text", "s"), [("90m", 5400), ("24h", 86400), ("2d", 172800), ("01:02:03", 3723)])
def test_times(text: str, s: int) -> None:
    assert slurm_resources({"time": text}).time_s == s


@pytest.mark.parametrize(
    ("raw", "remedy"),
    [
        ({"partiton": "gpu"}, "did you mean partition"),
        ({"time": 86400}, "write 90m"),
        ({"time": "30s"}, "at least 1m"),
        ({"time": "soon"}, "write 90m"),
        ({"memory": 32}, "32G"),
        ({"memory": "32 GB"}, "32G"),
        ({"gpus": -1}, "number on each node"),
        ({"gpus": "a100"}, "a100:4"),
        ({"gpus": True}, "number on each node"),
        ({"nodes": 0}, ">= 1"),
        ({"limit": "many"}, ">= 1"),
        ({"requeue": "yes"}, "true or false"),
        ({"setup": {"a": 1}}, "list of lines"),
        ({"partition": ["gpu"]}, "one line"),
        ({"partition": "gpu\n#SBATCH --exclusive"}, "one line"),
        ({"export": ["HF_TOKEN=abc"]}, "names of variables"),
        ({"sbatch": {"array": "0-9"}}, "other keys"),
        ({"sbatch": {"time": 5}}, "other keys"),
        ({"sbatch": "--exclusive"}, "a mapping"),
        ({"sbatch": {"-w": "n1"}}, "long name"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_remedy(raw: dict[str, Any], remedy: str) -> None:
    with pytest.raises(UserError, match=remedy) as refusal:
        slurm_resources(raw, "sweeps/x.yaml: slurm")
    assert "sweeps/x.yaml: slurm" in str(refusal.value) and "\n" not in str(refusal.value)
