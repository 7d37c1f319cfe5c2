"""Runs under a real SLURM of two nodes on this machine."""

import json
import os
import sys

import pytest

from cgloop.bench.record import read_record
from cgloop.config import load_config
from cgloop.errors import ExitCode
from cgloop.submit import jobs_of
from tests.executors.real_slurm import missing_programs, running_slurm, wait_until
from tests.integration.conftest import digests, events, short_config

pytestmark = [pytest.mark.slow, pytest.mark.machine]
VERDICTS = (ExitCode.PASS, ExitCode.FAIL, ExitCode.INCONCLUSIVE)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A running SLURM of two nodes, n1 and n2."""
    missing = missing_programs()
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (packages slurm-wlm and munge)")
    if os.geteuid() != 0:
        pytest.skip("needs root, to run jobs and to name the nodes in /etc/hosts")
    with running_slurm(tmp_path_factory.mktemp("slurm")) as running:
        yield running


def command(slurm, *arguments):
    return slurm.run(sys.executable, "-m", "cgloop.cli", *arguments)


def submit(slurm, config, run):
    """Submit; the ids of the jobs by name."""
    done = command(slurm, "submit", config)
    assert done.returncode == 0, done.stderr
    jobs = json.loads((run / "slurm" / "submission.json").read_text())["jobs"]
    ids = {job["name"]: job["id"] for job in jobs}
    assert [e["jobs"] for e in events(run) if e["event"] == "submitted"] == [ids]
    return ids


def output(run):
    return "\n".join(path.read_text() for path in sorted((run / "slurm").glob("*.log")))


def exit_code(job):
    return int(job["ExitCode"].partition(":")[0])


def in_queue(slurm):
    return slurm.run("squeue", "--noheader").stdout.strip()


def test_a_cycle_goes_on_after_its_time_limit(slurm, tmp_path, example_h5, finished_run):
    """The first start has two minutes for a training without end.

    SLURM sends its signal up to half a minute earlier than asked for, so between 30 and 60 s after the start: at least
    a minute is left to stop in, even if the signal comes while a program is compiled on a busy machine. In the next
    start there is time enough, and the config is that of a run that was never interrupted.
    """
    (tmp_path / "a b").mkdir()
    run = tmp_path / "a b" / "runs" / "short"
    again = f"cp '{finished_run}/config.yaml' '{run}/' && scontrol update JobId=$SLURM_JOB_ID TimeLimit=20"
    setup = [f'if [ -n "$SLURM_RESTART_COUNT" ]; then {again}; fi']
    limits = {"time_limit_hours": 2 / 60, "grace_s": 60, "max_requeues": 3, "setup": setup}
    endless = {"epochs": 1_000_000, "patience_epochs": 1_000_000}
    config = short_config(tmp_path / "a b", example_h5, train=endless, slurm=limits)
    ended = slurm.wait(submit(slurm, config, run)["cycle"])
    assert ended["Restarts"] == "1", output(run)
    assert exit_code(ended) in VERDICTS, output(run)
    assert "goes on in a new start of job" in output(run)
    assert "not queued again" not in output(run)
    assert [e["reason"] for e in events(run) if e["event"] == "interrupted"] == ["SIGUSR1 received"]
    assert [e.get("stage") for e in events(run) if e["event"] == "stage-start"].count("prep") == 1
    assert digests(run) == digests(finished_run)


def test_a_cancelled_job_stops_cleanly_and_stays_away(slurm, tmp_path, example_h5):
    config = short_config(tmp_path, example_h5, train={"epochs": 100_000, "patience_epochs": 100_000})
    run = tmp_path / "runs" / "short"
    job = submit(slurm, config, run)["cycle"]
    wait_until(lambda: any(e.get("stage") == "train" for e in events(run)), "training", 120)
    assert f"job      {job} cycle: RUNNING" in command(slurm, "status", run).stdout
    again = command(slurm, "submit", config)
    assert again.returncode == ExitCode.BAD_INPUT
    assert f"submitted already: job {job} is RUNNING" in again.stderr
    # As a scheduler does that wants the node for somebody else, and as `scancel` does.
    slurm.run("scancel", "--signal=TERM", "--batch", job)
    ended = slurm.wait(job)
    assert (exit_code(ended), ended["Restarts"]) == (ExitCode.INTERRUPTED, "0"), output(run)
    assert events(run)[-1]["reason"] == "SIGUSR1 received"
    assert not (run / "lock.json").exists()
    assert "RUNNING" not in command(slurm, "status", run).stdout


def test_each_stage_as_a_job(slurm, tmp_path, example_h5, finished_run):
    config = short_config(tmp_path, example_h5, slurm={"jobs": "stages", "stages": {"md": {"constraint": "big"}}})
    run = tmp_path / "runs" / "short"
    jobs = submit(slurm, config, run)
    assert tuple(jobs) == jobs_of(load_config(config))
    assert f"job      {jobs['gate']} gate: PENDING (Dependency)" in command(slurm, "status", run).stdout
    ended = {name: slurm.wait(job) for name, job in jobs.items()}
    codes = {name: exit_code(job) for name, job in ended.items()}
    assert codes.pop("gate") in VERDICTS, output(run)
    assert set(codes.values()) == {0}, output(run)
    assert ended["md"]["NodeList"] == "n2"
    assert digests(run) == digests(finished_run)


def test_what_follows_a_broken_stage_is_cancelled(slurm, tmp_path, example_h5):
    config = short_config(tmp_path, example_h5, slurm={"jobs": "stages"}, md={"proteins": ["none"]})
    data = config.read_text().replace(str(example_h5), str(tmp_path / "gone.h5"))
    config.write_text(data)
    (tmp_path / "gone.h5").write_bytes(b"not HDF5")
    run = tmp_path / "runs" / "short"
    jobs = submit(slurm, config, run)
    ended = {name: slurm.wait(job, 120) for name, job in jobs.items()}
    assert exit_code(ended["prep"]) == ExitCode.BAD_INPUT, output(run)
    assert {job["JobState"] for name, job in ended.items() if name != "prep"} == {"CANCELLED"}
    assert "Traceback" not in output(run)


@pytest.mark.parametrize(
    "slurm_section", [{"partition": "none"}, {"jobs": "stages", "stages": {"md": {"partition": "none"}}}]
)
def test_refused_by_sbatch_is_one_line_and_leaves_no_job(slurm, tmp_path, example_h5, slurm_section):
    config = short_config(tmp_path, example_h5, slurm={"extra": ["--begin=now+1hour"], **slurm_section})
    done = command(slurm, "submit", config)
    assert done.returncode == ExitCode.BAD_INPUT
    assert "sbatch refuses it" in done.stderr
    assert "invalid partition specified: none" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert in_queue(slurm) == ""
    assert not (tmp_path / "runs" / "short" / "slurm" / "submission.json").exists()


def test_copies_refuse_to_run(slurm, tmp_path, example_h5):
    config = short_config(tmp_path, example_h5)
    arguments = ["--nodes=2", "--ntasks=2", "--mpi=none", sys.executable, "-m", "cgloop.cli", "cycle", config]
    done = slurm.run("srun", *arguments)
    assert done.returncode == ExitCode.BAD_INPUT
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, done.stderr
    assert "srun started 2 tasks of this command, each of which believes that it is alone" in errors[0]
    assert not (tmp_path / "runs").exists()


def test_one_task_may_run(slurm, tmp_path, example_h5):
    config = short_config(tmp_path, example_h5)
    arguments = ["--nodes=1", "--ntasks=1", "--mpi=none", sys.executable, "-m", "cgloop.cli", "prep", config]
    done = slurm.run("srun", *arguments)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("nodes", "tasks"), [(2, 2), (2, 4)])
def test_tasks_of_srun_meet(slurm, tmp_path, nodes, tasks):
    module = [sys.executable, "-m", "tests.executors.worker", tmp_path, "meet"]
    done = slurm.run("srun", f"--nodes={nodes}", f"--ntasks={tasks}", "--mpi=none", *module)
    assert done.returncode == 0, done.stderr
    total = tasks * (tasks + 1) // 2
    said = sorted(path.read_text() for path in tmp_path.glob("*.txt"))
    assert said == [f"rank {rank} of {tasks}, {tasks} devices, sum {total}" for rank in range(tasks)]


LEAD = """
import sys
from pathlib import Path
from cgloop.errors import Interrupted, UserError
from cgloop.executors.launch import run_on_tasks, tasks_of_job
from cgloop.interrupt import stop_on_signals
folder = Path(sys.argv[1])
try:
    with stop_on_signals():
        run_on_tasks(tasks_of_job(), "tests.executors.worker", sys.argv[1:], folder, folder / "run.log")
except (Interrupted, UserError, RuntimeError) as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("meet", []),
        ("wait", ["Interrupted agreed"]),
        ("refuse", ["UserError a.h5: no such shard (make it)"]),
        ("break", ["RuntimeError tests.executors.worker on 2 tasks ended with exit code"]),
    ],
)
def test_one_process_leads_the_tasks_of_its_job(slurm, tmp_path, what, says):
    """As a cycle does for training: the batch script runs one process, and that starts the tasks."""
    script = tmp_path / "job.sbatch"
    (tmp_path / "lead.py").write_text(LEAD)
    script.write_text(
        f"#!/bin/bash\n#SBATCH --nodes=2 --ntasks-per-node=1 --cpus-per-task=2 --output={tmp_path}/log\n"
        f"exec {sys.executable} {tmp_path}/lead.py {tmp_path} {what}\n"
    )
    job = slurm.run("sbatch", "--parsable", script).stdout.strip()
    if what == "wait":
        wait_until(lambda: (tmp_path / "1.txt").exists(), "both tasks")
        slurm.run("scancel", "--signal=USR1", "--batch", job)
    ended = slurm.wait(job, 60)
    log = (tmp_path / "log").read_text()
    assert exit_code(ended) == 0, log
    assert (tmp_path / "0.txt").read_text() == "rank 0 of 2, 2 devices, sum 3"
    assert (tmp_path / "run.log").read_text().count("met 2") == 1
    said = [line for line in log.splitlines() if line.startswith(("Interrupted", "UserError", "RuntimeError"))]
    assert [line[: len(start)] for line, start in zip(said, says, strict=True)] == says, log
    assert ("ValueError: broken on purpose" in log) == (what == "break")
    assert not list(tmp_path.glob(".outcome*"))
    if what == "wait":
        assert (tmp_path / "0.stopped").exists()
        assert (tmp_path / "1.stopped").exists()


def test_scaling_over_nodes(slurm, tmp_path, example_h5):
    """A batch script on two nodes measures one and two of them, and refuses three."""
    config = short_config(tmp_path, example_h5, md={"replicas": 3})
    out = tmp_path / "scaling.json"
    call = f"{sys.executable} -m cgloop.cli bench scaling {config} --mode strong --repeats 1 --epochs 2 --seconds 0.3"
    script = tmp_path / "job.sbatch"
    script.write_text(
        f"#!/bin/bash\n#SBATCH --nodes=2 --ntasks-per-node=1 --cpus-per-task=2 --output={tmp_path}/log\n"
        f"{call} --nodes 1,2,3 --out {tmp_path}/none.json\n{call} --nodes 1,2 --out {out}\n"
    )
    ended = slurm.wait(slurm.run("sbatch", "--parsable", script).stdout.strip())
    said = (tmp_path / "log").read_text()
    assert exit_code(ended) == 0, said
    assert "3 nodes asked for, and this SLURM job has 2 tasks" in said
    assert not (tmp_path / "none.json").exists()
    record = read_record(out)
    found = {(one.name, one.settings["nodes"], one.settings["devices"]) for one in record.measurements}
    assert found == {(f"scaling/{what}", nodes, nodes) for what in ("train", "md") for nodes in (1, 2)}, said
    assert all(one.median > 0 for one in record.measurements)
