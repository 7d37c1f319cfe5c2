"""What is measured of a scaling, what a file may go on with, where the time of a cycle went; and all of it for real."""

import json
import time

import pytest

from cgloop import stages
from cgloop.bench.cycle_shares import read_shares, shares_text
from cgloop.bench.record import Measurement, read_record, start_record, this_machine, write_record
from cgloop.bench.scaling import Asked, Point, opened_record, points_of
from cgloop.bench.series import series_of
from cgloop.config import load_config
from cgloop.errors import UserError
from cgloop.rundir import RunDirectory
from tests.integration.conftest import cgloop, short_config


def test_strong_scaling_shares_the_work_and_weak_scaling_adds_to_it(tmp_path, example_h5):
    config = load_config(short_config(tmp_path, example_h5))
    points = points_of(Asked(devices=(1, 2, 3)), config)
    assert Point("train", "strong", 3, 16) in points
    assert Point("train", "weak", 3, 48) in points
    assert Point("md", "strong", 3, 3) in points
    assert Point("md", "weak", 2, 6) in points
    with pytest.raises(UserError, match="3 cannot be shared by 4 devices"):
        points_of(Asked(devices=(1, 4), what=("md",)), config)


def test_a_file_of_other_circumstances_is_not_gone_on_with(tmp_path):
    record = start_record("scaling", "test", {"model": 1}, this_machine())
    one = Measurement(name="a", unit="ms", values=(1.0,))
    write_record(tmp_path / "s.json", record.with_measurement(one))
    assert opened_record(tmp_path / "s.json", record).measurements == (one,)
    other = start_record("scaling", "test", {"model": 2}, this_machine())
    with pytest.raises(UserError, match="another machine, config"):
        opened_record(tmp_path / "s.json", other)


def test_shares_of_a_cycle(tmp_path):
    run = RunDirectory(tmp_path)
    run.event("cycle-command")
    with pytest.raises(UserError, match="no finished stage train and md"):
        read_shares(tmp_path)
    run.cycle(0).mkdir()
    for name, seconds in (("prep", 0.0), ("train", 0.3), ("md", 0.1)):
        stages.run_stage(run.stage(0, name), {}, lambda out, seconds=seconds: time.sleep(seconds), seed=1)
    run.event("verdict", verdict="pass")
    shares = read_shares(tmp_path)
    assert shares.seconds["train"] == stages.read_record(run.stage(0, "train")).seconds >= 0.3
    # Starts are kept to the second, so that what lies between is, too.
    assert shares.total_s >= 0.4
    worked = shares.seconds["train"] + shares.seconds["md"]
    assert shares.idle_share == pytest.approx(1 - worked / shares.total_s)
    assert "neither training nor MD" in shares_text(shares)
    assert sum(one.median for one in shares.measurements() if one.unit == "s") == pytest.approx(shares.total_s)
    run.event("cycle-command")
    with pytest.raises(UserError, match="several goes"):
        read_shares(tmp_path)


@pytest.mark.slow
@pytest.mark.machine
def test_scaling_and_profile_of_a_run(tmp_path, example_h5):
    config = short_config(tmp_path, example_h5, md={"replicas": 2})
    out = tmp_path / "scaling.json"
    call = ["bench", "scaling", config, "--devices", "1,2", "--epochs", 2, "--seconds", 0.3, "--out", out]
    first = cgloop(*call, "--repeats", 1)
    assert first.returncode == 0, first.stderr
    record = read_record(out)
    assert {(one.what, one.mode, len(one.points)) for one in series_of([record])} == {
        (what, mode, 2) for what in ("train", "md") for mode in ("strong", "weak")
    }
    assert all(one.independent and one.load[0].seconds > 0 for one in record.measurements)
    assert "share the same" in record.note
    assert "virtual and share the same cores" in first.stdout
    # What is there is not measured again, and what is asked for beside it is.
    again = cgloop(*call, "--repeats", 2, "--what", "md", "--mode", "strong")
    assert again.returncode == 0, again.stderr
    counts = {(one.name, one.settings["mode"], len(one.values)) for one in read_record(out).measurements}
    assert ("scaling/md", "strong", 2) in counts
    assert ("scaling/train", "strong", 1) in counts
    refused = cgloop(*call, "--set", "model.mlp=[8]")
    assert refused.returncode == 2
    assert "another machine, config" in refused.stderr

    profile = cgloop("bench", "profile", config, "--steps", 5, "--out", tmp_path / "profile")
    assert profile.returncode == 0, profile.stderr
    found = json.loads((tmp_path / "profile" / "profile.json").read_text())["measurements"]
    shares = {name: sum(one["facts"]["share"] for one in found if one["name"].startswith(f"profile/{name}/"))
              for name in ("train", "md")}  # fmt: skip
    assert all(0.1 < share <= 1.0 + 1e-9 for share in shares.values())
    for name in ("train", "md"):
        parts = [one["facts"]["what"] for one in found if one["name"].startswith(f"profile/{name}/")]
        assert any("layer_0." in part or "tensors" in part for part in parts), parts
    roofs = [one["facts"] for one in found if one["name"].startswith("roofline/")]
    assert len(roofs) == 2
    assert all(0 < one["fraction of matmul rate"] < 1 for one in roofs)
