"""Submission: everything once, whoever submits; a probe that fails stops the rest; cancel and retry."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.slurm.cluster import MAX_ARRAY_SIZE
from tests.slurm.site import Site, queue, slurm, wait


def scripts(site: Site) -> list[str]:
    files = sorted(site.folder.glob("runs/.sweeps/*/*/logs/*_submission.sh"))
    return [path.read_text() for path in files]


def starts(site: Site) -> Counter[str]:
    """How often a job was started for each run."""
    files = site.folder.glob("runs/.sweeps/*/runs/attempts/*.jsonl")
    return Counter({f.stem: f.read_text().count('"event": "start"') for f in files if "probe" not in f.name})


@pytest.mark.timeout(900)
def test_forty_runs_in_arrays_of_twenty_to_the_end_by_two_submitters(site: Site) -> None:
    """Two people submit 40 runs at one moment; each run is made once, and a third submission adds nothing."""
    assert MAX_ARRAY_SIZE == 20
    path = site.write(seeds=list(range(1, 41)), train={"steps": 1}, slurm={"limit": 3})
    # a warm plan, so that both come to the lock together
    site.run("sweep", "plan", path.name)
    both = [
        subprocess.Popen(
            site.command("sweep", "submit", path.name), cwd=site.folder, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    told = sorted(process.communicate(timeout=120)[0] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert sum("queued 40 runs as 2 arrays of jobs" in text for text in told) == 1, told
    assert "nothing left to start: 0 of 40 done, 40 waiting" in site.run("sweep", "submit", path.name)
    arrays = [line for text in scripts(site) for line in text.splitlines() if "--array" in line]
    assert arrays == ["#SBATCH --array=0-19%3"] * 2
    wait("40 results", lambda: len(list(site.folder.glob("runs/*/result.json"))) == 40, 800)
    wait("an empty queue", lambda: not queue("--name", ",".join(names(site))))
    assert "nothing left to start: 40 of 40 done" in site.run("sweep", "submit", path.name)
    assert starts(site) == Counter({run.name: 1 for run in site.runs()}) and len(site.runs()) == 40
    assert "40 runs: 40 done" in site.run("sweep", "status", path.name)
    assert "40 records (40 new)" in site.run("sweep", "collect", path.name)


def names(site: Site) -> list[str]:
    arrays = [json.loads(p.read_text()) for p in site.folder.glob("runs/.sweeps/*/runs/arrays/*.json")]
    return [f"eb-{a['sweep']}-{a['id']}" for a in arrays]


def test_a_failing_probe_keeps_everything_back_and_says_why(site: Site) -> None:
    path = site.write(settings={"device": "cpu", "train.lr": 1e30, "train.steps": 2}, seeds=[1, 2])
    assert "queued 2 runs" in site.run("sweep", "submit", path.name)
    wait("the arrays to be cancelled", lambda: not queue("--name", ",".join(names(site))))
    shown = site.run("sweep", "status", path.name)
    assert "2 runs: 2 missing" in shown
    assert "the probe job" in shown and "FloatingPointError: loss" in shown and "then submit again" in shown
    assert not site.runs()
    assert (
        slurm("sacct", "-X", "-n", "-o", "State", "-j", job_ids(site)[-1]).split()[0].startswith("CANCELLED")
    )


def job_ids(site: Site) -> list[str]:
    return sorted((p.read_text() for p in site.folder.glob("runs/.sweeps/*/*/arrays/*.job")), key=int)


def test_cancel_retry_and_the_batch_process_killed(site: Site) -> None:
    """A cancelled run saves first and goes on when it is submitted; one whose job was killed is retried."""
    path = site.write(train={"steps": 150})
    site.run("sweep", "submit", path.name)
    wait("some steps", lambda: site.status().get("step", 0) >= 5)
    assert "stopping 1 run\n" in site.run("sweep", "cancel", path.name)
    wait("the end of its job", lambda: not queue("--name", ",".join(names(site))))
    left = site.status()
    assert left["state"] == "preempted"
    saved = [int(p.stem[5:]) for p in site.runs()[0].glob("checkpoints/step-*.pt")]
    assert max(saved) >= left["step"] >= 5, "it did not save before it went"
    shown = site.run("sweep", "status", path.name)
    assert "1 preempted" in shown and "retry goes on" in shown
    assert "nothing is running" in site.run("sweep", "cancel", path.name)

    site.run("sweep", "submit", path.name)
    wait("it to go on", lambda: site.status()["state"] == "running" and site.status()["step"] > max(saved))
    own = [line for line in site.attempts() if line["event"] == "start"][-1]["pid"]
    for pid in (own, site.status()["pid"]):
        os.kill(pid, signal.SIGKILL)
    wait("the end of its job", lambda: not queue("--name", ",".join(names(site))))
    assert "1 lost" in site.run("sweep", "status", path.name)
    assert "queued 1 run as" in site.run("sweep", "retry", path.name)
    wait("its result", lambda: (site.runs()[0] / "result.json").exists())
    steps = [json.loads(line)["step"] for line in (site.runs()[0] / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(151))
    assert "nothing failed or lost" in site.run("sweep", "retry", path.name)


def test_what_slurm_refuses_is_said_in_one_line_and_leaves_nothing(site: Site) -> None:
    path = site.write(slurm={"partition": "gpuu"})
    said = site.run("sweep", "submit", path.name, code=2)
    assert "Slurm refused the job" in said and "partition" in said
    assert "1 run: 1 missing" in site.run("sweep", "status", path.name)
    assert not job_ids(site)


def test_no_secrets_reach_scripts_logs_or_jobs(site: Site, tmp_path: Path) -> None:
    path = site.write(slurm={"setup": ["env | sort"], "export": ["SHOWN"]})
    site.run("sweep", "submit", path.name, HF_TOKEN="hf_secret", SHOWN="shown value")
    wait("its result", lambda: any(site.folder.glob("runs/*/result.json")))
    wait("an empty queue", lambda: not queue("--name", ",".join(names(site))))  # and nothing half written
    files = [p for p in site.folder.rglob("*") if p.is_file()]
    assert [p for p in files if b"hf_secret" in p.read_bytes()] == []
    output = "".join(p.read_text() for p in files if p.name.startswith("slurm-"))
    assert "SHOWN=shown value" in output
    assert all("shown value" not in text for text in scripts(site))
