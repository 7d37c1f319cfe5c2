"""What happens to the process of a job is recorded, and the stage goes on: kills, aborts, memory, time limits."""

import json
import signal
import threading
import time

import h5py
import psutil
import pytest

from cgloop.errors import Interrupted
from cgloop.interrupt import clear_stop, request_stop
from cgloop.md.checkpoint import NAME
from cgloop.md.job import STAGES
from cgloop.md.run import md_stage
from cgloop.stages import digest_files, result_digest
from tests.integration.test_ranks import same_trajectories
from tests.md.model_worlds import config, protein, write_world

# Long enough that it is still running when something happens to it.
LONG = {
    "nvt": {"length_ps": 400.0, "equilibration_ps": 0.1}, "restart_every_ps": 0.5, "replicas": 2,
    "dump_every_ps": 1.0, "observe_every_ps": 0.1,
}  # fmt: skip


def workers():
    """Processes of jobs that this process has started."""
    return [child for child in psutil.Process().children() if "cgloop.md.worker" in child.cmdline()]


class Meanwhile(threading.Thread):
    """Does something to the worker as soon as its first checkpoint is there; use as a context manager."""

    def __init__(self, out, action, checkpoint=f"nvt/{NAME}"):
        super().__init__(daemon=True)
        self._out, self._action, self._checkpoint = out, action, checkpoint

    def run(self):
        deadline = time.monotonic() + 120.0
        while time.monotonic() < deadline:
            if list(self._out.glob(f".jobs/*/{self._checkpoint}")):
                for worker in workers():
                    self._action(worker)
                return
            time.sleep(0.02)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_exception):
        self.join()


@pytest.mark.parametrize(
    ("action", "limit", "said"),
    [
        (lambda worker: worker.send_signal(signal.SIGKILL), "killed", "SIGKILL"),
        (lambda worker: worker.send_signal(signal.SIGABRT), "engine_error", "SIGABRT"),
    ],
    ids=["killed", "aborted"],
)
def test_a_process_that_dies_is_an_outcome(prior_world, tmp_path, action, limit, said):
    out = tmp_path / "out"
    out.mkdir()
    with Meanwhile(out, action):
        result = md_stage(config(**LONG), prior_world["export"], prior_world["prep"], out)
    stages = result["proteins"]["helix"]["stages"]
    for replica in stages["nvt"]["replicas"]:
        assert (replica["survived"], replica["limit"]) == (False, limit)
        assert said in replica["message"]
        assert 0 < replica["steps_done"] < replica["steps_asked"]
    assert {replica["limit"] for replica in stages["nve"]["replicas"]} == {"not-started"}
    with h5py.File(out / "helix" / "nvt" / "observables.h5") as file:
        assert file["replica_001"].attrs["limit"] == limit
        assert len(file["replica_001/time_ps"]) > 0
    assert json.loads((out / "md.json").read_text())["proteins"]["helix"]["stages"]["nvt"] == stages["nvt"]
    assert not (out / ".jobs").exists()


@pytest.mark.slow
def test_a_time_limit_is_an_outcome(prior_world, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    result = md_stage(config(**LONG, time_limit_minutes=0.25), prior_world["export"], prior_world["prep"], out)
    for replica in result["proteins"]["helix"]["stages"]["nvt"]["replicas"]:
        assert (replica["survived"], replica["limit"]) == (False, "timeout")
        assert replica["steps_done"] > 0


@pytest.mark.slow
def test_a_stop_reaches_the_process_and_the_stage_goes_on_later(prior_world, tmp_path):
    short = {"nvt": {"length_ps": 20.0, "equilibration_ps": 0.1}, "restart_every_ps": 0.5, "replicas": 2}
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    given = config(**short), prior_world["export"], prior_world["prep"]
    md_stage(*given, tmp_path / "whole")
    try:
        with Meanwhile(tmp_path / "parts", lambda _worker: request_stop("test")), pytest.raises(Interrupted):
            md_stage(*given, tmp_path / "parts")
    finally:
        clear_stop()
    assert not workers()
    assert list(tmp_path.glob(f"parts/.jobs/*/nvt/{NAME}"))
    md_stage(*given, tmp_path / "parts")
    assert result_digest(digest_files(tmp_path / "parts")) == result_digest(digest_files(tmp_path / "whole"))


@pytest.mark.slow
def test_replicas_side_by_side_are_the_same_as_in_one_process(prior_world, tmp_path, monkeypatch):
    monkeypatch.setattr("cgloop.md.spread.WORTH_A_PROCESS_STEPS", 1)
    for processes in (1, 2):
        (tmp_path / str(processes)).mkdir()
        md_stage(config(processes=processes), prior_world["export"], prior_world["prep"], tmp_path / str(processes))
    one, two = tmp_path / "1", tmp_path / "2"
    assert (two / "md.json").read_bytes() == (one / "md.json").read_bytes()
    (protein,) = (path.name for path in one.iterdir() if path.is_dir())
    for stage in STAGES:
        assert list((two / protein / stage).glob("part_1/*"))
        same_trajectories(one / protein / stage, two / protein / stage)


@pytest.mark.slow
def test_proteins_side_by_side_are_the_same_as_one_after_the_other(tmp_path):
    """And the largest begins: `two` has ended before `one` starts, where there is one process."""
    world = write_world(tmp_path / "world", "prior-only", [protein(6, name="one"), protein(8, name="two")])
    for processes in (1, 2):
        (tmp_path / str(processes)).mkdir()
        md_stage(config(processes=processes), world["export"], world["prep"], tmp_path / str(processes))
    assert result_digest(digest_files(tmp_path / "1")) == result_digest(digest_files(tmp_path / "2"))
    ended, begun = (tmp_path / "1" / place for place in ("two/nve/log.lammps", "one/minimize/log.000.lammps"))
    assert ended.stat().st_mtime < begun.stat().st_mtime
