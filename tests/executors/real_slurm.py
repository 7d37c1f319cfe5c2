"""A real SLURM on this one machine: munged, slurmctld and two slurmds, each with files and ports of its own."""

import os
import platform
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cgloop.executors.slurm import is_live

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue")
NODES = {"n1": "small", "n2": "big"}
"""Their names, and what jobs can ask for as `--constraint`."""
HOSTS = Path("/etc/hosts")
PATIENCE_S = 60.0

CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job starts again only when its old credential has expired: seconds here, not the usual two minutes.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0
KillWait=5
ReturnToService=2
# Believe the processors written below, however many this machine has.
SlurmdParameters=config_overrides
PartitionName=debug Nodes={nodes} Default=YES State=UP
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 Features={feature} State=UNKNOWN\n"


def missing_programs() -> list[str]:
    """Programs of SLURM and munge that are not installed."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None]


@dataclass
class Slurm:
    """A running SLURM; `environment` is what its commands and jobs need."""

    folder: Path
    environment: dict[str, str]

    def run(self, *command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess:
        return subprocess.run(
            list(map(str, command)), env=self.environment, cwd=cwd, capture_output=True, text=True, timeout=120
        )

    def job(self, job: str) -> dict[str, str]:
        """The fields of `scontrol show job`."""
        text = self.run("scontrol", "show", "job", job, "--oneliner").stdout
        return dict(re.findall(r"(\w+)=(\S*)", text))

    def wait(self, job: str, seconds: float = 300.0) -> dict[str, str]:
        """The job's fields once it is neither waiting nor running."""
        wait_until(lambda: not is_live(self.job(job).get("JobState", "RUNNING")), f"end of job {job}", seconds)
        return self.job(job)

    def logs(self) -> str:
        return "\n".join(f"== {path.name}\n{path.read_text()[-3000:]}" for path in sorted(self.folder.glob("*.log")))


@contextmanager
def running_slurm(folder: Path) -> Iterator[Slurm]:
    """Start the daemons with everything they write below `folder`, and stop them all at the end."""
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "SLURM_CONF": f"{folder}/slurm.conf"}
    host = platform.node().split(".")[0]
    ports = _free_ports(1 + len(NODES))
    text = CONF.format(host=host, folder=folder, ctld_port=ports[0], nodes=",".join(NODES))
    text += "".join(
        NODE.format(name=name, host=host, port=port, feature=feature)
        for (name, feature), port in zip(NODES.items(), ports[1:], strict=True)
    )
    (folder / "slurm.conf").write_text(text)
    for name in ("state", *(f"spool.{node}" for node in NODES)):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    munged = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", f"--key-file={key}"]
    munged += [f"--{name}-file={folder}/munged.{name}" for name in ("pid", "log", "seed")]
    slurm = Slurm(folder, environment)
    with ExitStack() as stack:
        stack.enter_context(_names_resolve())
        stack.enter_context(_daemon(munged, folder, environment))
        wait_until((folder / "munge.socket").exists, "munged")
        stack.enter_context(_daemon(["slurmctld", "-D", "-i"], folder, environment))
        for name in NODES:
            stack.enter_context(_daemon(["slurmd", "-D", "-N", name], folder, environment))
        try:
            wait_until(
                lambda: slurm.run("sinfo", "-h", "-o", "%D", "-t", "idle").stdout.strip() == "2", "two idle nodes"
            )
        except TimeoutError as error:
            raise RuntimeError(f"SLURM did not start:\n{slurm.logs()}") from error
        try:
            yield slurm
        finally:
            slurm.run("scancel", "--user=root")
            wait_until(lambda: not slurm.run("squeue", "-h").stdout.strip(), "the last job's end")


def wait_until(true: Callable[[], object], what: str, seconds: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {what} within {seconds:g} s")
        time.sleep(0.1)


@contextmanager
def _daemon(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    with open(folder / f"{command[0]}.{command[-1].strip('-')[-2:]}.err", "w") as err:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=err, stderr=err)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _names_resolve() -> Iterator[None]:
    """The nodes' names in /etc/hosts, as on any cluster, while the body runs."""
    before = HOSTS.read_text()
    HOSTS.write_text(f"{before.rstrip()}\n127.0.0.1 {' '.join(NODES)}\n")
    try:
        yield
    finally:
        HOSTS.write_text(before)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
