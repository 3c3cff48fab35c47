"""A Slurm cluster of three nodes on one Debian machine, for tests and for trying sweeps out.

    python tests/slurm/cluster.py start|stop|status

All parts are real: munge, MariaDB, slurmdbd (so that sacct works), slurmctld and three slurmd. Their files,
ports and sockets are their own, so that nothing else on the machine is touched; clients find the cluster
through ``SLURM_CONF``, which ``start`` prints. Each node has two stand-in GPUs (null devices that torch does
not see). Partition ``gpu`` preempts ``low``, whose jobs go back into the queue. Needs root.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

HOME = Path(os.environ.get("ENTROBENCH_CLUSTER", "/var/tmp/entrobench-cluster"))
CONF = HOME / "etc" / "slurm.conf"
PACKAGES = ("slurm-wlm", "slurmdbd", "munge", "mariadb-server")
PROGRAMS = ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd")
NODES = ("n1", "n2", "n3")
NAME, MAX_ARRAY_SIZE = "entrobench-test", 20
MARIADB_PORT, DBD_PORT, CTLD_PORT, NODE_PORT = 13306, 16819, 16817, 17001
#: Longest wait for a daemon.
PATIENCE_S = 60.0
#: A node registers within a second or two. One that does not is started again after this long, so often: a
#: minute once passed without all three, on a machine of which nothing but that is known.
REGISTER_S, REGISTER_TRIES = 30.0, 4

# cred_expire (5 at least) also is how long a requeued job waits before it may start again: 120 s unless set.
# Real clusters have JobRequeue and KillWait, too, only slower; bf_interval makes jobs start at once.
SLURM_CONF = """\
ClusterName={name}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmUser=root
SlurmctldPidFile={home}/run/slurmctld.pid
SlurmctldLogFile={home}/log/slurmctld.log
SlurmdPidFile={home}/run/%n.pid
SlurmdLogFile={home}/log/%n.log
SlurmdSpoolDir={home}/spool/%n
StateSaveLocation={home}/state
AuthType=auth/munge
AuthInfo=socket={home}/run/munge.socket,cred_expire=5
CredType=cred/munge
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd_port}
AccountingStoragePass={home}/run/munge.socket
JobAcctGatherType=jobacct_gather/linux
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,sched_interval=1,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=10
MinJobAge=300
MaxArraySize={max_array_size}
MaxJobCount=5000
ReturnToService=1
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName=DEFAULT CPUs=2 RealMemory=4000 Gres=gpu:2
NodeName=n[1-3] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{node_port}-{last_port}]
PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=10
PartitionName=low Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE
"""
SLURMDBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={home}/run/munge.socket
DbdHost=localhost
DbdPort={dbd_port}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={mariadb_port}
StorageUser=slurm
StorageLoc=slurm_acct
PidFile={home}/run/slurmdbd.pid
LogFile={home}/log/slurmdbd.log
"""


#: Exit code where this machine cannot have a cluster, so that its tests are skipped; a failure is 1.
NOT_HERE = 3


class NotHere(RuntimeError):
    """This machine cannot have a cluster."""


def main(words: Sequence[str]) -> int:
    actions: dict[str, Callable[[], None]] = {"start": start, "stop": stop, "status": status}
    if len(words) != 1 or words[0] not in actions:
        print("usage: cluster.py start|stop|status", file=sys.stderr)
        return 2
    try:
        actions[words[0]]()
    except NotHere as error:
        print(f"cluster: {error}", file=sys.stderr)
        return NOT_HERE
    except (RuntimeError, subprocess.CalledProcessError) as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    return 0


def start() -> None:
    """Install what is missing, start what is not running, and wait until all nodes are idle."""
    if os.geteuid():
        raise NotHere("needs root, to install and to run the daemons of Slurm")
    os.environ["SLURM_CONF"] = str(CONF)
    if not running():
        install()
        configure()
        start_munge()
        start_database()
        daemon("slurmdbd")
        wait("slurmdbd", "sacctmgr", "-n", "show", "cluster")
        daemon("slurmctld", "-f", str(CONF))
        wait("slurmctld", "scontrol", "ping")
        start_nodes()
    print(f"export SLURM_CONF={CONF}")


def stop() -> None:
    """End the jobs and every daemon that was started; the last one is the database."""
    os.environ["SLURM_CONF"] = str(CONF)
    if running():
        subprocess.run(["scancel", "--user=root"], check=False)
        deadline = time.monotonic() + 20
        while output("squeue", "-h") and time.monotonic() < deadline:
            time.sleep(0.5)
    for name in (*NODES, "slurmctld", "slurmdbd", "munged", "mariadb"):
        end(HOME / "run" / f"{name}.pid")


def status() -> None:
    os.environ["SLURM_CONF"] = str(CONF)
    if not running():
        raise RuntimeError("not running; start it with: python tests/slurm/cluster.py start")
    print(f"export SLURM_CONF={CONF}")
    for command in (["sinfo", "-N"], ["squeue"], ["sacct", "-X", "-n", "--starttime=now-1hour"]):
        subprocess.run(command, check=False)


def running() -> bool:
    """Whether this cluster's controller answers."""
    return CONF.exists() and shutil.which("scontrol") is not None and " UP" in output("scontrol", "ping")


def install() -> None:
    if all(map(shutil.which, PROGRAMS)):
        return
    if not shutil.which("apt-get"):
        raise NotHere(f"no apt-get here; install {', '.join(PACKAGES)} by hand")
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", *PACKAGES]):
        subprocess.run(["apt-get", "-qq", *command], env=quiet, stdout=subprocess.DEVNULL, check=True)


def configure() -> None:
    for folder in ("etc", "run", "log", "state", "munge", *(f"spool/{node}" for node in NODES)):
        (HOME / folder).mkdir(parents=True, exist_ok=True)
    values = {
        "name": NAME, "host": socket.gethostname().partition(".")[0], "home": HOME, "ctld_port": CTLD_PORT,
        "dbd_port": DBD_PORT, "mariadb_port": MARIADB_PORT, "node_port": NODE_PORT,
        "last_port": NODE_PORT + len(NODES) - 1, "max_array_size": MAX_ARRAY_SIZE,
    }  # fmt: skip
    CONF.write_text(SLURM_CONF.format(**values))
    (HOME / "etc" / "gres.conf").write_text(f"Name=gpu File={HOME}/gpu[0-1]\n")
    private = HOME / "etc" / "slurmdbd.conf"
    private.write_text(SLURMDBD_CONF.format(**values))
    private.chmod(0o600)
    for index in range(2):
        if not (HOME / f"gpu{index}").exists():
            os.mknod(HOME / f"gpu{index}", 0o020666, os.makedev(1, 3))


def start_munge() -> None:
    own = HOME / "munge"
    key = own / "key"
    if not key.exists():
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
    own.chmod(0o700)
    daemon(
        "munged", "--force", f"--key-file={key}", f"--socket={HOME}/run/munge.socket",
        f"--pid-file={HOME}/run/munged.pid", f"--log-file={own}/log", f"--seed-file={own}/seed",
    )  # fmt: skip


def start_database() -> None:
    data, log = HOME / "mariadb", HOME / "log" / "mariadb.log"
    if not (data / "mysql").exists():
        shutil.rmtree(data, ignore_errors=True)
        subprocess.run(
            ["mariadb-install-db", "--user=root", f"--datadir={data}",
             "--auth-root-authentication-method=normal"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True,
        )  # fmt: skip
    with open(log, "ab") as handle:
        subprocess.Popen(
            ["mariadbd", "--no-defaults", "--user=root", f"--datadir={data}", "--bind-address=127.0.0.1",
             f"--port={MARIADB_PORT}", f"--socket={HOME}/run/mariadb.socket",
             f"--pid-file={HOME}/run/mariadb.pid", "--innodb-flush-log-at-trx-commit=0"],
            stdin=subprocess.DEVNULL, stdout=handle, stderr=handle, start_new_session=True,
        )  # fmt: skip
    client = ("mariadb", "--no-defaults", "--user=root", f"--socket={HOME}/run/mariadb.socket", "-e")
    wait("MariaDB", *client, "SELECT 1")
    # it listens on this machine only, and holds nothing but the accounts of test jobs
    statements = (
        "CREATE DATABASE IF NOT EXISTS slurm_acct",
        "CREATE USER IF NOT EXISTS 'slurm'@'localhost', 'slurm'@'127.0.0.1'",
        "GRANT ALL ON slurm_acct.* TO 'slurm'@'localhost', 'slurm'@'127.0.0.1'",
    )
    subprocess.run([*client, "; ".join(statements)], check=True)


def start_nodes() -> None:
    """Start the daemon of each node, again where it does not register, until all are idle."""
    for _ in range(REGISTER_TRIES):
        missing = [node for node, state in states().items() if state != "idle"]
        for node in missing:
            end(HOME / "run" / f"{node}.pid")
            daemon("slurmd", "-N", node, "-f", str(CONF))
        deadline = time.monotonic() + REGISTER_S
        while time.monotonic() < deadline:
            now = states()
            if set(now.values()) == {"idle"}:
                return
            for node in (node for node, state in now.items() if state in ("down", "drained")):
                output("scontrol", "update", f"nodename={node}", "state=resume")  # as it was left
            time.sleep(0.2)
    raise RuntimeError(f"the nodes did not register, {REGISTER_TRIES} times: {states()}\n{last_words()}")


def states() -> dict[str, str]:
    """The state of each node as ``sinfo`` prints it (``idle*``: not responding); else ``unknown``."""
    lines = output("sinfo", "-h", "-N", "-p", "gpu", "-o", "%N %T").splitlines()
    printed = dict(line.split() for line in lines)
    return {node: printed.get(node, "unknown") for node in NODES}


def last_words(lines: int = 6) -> str:
    """The end of each log, for whoever sees only what was printed."""
    ends = []
    for log in sorted((HOME / "log").glob("*.log")):
        ends += [f"{log.name}: {line}" for line in log.read_text(errors="replace").splitlines()[-lines:]]
    return "\n".join(ends)


def daemon(*command: str) -> None:
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True)


def wait(what: str, *command: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        if done.returncode == 0:
            return
        time.sleep(0.2)
    raise RuntimeError(f"{what} did not answer within {PATIENCE_S:.0f} s; its log ends so:\n{last_words()}")


def end(pid_file: Path) -> None:
    """End the process that ``pid_file`` names and wait for it."""
    if not pid_file.exists():
        return
    text = pid_file.read_text().strip()
    deadline = time.monotonic() + 20
    while text.isdigit() and Path(f"/proc/{text}").exists() and time.monotonic() < deadline:
        os.kill(int(text), signal.SIGTERM)
        time.sleep(0.2)
    pid_file.unlink(missing_ok=True)


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
