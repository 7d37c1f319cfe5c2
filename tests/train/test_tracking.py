"""What those who watch are told: whole after every line, and nothing twice after an interruption."""

import json
import struct
import sys

import pytest
from test_train_stage import configure, inputs  # noqa: F401

from cgloop import interrupt
from cgloop.config.train import TrackingConfig
from cgloop.errors import Interrupted, UserError
from cgloop.train.stage import train_stage
from cgloop.train.tracking import BOARD, METRICS, Tracker

PLAIN = TrackingConfig()


def rows_in(folder):
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def scalars_in(folder):
    """Scalars of TensorBoard's files by (tag, step), read by the format of TFRecord: length, check, message, check."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for path in sorted((folder / BOARD).iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            if event.HasField("session_log") and event.session_log.status == 1:
                found = {key: value for key, value in found.items() if key[1] < event.step}
            for value in event.summary.value:
                found[value.tag, event.step] = value.simple_value
            at += length + 16
    return found


def test_every_epoch_is_a_line_and_a_point(tmp_path):
    with Tracker(tmp_path, PLAIN, "test", {}) as tracker:
        for epoch in (1, 2):
            tracker.write({"epoch": epoch, "train_loss": 0.5 / epoch, "learning_rate": 0.25})
            assert len(rows_in(tmp_path)) == epoch
    assert rows_in(tmp_path)[1] == {"epoch": 2, "train_loss": 0.25, "learning_rate": 0.25}
    assert scalars_in(tmp_path) == {
        ("loss/train", 1): 0.5, ("loss/train", 2): 0.25, ("learning_rate", 1): 0.25, ("learning_rate", 2): 0.25,
    }  # fmt: skip


def test_a_repeated_epoch_replaces_what_was_said(tmp_path):
    with Tracker(tmp_path, PLAIN, "test", {}) as tracker:
        for epoch in (1, 2, 3):
            tracker.write({"epoch": epoch, "train_loss": 1.0})
    with open(tmp_path / METRICS, "a") as file:
        file.write('{"epoch": 4, "train_l')  # a kill in the middle of a line
    with Tracker(tmp_path, PLAIN, "test", {}) as tracker:
        for epoch in (2, 3):
            tracker.write({"epoch": epoch, "train_loss": 2.0})
    assert [row["train_loss"] for row in rows_in(tmp_path)] == [1.0, 2.0, 2.0]
    assert scalars_in(tmp_path) == {("loss/train", 1): 1.0, ("loss/train", 2): 2.0, ("loss/train", 3): 2.0}


def test_a_training_that_was_interrupted_tells_the_same_story(inputs, tmp_path):  # noqa: F811
    config = configure(dict(energy="prior-only"), dict(train_priors=False))
    train_stage(config, *inputs, tmp_path)
    assert not (tmp_path / METRICS).exists()  # nothing was trained
    interrupt.request_stop("test")
    with pytest.raises(Interrupted):
        train_stage(configure(), *inputs, tmp_path)
    interrupt.clear_stop()
    train_stage(configure(), *inputs, tmp_path)
    columns = json.loads((tmp_path / "history.json").read_text())["columns"]
    rows = rows_in(tmp_path)
    assert {name: [row[name] for row in rows] for name in columns} == columns
    losses = [value for (tag, _), value in scalars_in(tmp_path).items() if tag == "loss/validation"]
    assert losses == pytest.approx(columns["validation_loss"], rel=1e-6)


@pytest.mark.parametrize("service", ["wandb", "mlflow"])
def test_a_service_whose_package_is_not_there_is_refused(tmp_path, monkeypatch, service):
    monkeypatch.setitem(sys.modules, service, None)  # as if it were not installed
    with pytest.raises(UserError, match=f"`train.tracking.service: {service}`.*pip install {service}"):
        Tracker(tmp_path, TrackingConfig(service=service), "test", {})
