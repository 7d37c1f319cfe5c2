"""The gain of the network from deviations whose true mean and memory are known."""

import json

import numpy as np
import pytest

from cgloop.config import Config
from cgloop.config.validate import REQUIRED, required_by_default
from cgloop.errors import UserError
from cgloop.validate.gate import judge
from cgloop.validate.network import FrameGains, mean_gain, network_check, read_network
from cgloop.validate.run import validate_run
from tests.validate import builders

COMPONENTS = 30


def remembering(rng, count, memory):
    """A stationary AR(1) process of unit variance that forgets within `memory` frames."""
    keep = np.exp(-1.0 / memory)
    noise = rng.normal(size=count)
    out = np.empty(count)
    out[0] = noise[0]
    for k in range(1, count):
        out[k] = keep * out[k - 1] + np.sqrt(1 - keep**2) * noise[k]
    return out


def gains(full, prior, scatter, *, seed=0, frames=500, replicas=4, memory=3.0, apart=0.0):
    """Frames of one protein whose mean gain is that of two RMSE, and whose scatter is per component."""
    rng = np.random.default_rng(seed)
    series = [
        prior**2 - full**2 + scatter * remembering(rng, frames, memory) + apart * rng.normal() for _ in range(replicas)
    ]
    replica = np.repeat(np.arange(replicas), frames)
    count = np.full(frames * replicas, COMPONENTS)
    return FrameGains(np.zeros_like(replica), replica, count, COMPONENTS * np.concatenate(series))


def check(frames, full, prior, settings, history=None, **more):
    forces = {"rmse_full": full, "rmse_prior": prior, "split": "test", **more}
    return network_check(frames, forces, history or {}, 400, settings)


def history(last):
    """Of a training loss that falls from 100 to `last`, while the validation loss stays."""
    train = np.linspace(100.0, last, 40).tolist()
    return {"columns": {"epoch": list(range(1, 41)), "train_loss": train, "validation_loss": [90.0] * 40}}


@pytest.mark.parametrize(
    ("full", "prior", "scatter", "verdict"),
    [
        (8.694, 9.228, 20.0, "pass"),
        (15.65, 15.58, 10.0, "fail"),
        (15.65, 15.58, 100.0, "inconclusive"),
        (20.80, 20.83, 50.0, "inconclusive"),
        (20.80, 20.83, 1.0, "pass"),
    ],
)
def test_network_is_judged_by_its_gain_and_the_error_of_it(settings, full, prior, scatter, verdict):
    found = check(gains(full, prior, scatter), full, prior, settings)
    assert found.verdict == verdict
    assert found.value == pytest.approx(prior**2 - full**2, abs=3 * found.error)
    assert f"{full:.4g} kcal/mol/Å with the network and {prior:.4g} without" in found.reason


def test_error_covers_the_truth_as_often_as_it_says(settings):
    """Memory of 10 frames: with frames as blocks the error would be less than a third."""
    inside, errors = 0, []
    for seed in range(200):
        found = mean_gain(gains(0.0, 0.0, 1.0, seed=seed, frames=400, replicas=3, memory=10.0), False)
        inside += abs(found.value) <= found.error
        errors.append(found.error)
    assert 0.90 <= inside / 200 <= 0.99
    assert np.mean(errors) > 3 * 1.96 / np.sqrt(1200)


def test_trajectories_that_differ_count_one_by_one():
    found = mean_gain(gains(0.0, 0.0, 0.1, apart=5.0, replicas=6), False)
    assert found.blocks == 6
    assert found.verdict == "inconclusive"


def test_proteins_are_weighted_by_their_components_and_count_one_by_one_if_held_out():
    one, two, three = (gains(1.0, prior, 0.1, seed=seed) for seed, prior in enumerate((2.0, 3.0, 2.0)))
    small = np.full(len(two.gain), 6)
    protein = np.repeat([0, 1, 2], len(one.gain))
    frames = FrameGains(
        protein,
        np.concatenate([one.replica, two.replica, three.replica]),
        np.concatenate([one.components, small, three.components]),
        np.concatenate([one.gain, two.gain / COMPONENTS * 6, three.gain]),
    )
    together = mean_gain(frames, False)
    assert together.value == pytest.approx((30 * 3.0 + 6 * 8.0 + 30 * 3.0) / 66, abs=0.05)
    held_out = mean_gain(frames, True)
    assert (held_out.value, held_out.blocks) == (together.value, 3)
    assert held_out.error > 4 * together.error


def test_two_held_out_proteins_are_judged_by_blocks_of_frames(settings):
    """As one is: two proteins leave no error of a mean over proteins, and the check could never pass."""
    one, two = (gains(1.0, 2.0, 0.1, seed=seed) for seed in (0, 1))
    columns = (np.concatenate([getattr(x, name) for x in (one, two)]) for name in ("replica", "components", "gain"))
    frames = FrameGains(np.repeat([0, 1], len(one.gain)), *columns)
    found = check(frames, 1.0, 2.0, settings, whole_proteins=True)
    assert found.verdict == "pass", found.reason
    assert found.detail["blocks"] > 3


def test_few_blocks_ask_for_held_out_frames(settings):
    few = check(gains(1.0, 2.0, 0.01, frames=3, replicas=2), 1.0, 2.0, settings, history(85.0))
    assert few.detail["needs"] == {"data_factor": 1.5}
    assert "from 2 blocks, 3 are needed" in few.reason
    assert not few.detail["too_little_data"], "two blocks say nothing about the training data"


def test_equal_or_few_frames_do_not_decide(settings):
    equal = FrameGains(*(np.zeros(50, int) for _ in range(2)), np.full(50, 30), np.zeros(50))
    assert check(equal, 5.0, 5.0, settings).verdict == "inconclusive"
    few = gains(1.0, 2.0, 0.01, frames=3, replicas=2)
    assert check(few, 1.0, 2.0, settings).verdict == "inconclusive"
    broken = gains(1.0, 2.0, 0.1)
    broken.gain[5] = np.nan
    assert check(broken, 1.0, 2.0, settings).verdict == "fail"


@pytest.mark.parametrize(("scatter", "verdict"), [(10.0, "fail"), (100.0, "inconclusive")])
def test_too_little_data_is_said_with_its_evidence(settings, scatter, verdict):
    worse = gains(15.65, 15.58, scatter)
    found = check(worse, 15.65, 15.58, settings, history(85.0))
    assert (found.verdict, found.detail["too_little_data"]) == (verdict, True)
    assert "too little data for a network: its loss on 400 training frames fell by 1" in found.reason
    assert "2000 test frames" in found.reason
    stuck = check(worse, 15.65, 15.58, settings, history(99.9))
    assert not stuck.detail["too_little_data"], "a network that has learned nothing does not lack data"
    helps = check(gains(8.694, 9.228, 20.0), 8.694, 9.228, settings, history(85.0))
    assert not helps.detail["too_little_data"]


def test_gate_asks_for_data_and_not_for_a_longer_run(settings):
    undecided = check(gains(20.80, 20.83, 50.0), 20.80, 20.83, settings)
    metrics = {"proteins": {}, "checks": [undecided.to_json()]}
    summary = judge(metrics, ["training.network_helps"])["summary"]
    assert "held-out frames" in summary or "more training data" in summary
    assert "a run" not in summary.split("What would decide")[1]
    worse = check(gains(15.65, 15.58, 10.0), 15.65, 15.58, settings)
    assert judge({"proteins": {}, "checks": [worse.to_json()]}, ["training.network_helps"])["verdict"] == "fail"


def test_file_that_is_missing_or_damaged_is_a_mistake_of_the_user(settings, tmp_path):
    with pytest.raises(UserError, match=r"force_errors.npz: cannot be read.*run `cgloop train` again"):
        read_network(tmp_path, {}, settings)
    (tmp_path / "force_errors.npz").write_bytes(b"PK nothing")
    with pytest.raises(UserError, match="cannot be read"):
        read_network(tmp_path, {}, settings)
    np.savez(tmp_path / "force_errors.npz", **{name: np.zeros(0) for name in
             ("protein", "replica", "components", "model", "prior")})  # fmt: skip
    with pytest.raises(UserError, match="empty"):
        read_network(tmp_path, {}, settings)


@pytest.mark.parametrize(("energy", "measured"), [("hybrid", True), ("prior-only", False), ("ml-only", False)])
def test_it_decides_for_hybrid_models_only(chain, tmp_path, energy, measured):
    names, native, frames = chain
    run = builders.good_run(names, native, frames, frames)
    config = run.config().model_dump(mode="json", by_alias=True)
    config = Config.model_validate({**config, "model": {**config["model"], "energy": energy}})
    assert ("training.network_helps" in config.required_checks) == measured
    assert config.required_checks == required_by_default(energy)
    metrics = validate_run(config, out=tmp_path / "out", **builders.write_run(run, tmp_path / "run"))
    found = [one for one in metrics["checks"] if one["check"] == "training.network_helps"]
    assert len(found) == measured
    assert json.dumps(metrics)


def test_names_of_the_config_decide_instead_of_the_default():
    config = Config.model_validate(
        {
            "run": {"name": "r"},
            "data": {"sources": [{"path": "x.h5"}], "temperature_K": 320.0, "split": {"by": "time_block"}},
            "gate": {"required": ["nve.drift"]},
        }
    )
    assert config.required_checks == ["nve.drift"]
    assert config.model_copy(update={"gate": type(config.gate)()}).required_checks == [
        *REQUIRED, "training.network_helps",
    ]  # fmt: skip
