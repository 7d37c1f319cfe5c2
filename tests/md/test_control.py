"""The stage `control`: what becomes of it when it is stopped, or when the process of a job dies."""

import json
import signal

import pytest

from cgloop.errors import Interrupted
from cgloop.interrupt import clear_stop, request_stop
from cgloop.md.checkpoint import NAME
from cgloop.md.control import control_stage
from cgloop.md.control_job import STEP_FACTORS, order_folder
from cgloop.md.run import md_stage
from cgloop.stages import digest_files, result_digest
from tests.md.model_worlds import config
from tests.md.test_supervise import Meanwhile, workers


def control_config(prior_only_ps):
    """The bundle of the tests is of a prior, which compiles in a moment; asked for as of a hybrid, it has a control."""
    one = config(replicas=2, nvt={"length_ps": 400.0, "equilibration_ps": 0.1}, restart_every_ps=0.5)
    short = one.control.model_copy(update={"prior_only_ps": prior_only_ps, "order_ps": 0.1})
    return one.model_copy(update={"control": short})


@pytest.fixture(scope="module")
def dynamics(prior_world, tmp_path_factory):
    """Folder of finished dynamics, of 0.4 ps."""
    out = tmp_path_factory.mktemp("dynamics")
    md_stage(config(replicas=2), prior_world["export"], prior_world["prep"], out)
    return out


def outcomes(folder):
    return json.loads((folder / "outcome.json").read_text())


@pytest.mark.slow
def test_a_process_that_dies_is_an_outcome(prior_world, dynamics, tmp_path):
    """Of the run that it was in, and of those that it would have come to."""
    given = prior_world["export"], prior_world["prep"], dynamics, tmp_path
    with Meanwhile(tmp_path, lambda worker: worker.send_signal(signal.SIGKILL), f"prior_only/nvt/{NAME}"):
        result = control_stage(control_config(400.0), *given)
    found = result["proteins"]["helix"]
    assert all(one["converged"] for one in found["prior_only"]["minimize"].values())
    assert sorted(found["prior_only"]["nvt"]) == ["0", "1"]
    for one in found["prior_only"]["nvt"].values():
        assert (one["survived"], one["limit"]) == (False, "killed")
        assert "SIGKILL" in one["message"]
        assert 0 < one["steps_done"] < one["steps_asked"]
    for factor in STEP_FACTORS:
        ended = found["order"][order_folder(factor)]
        assert {(one["survived"], one["limit"], one["steps_done"]) for one in ended.values()} == {(False, "killed", 0)}
        assert outcomes(tmp_path / "helix" / "order" / order_folder(factor)).keys() == {"0", "1"}
    assert json.loads((tmp_path / "control.json").read_text()) == json.loads(json.dumps(result))
    assert not (tmp_path / ".jobs").exists()


@pytest.mark.slow
def test_a_stop_is_left_cleanly_and_the_end_is_the_same(prior_world, dynamics, tmp_path):
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    given = control_config(20.0), prior_world["export"], prior_world["prep"], dynamics
    control_stage(*given, tmp_path / "whole")
    parts = tmp_path / "parts"
    try:
        stop = Meanwhile(parts, lambda _worker: request_stop("test"), f"prior_only/nvt/{NAME}")
        with stop, pytest.raises(Interrupted):
            control_stage(*given, parts)
    finally:
        clear_stop()
    assert not workers()
    assert list(parts.glob(f".jobs/*/prior_only/nvt/{NAME}"))
    assert not (parts / "control.json").exists()
    control_stage(*given, parts)
    assert all(one["survived"] for one in outcomes(parts / "helix" / "order" / "dt_4").values())
    assert result_digest(digest_files(parts)) == result_digest(digest_files(tmp_path / "whole"))
