"""Who started this process, how often, and when that is refused."""

import os
import subprocess
import sys

import pytest

from cgloop.errors import ExitCode, UserError
from cgloop.executors import launch, world

PREFIXES = ("SLURM", "PMI", "OMPI", "CGLOOP", "CUDA_VISIBLE", "ROCR_VISIBLE")

# As SLURM 22.05 sets them: in a batch script of 2 nodes with 2 tasks each, and in its step's task 3.
BATCH = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_NUM_NODES": "2", "SLURM_NODEID": "0"}
STEP = {
    **BATCH,
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NODELIST": "n[07-08],m3",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
}


@pytest.fixture
def environment(monkeypatch):
    """Sets variables, in an environment in which nothing starts several processes."""
    for name in list(os.environ):
        if name.startswith(PREFIXES):
            monkeypatch.delenv(name)

    def set_all(values):
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_all


def test_alone_and_in_a_batch_script_there_is_one_process(environment):
    assert world.launched() == world.Launch()
    environment(BATCH)
    assert world.launched().size == 1
    world.refuse_copies()
    assert launch.tasks_of_job() == 4


def test_a_task_of_a_step_knows_its_place(environment):
    environment(STEP)
    found = world.launched()
    assert (found.rank, found.size, found.local_rank, found.local_size) == (3, 4, 1, 2)
    host, _, port = found.coordinator.partition(":")
    assert host == "n07"
    assert 61440 <= int(port) < 65536
    assert launch.tasks_of_job() == 1


def test_copies_are_refused_with_one_line_by_the_first_of_them(environment):
    environment({**STEP, "SLURM_PROCID": "0"})
    with pytest.raises(
        UserError, match="srun started 4 tasks of this command, each of which believes that it is alone"
    ):
        world.refuse_copies()
    environment({"SLURM_PROCID": "2"})
    with pytest.raises(SystemExit) as left:
        world.refuse_copies()
    assert left.value.code == ExitCode.BAD_INPUT


@pytest.mark.parametrize("prefix", ["PMI", "OMPI_COMM_WORLD"])
def test_copies_of_mpiexec_are_refused_unless_mpi_knows_them(environment, prefix):
    environment({f"{prefix}_SIZE": "3", f"{prefix}_RANK": "0"})
    with pytest.raises(UserError, match="mpiexec started 3 tasks"):
        world.refuse_copies()
    world.refuse_copies(world_size=3)


def test_one_task_of_a_step_is_fine(environment):
    environment({**STEP, "SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"})
    world.refuse_copies()
    assert launch.tasks_of_job() == 1


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("n1", "n1"),
        ("n1,m2", "n1"),
        ("n[1-2]", "n1"),
        ("n[003,007-015],m3", "n003"),
        ("a1,n[1-2]", "a1"),
        ("n[07-09]-ib,m[1-2]", "n07-ib"),
    ],
)
def test_first_host_of_the_short_form(nodes, first):
    assert world.first_host(nodes) == first


@pytest.mark.parametrize(
    ("local_rank", "local_size", "visible", "ids"),
    [
        (0, 1, "0,1,2,3", None),  # a process a node has them all
        (1, 4, "0,1,2,3", [1]),
        (1, 2, "0,1,2,3", [2, 3]),
        (3, 4, "0", [0]),  # SLURM shows each task its own
        (2, 4, "", [2]),
    ],
)
def test_share_of_the_gpus_of_a_node(environment, local_rank, local_size, visible, ids):
    environment({"CUDA_VISIBLE_DEVICES": visible})
    given = world.Launch("srun", rank=local_rank, size=8, local_rank=local_rank, local_size=local_size)
    assert world.local_device_ids(given) == ids


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("a:1", "2", None), "CGLOOP_COORDINATOR, CGLOOP_PROCESSES set, but not CGLOOP_PROCESS_ID"),
        (("a:1", "2", "2"), "not a process"),
        (("a:1", "two", "0"), "not a process"),
    ],
)
def test_explicit_world_must_be_whole(environment, values, message):
    environment({name: value for name, value in zip(world.EXPLICIT, values, strict=True) if value is not None})
    with pytest.raises(UserError, match=message):
        world.launched()


MEET = """
import sys
import numpy as np
from cgloop.executors.world import initialize_world
world = initialize_world(60)
import jax, jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
mesh = Mesh(np.array(jax.devices()), "all")
mine = np.full(len(world.local_devices), float(world.rank + 1), np.float32)
shared = jax.make_array_from_process_local_data(NamedSharding(mesh, PartitionSpec("all")), mine)
total = float(jax.jit(jnp.sum, out_shardings=NamedSharding(mesh, PartitionSpec()))(shared))
world.barrier("summed")
print(f"rank {world.rank} of {world.size}, primary {world.is_primary}, devices {len(world.local_devices)}"
      f" of {jax.device_count()}, sum {total}, any {world.any(world.rank == 1)} {world.any(False)}")
"""


def test_two_processes_meet_by_explicit_variables(environment, free_port):
    places = [dict(zip(world.EXPLICIT, (f"127.0.0.1:{free_port}", "2", rank), strict=True)) for rank in "01"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MEET],
            env={**os.environ, "JAX_PLATFORMS": "cpu", **place},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for place in places
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    # Gloo itself prints a line first.
    assert [(out.splitlines() or [""])[-1] for out, _ in outputs] == [
        "rank 0 of 2, primary True, devices 1 of 2, sum 3.0, any True False",
        "rank 1 of 2, primary False, devices 1 of 2, sum 3.0, any True False",
    ], outputs


@pytest.mark.parametrize(("verbosity", "said"), [(-1, False), (0, True)])
def test_tasks_say_as_much_as_the_process_that_leads(
    environment, repository, tmp_path, monkeypatch, capfd, verbosity, said
):
    """With a launcher in place of srun that starts one task."""
    launcher = tmp_path / "srun"
    launcher.write_text('#!/bin/sh\nwhile [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"\n')
    launcher.chmod(0o755)
    environment({"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(repository)})
    monkeypatch.setattr("cgloop.console._verbosity", verbosity)
    launch.run_on_tasks(1, "tests.executors.worker", [str(tmp_path), "meet"], tmp_path)
    assert (tmp_path / "0.txt").read_text().startswith("rank 0 of 1")
    assert ("met 1" in capfd.readouterr().err) == said
