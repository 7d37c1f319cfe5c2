"""Several devices do what one does: in a process of its own with four virtual devices, and in two processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from test_train_priors import configure

from cgloop.data.dataset import write_manifest, write_protein
from cgloop.errors import ExitCode
from cgloop.priors.stage import fit_stage
from cgloop.rundir import write_config
from cgloop.train.devices import Devices
from cgloop.train.stage import train_stage

HERE = Path(__file__).parent


def environment(repository, devices, **more):
    paths = os.pathsep.join([str(repository), str(HERE)])
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}".strip()
    return {**os.environ, "PYTHONPATH": paths, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", **more}


@pytest.fixture(scope="module")
def found(repository, tmp_path_factory):
    command = [sys.executable, str(HERE / "on_devices.py"), str(tmp_path_factory.mktemp("devices"))]
    done = subprocess.run(command, env=environment(repository, 4), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("batch", ["seven", "three"])
def test_gradients_are_those_of_the_same_batch_on_one_device(found, batch):
    """On 2 and 4 devices, and in parts one after the other on 2; in float64, weighted, with Huber's function.

    Parts differ in beads, and one may be empty.
    """
    assert max(found[batch]) < 1e-13


@pytest.mark.slow
def test_members_side_by_side_on_devices_are_those_of_one_device(found):
    """Three on two devices, one lane of which is empty."""
    one, two = found["members"]["1"], found["members"]["2"]
    assert len(two) == 3
    for a, b in zip(two, one, strict=True):
        for name, column in b.items():
            np.testing.assert_allclose(a[name], column, rtol=1e-4, err_msg=name)
    assert len({member["train_loss"][-1] for member in two}) == 3


@pytest.mark.slow
@pytest.mark.parametrize("devices", ["2", "4"])
def test_a_training_is_that_of_one_device(found, devices):
    one, several = found["training"]["1"], found["training"][devices]
    np.testing.assert_allclose(several["losses"], one["losses"], rtol=1e-4)
    np.testing.assert_allclose(several["train"], one["train"], rtol=1e-4)
    scale = np.abs(one["params"]).max()
    np.testing.assert_allclose(several["params"], one["params"], atol=1e-4 * scale)
    assert several["kept"] == one["kept"]


@pytest.mark.slow
def test_a_stop_on_several_devices_is_continued_to_the_bit(found):
    assert found["stopped"] == found["training"]["4"]


@pytest.mark.slow
def test_the_other_engine_refuses_several_and_is_not_loaded_unasked(found):
    said, *rest = found["chemtrain"].values()
    assert "`train.engine: chemtrain` on 4 devices" in said
    assert "`engine: cgloop`" in said
    assert rest == [[], False]


def test_one_device_is_as_if_there_were_none():
    devices = Devices(jax.devices()[:1])
    tree = {"a": np.arange(3)}
    assert (devices.n, devices.axis, devices.size, devices.is_primary) == (1, None, 1, True)
    assert devices.place(tree) is tree
    assert devices.fetch(tree) is tree
    assert devices.share(5).tolist() == [0, 1, 2, 3, 4]
    assert devices.add([0.1, 2.0]).tolist() == [0.1, 2.0]


@pytest.fixture(scope="module")
def world(make_protein, tmp_path_factory):
    """A data set of two proteins, priors, and a config that trains both network and prior in two phases."""
    folder = tmp_path_factory.mktemp("world")
    proteins = [make_protein("toy", "0 7 4 7 0 9", 40, 0.5), make_protein("tiny", "1 2 3 8", 24, 0.5, seed=5)]
    for protein in proteins:
        write_protein(folder / f"{protein.name}.h5", protein, {})
    write_manifest(folder, ["toy", "tiny"], temperature_K=300.0, mapping="ca", projection="basic")
    config = configure("hybrid", epochs=3, batch_size=7, keep_best=2, checkpoint_every_s=0,
                       fine_tuning={"epochs": 6, "learning_rate": 0.01})  # fmt: skip
    fit_stage(folder, config, folder)
    # The processes read frames from files, the one that they are compared with has them in memory.
    from_files = config.train.model_copy(update={"memory_MB": 0.0})
    write_config(config.model_copy(update={"train": from_files}), folder / "config.yaml")
    return folder, config


def start_worker(repository, world, out, rank, size, port, devices=2):
    where = {"--config": "config.yaml", "--dataset": ".", "--priors": "priors.yaml"}
    arguments = [text for name, path in where.items() for text in (name, str(world / path))]
    known = {
        "CGLOOP_COORDINATOR": f"localhost:{port}", "CGLOOP_PROCESSES": str(size), "CGLOOP_PROCESS_ID": str(rank),
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "cgloop.train.worker", *arguments, "--out", str(out)],
        env=environment(repository, devices, **known), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def run_two(repository, world, out, stop_at=None):
    """Exit codes of two processes; the second is told to stop once so many checkpoints were written."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    out.mkdir(exist_ok=True)
    both = [start_worker(repository, world, out, rank, 2, port) for rank in (0, 1)]
    if stop_at is not None:
        deadline = time.monotonic() + 240
        while newest(out) < stop_at:
            assert time.monotonic() < deadline
            assert both[0].poll() is None, both[0].communicate()[0][-3000:]
            time.sleep(0.01)
        both[1].send_signal(signal.SIGUSR1)
    said = [process.communicate(timeout=300)[0] for process in both]
    return [process.returncode for process in both], said


def newest(folder):
    files = (folder / "checkpoints").rglob("checkpoint_*.safetensors")
    return max((int(path.stem.split("_")[1]) for path in files), default=0)


def columns(folder):
    return json.loads((folder / "history.json").read_text())["columns"]


@pytest.mark.slow
def test_two_processes_train_as_one(repository, world, tmp_path):
    """Two processes of two devices each over gloo; one of them is told to stop, both do, and go on to the same end."""
    folder, config = world
    codes, said = run_two(repository, folder, tmp_path / "straight")
    assert codes == [0, 0], said
    codes, said = run_two(repository, folder, tmp_path / "stopped", stop_at=8)
    assert codes == [ExitCode.INTERRUPTED] * 2, said
    assert not (tmp_path / "stopped" / "params.safetensors").exists()
    codes, said = run_two(repository, folder, tmp_path / "stopped")
    assert codes == [0, 0], said
    # To the bit in most trials; one differed for a reason that was not found, so that only one process promises it.
    for name, column in columns(tmp_path / "straight").items():
        np.testing.assert_allclose(columns(tmp_path / "stopped")[name], column, rtol=1e-4, err_msg=name)
    (tmp_path / "one").mkdir()
    alone = train_stage(config, folder, folder / "priors.yaml", tmp_path / "one")
    together = json.loads((tmp_path / "straight" / "summary.json").read_text())
    assert together["rmse_full"] == pytest.approx(alone["rmse_full"], rel=1e-3)
    losses = [columns(tmp_path / name)["train_loss"][:3] for name in ("one", "straight")]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
