"""A gate that cannot fail is no gate: runs that are known to be bad, each failed by the check meant for it.

Every case goes through files, `validate_run` and the gate. The sound runs that the cases are made from do not fail:
one of analytic series, which passes, and one whose frames are real all-atom dynamics, for which three of four
replicas move half-way, so that RMSD and Q cannot be decided.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cgloop.config.validate import REQUIRED
from cgloop.validate.gate import judge
from cgloop.validate.run import validate_run
from tests.validate import builders
from tests.validate.builders import FakeRun

MIRROR = "structure.mirror"


def run_and_judge(run: FakeRun, folder):
    paths = builders.write_run(run, folder)
    metrics = validate_run(run.config(), out=folder / "out", **paths)
    return metrics, judge(metrics, [*REQUIRED, MIRROR])


def verdict_of(judged, check):
    return next(entry["verdict"] for entry in judged["checks"] if entry["check"] == check)


def sound_run(kind, chain) -> FakeRun:
    names, native, trajectories = chain
    if kind == "analytic":
        return builders.analytic_run(names, native)
    return builders.good_run(names, native, trajectories, [*trajectories, *trajectories[::-1]])


def nan_frame(run: FakeRun) -> None:
    run.nvt[1].positions[7, 3, 2] = np.nan


def nan_energy(run: FakeRun) -> None:
    run.nve[2].total[-1] = np.nan


def slow_heating_nve(run: FakeRun) -> None:
    """2 kcal/mol in 60 ps, 33 per ns."""
    for replica in run.nve:
        replica.total += np.linspace(0, 2.0, len(replica.total))


def slow_heating_nvt(run: FakeRun) -> None:
    """From 8 % too cold to 8 % too hot: the mean is right."""
    for replica in run.nvt:
        replica.kinetic *= np.linspace(0.92, 1.08, len(replica.kinetic))


def wrong_temperature(run: FakeRun) -> None:
    for replica in run.nvt:
        replica.kinetic *= 350.0 / 320.0


def mirror_image(run: FakeRun) -> None:
    for replica in run.nvt:
        replica.positions = replica.positions * np.float32([1, 1, -1])


def broken_bond(run: FakeRun) -> None:
    """From the middle on the two halves of the chain are 3 Å farther apart than they should be."""
    x = run.nvt[0].positions
    half = len(x) // 2
    bond = x[half:, 5] - x[half:, 4]
    x[half:, 5:] += (3.0 * bond / np.linalg.norm(bond, axis=1, keepdims=True))[:, None]


def overlapping_beads(run: FakeRun) -> None:
    """The ends of the chain come 0.5 Å close, with every bond intact: the record alone shows it."""
    run.nvt[2].min_distance_A[300:] = 0.5


def overlapping_frames(run: FakeRun) -> None:
    """A bead sits on its second neighbour, in frames only."""
    run.nvt[2].positions[50:, 6] = run.nvt[2].positions[50:, 4] + 0.3


def frozen_trajectory(run: FakeRun) -> None:
    for replica in run.nvt:
        replica.positions[:] = replica.positions[0]


def truncated(run: FakeRun) -> None:
    """The frames end early, and every average of the rest would look healthy."""
    run.nvt[3].positions = run.nvt[3].positions[:150]


def stopped_in_nve(run: FakeRun) -> None:
    run.nve[1] = builders.shortened(run.nve[1], 0.5, "max_force")


def missing_replica(run: FakeRun) -> None:
    run.nvt.pop()


def wrong_type_order(run: FakeRun) -> None:
    run.topology_names = run.topology_names[1:] + run.topology_names[:1]


def unfolded(run: FakeRun) -> None:
    """Every frame stretched to twice its size, with bonds that would be noticed elsewhere."""
    for replica in run.nvt:
        replica.positions = replica.positions * np.float32(2.0)


def wrong_force_in_lammps(run: FakeRun) -> None:
    run.parity["force"]["value"] = 1e-2
    run.parity["verdict"] = "fail"


def wrong_energy_in_lammps(run: FakeRun) -> None:
    run.parity["energy"]["value"] = 1e-2
    run.parity["verdict"] = "fail"


def minimiser_stuck(run: FakeRun) -> None:
    run.minimized[0]["max_force_final"] = 3.0


BAD: list[tuple[Callable[[FakeRun], None], str]] = [
    (nan_frame, "stability.survival"),
    (nan_frame, "structure.rmsd"),
    (nan_energy, "nve.drift"),
    (slow_heating_nve, "nve.drift"),
    (slow_heating_nvt, "nvt.temperature"),
    (wrong_temperature, "nvt.temperature"),
    (mirror_image, MIRROR),
    (broken_bond, "stability.survival"),
    (overlapping_beads, "stability.survival"),
    (overlapping_frames, "stability.survival"),
    (frozen_trajectory, "stability.survival"),
    (truncated, "stability.survival"),
    (truncated, "nvt.temperature"),
    (truncated, "structure.contacts"),
    (truncated, "structure.q"),
    (stopped_in_nve, "stability.survival"),
    (stopped_in_nve, "nve.drift"),
    (missing_replica, "stability.survival"),
    (missing_replica, "nvt.temperature"),
    (wrong_type_order, "structure.rmsd"),
    (wrong_force_in_lammps, "parity.forces"),
    (wrong_energy_in_lammps, "parity.energy"),
    (minimiser_stuck, "minimize.converged"),
]
CASES = list(dict.fromkeys(case for case, _ in BAD))


@pytest.fixture(scope="module", params=["analytic", "real"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def outcomes(kind, chain, tmp_path_factory):
    """The verdict on every case, each judged once."""
    judged = {}
    for case in CASES:
        run = sound_run(kind, chain)
        case(run)
        judged[case] = run_and_judge(run, tmp_path_factory.mktemp(case.__name__) / "run")[1]
    return judged


def test_sound_analytic_run_passes(chain, tmp_path):
    metrics, judged = run_and_judge(sound_run("analytic", chain), tmp_path / "run")
    assert judged["verdict"] == "pass", judged["reasons"]
    assert {c["verdict"] for c in metrics["checks"]} == {"pass", "reported"}


def test_sound_run_of_real_frames_is_honestly_inconclusive(chain, tmp_path):
    _, judged = run_and_judge(sound_run("real", chain), tmp_path / "run")
    assert judged["verdict"] == "inconclusive"
    open_ = {c["check"] for c in judged["checks"] if c["verdict"] == "inconclusive"}
    assert open_ == {
        "structure.rmsd", "structure.q", "structure.rg", "structure.end_to_end", MIRROR,
        "local.angles", "local.dihedrals", "pair.distances",
    }  # fmt: skip
    assert not any(c["verdict"] == "fail" for c in judged["checks"])
    assert "a longer reference" in judged["summary"]


@pytest.mark.parametrize(("case", "check"), BAD, ids=lambda part: getattr(part, "__name__", part))
def test_known_bad_run_is_failed_by_the_check_meant_for_it(outcomes, case, check):
    judged = outcomes[case]
    assert verdict_of(judged, check) == "fail"
    assert judged["verdict"] == "fail"


def test_every_required_check_has_a_bad_run_that_it_fails():
    assert {check for _, check in BAD} == {*REQUIRED, MIRROR}


@pytest.mark.parametrize("check", ["structure.rmsd", "structure.contacts", "structure.q"])
def test_unfolded_model_is_failed_by_each_structural_check(chain, tmp_path, check):
    """Apart from the list above, because the bonds of this model break as well."""
    run = sound_run("analytic", chain)
    unfolded(run)
    _, judged = run_and_judge(run, tmp_path / "run")
    assert verdict_of(judged, check) == "fail"


@pytest.mark.parametrize("scale", [0.5, 0.1, 10.0])
def test_wrong_unit_of_length_is_failed(chain, tmp_path, scale):
    run = sound_run("analytic", chain)
    run.nvt = [replace(r, positions=r.positions * np.float32(scale)) for r in run.nvt]
    _, judged = run_and_judge(run, tmp_path / "run")
    assert verdict_of(judged, "stability.survival") == "fail"
    assert judged["verdict"] == "fail"
