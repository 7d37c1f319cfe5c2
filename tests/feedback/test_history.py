"""Rows of `cycles.json` from the files of a cycle."""

import json
from dataclasses import fields

import numpy as np
import pytest

from cgloop.feedback.history import row_of
from cgloop.feedback.plan import Plan
from cgloop.stages import StageRecord, write_json
from tests.feedback.test_plan import config_of


def cycle_files(folder, squares, survived, parity="pass", failed=1):
    def check(name, subject, verdict, **more):
        return {
            "check": name,
            "subject": subject,
            "verdict": verdict,
            "required": True,
            "value": 1.0,
            "error": 0.1,
            **more,
        }

    checks = [
        check("stability.survival", name, "fail", detail={"survived_ns": part, "asked_ns": 0.5})
        for name, part in survived.items()
    ] + [check("nve.drift", "a", "inconclusive", unit="kcal/mol/ns")]
    for name, data in {
        "verdict.json": {"verdict": "fail", "summary": "s", "checks": checks, "missing": [{}] * failed},
        "parity/parity.json": {"verdict": parity},
        "train/forces.json": {"rmse_full": 2.0, "blocks": {"squares": squares, "components": [30.0] * len(squares)}},
        "train/summary.json": {"frames": {"train": 9, "decoys": 7}},
        "feedback/feedback.json": {
            "decoys": 3, "crashes": [{"class": "clash"}, {"class": "timeout", "replicas": [1, 2]}],
        },
    }.items():  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_json(folder / name, data)
    return folder


@pytest.fixture
def plans():
    return [Plan(0), Plan(1, base=0, start=0, decoys=[0])]


def test_a_row_adds_up_proteins_and_replicas(tmp_path, plans):
    folder = cycle_files(tmp_path / "cycle_000", [1.0, 2.0], {"a": 0.5, "b": 0.25})
    row = row_of(folder, plans[:1], [], config_of())
    assert row["survival"] == pytest.approx(0.75)
    assert (row["failed"], row["undecided"]) == (3, 1)
    assert row["crashes"] == {"clash": 1, "timeout": 2}
    assert row["decoys"] == {"used": 7, "found": 3}
    assert row["drift"] == {
        "nve.drift": {"a": {"value": 1.0, "error": 0.1, "unit": "kcal/mol/ns", "verdict": "inconclusive"}}
    }
    assert row["compared"] is row["force_rise"] is None


@pytest.mark.parametrize(
    ("verdict", "detail", "wrong"),
    [("fail", {}, True), ("inconclusive", {}, False), ("pass", {}, False), ("fail", {"incomplete": True}, False)],
)
def test_only_a_required_structural_check_that_fails_on_all_frames_is_a_wrong_structure(
    tmp_path, plans, verdict, detail, wrong
):
    folder = cycle_files(tmp_path / "cycle_000", [1.0], {"a": 1.0})
    found = json.loads((folder / "verdict.json").read_text())
    row = row_of(folder, plans[:1], [], config_of())
    assert row["wrong_structure"] is False
    check = {**found["checks"][0], "check": "structure.q", "verdict": verdict, "detail": detail}
    write_json(folder / "verdict.json", {**found, "checks": [*found["checks"], check]})
    assert row_of(folder, plans[:1], [], config_of())["wrong_structure"] is wrong
    write_json(folder / "verdict.json", {**found, "checks": [*found["checks"], {**check, "required": False}]})
    assert row_of(folder, plans[:1], [], config_of())["wrong_structure"] is False


def test_force_errors_of_a_refined_cycle_are_those_of_the_refined_parameters(tmp_path, plans):
    folder = cycle_files(tmp_path / "cycle_000", [1.0], {"a": 1.0})
    (folder / "refine").mkdir()
    write_json(folder / "refine" / "forces.json", {"rmse_full": 1.5})
    assert row_of(folder, plans[:1], [], config_of())["force"]["rmse"] == 2.0, "not finished"
    record = dict.fromkeys((one.name for one in fields(StageRecord)), "")
    write_json(folder / "refine" / "stage.json", record)
    assert row_of(folder, plans[:1], [], config_of())["force"]["rmse"] == 1.5


def test_force_errors_are_compared_block_by_block(tmp_path, plans):
    """Blocks differ a lot, but the new model is worse by the same factor in each: a rise far beyond its error."""
    squares = np.random.default_rng(0).uniform(20, 60, size=20)
    cycle_files(tmp_path / "cycle_000", squares.tolist(), {"a": 0.5})
    cycle_files(tmp_path / "cycle_001", (1.1 * squares).tolist(), {"a": 0.5})
    first = row_of(tmp_path / "cycle_000", plans[:1], [], config_of())
    rise = row_of(tmp_path / "cycle_001", plans, [first], config_of())["force_rise"]
    assert rise["value"] == pytest.approx((np.sqrt(1.1) - 1) * np.sqrt(squares.mean() / 30), rel=1e-6)
    assert 0 < rise["error"] < 0.3 * rise["value"]
    assert (rise["against"], rise["comparable"]) == (0, True)
    row = row_of(tmp_path / "cycle_001", plans, [first], config_of())
    assert row["compared"]["result"] == "same"


def test_nothing_of_an_earlier_model_counts_after_a_failed_parity(tmp_path, plans):
    folder = cycle_files(tmp_path / "cycle_000", [1.0], {}, parity="fail")
    row = row_of(folder, plans[:1], [], config_of())
    assert row["crashes"] == {}
    assert row["decoys"]["found"] == 0
    assert row["survival"] == 0.0
