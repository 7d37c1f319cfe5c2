"""A gate that cannot fail is no gate: runs that are known to be bad, each failed by the check meant for it.

Every case goes through files, `validate_run` and the gate. The sound runs that the cases are made from do not fail:
one of analytic series, which passes, and one whose frames are real all-atom dynamics, for which three of four
replicas move half-way, so that RMSD and Q cannot be decided.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cgloop.config.validate import REQUIRED
from cgloop.data.dataset import DatasetReader
from cgloop.validate import known_bad
from cgloop.validate.gate import judge
from cgloop.validate.reference import read_reference
from cgloop.validate.registry import CHECKS
from cgloop.validate.run import validate_run
from tests.validate import builders, synthetic
from tests.validate.builders import FakeRun
from tests.validate.rows import not_decided_by_their_number
from tests.validate.synthetic import bent

MIRROR = "structure.mirror"
SLOW = pytest.mark.slow


def run_and_judge(run: FakeRun, folder):
    paths = builders.write_run(run, folder)
    metrics = validate_run(run.config(), out=folder / "out", **paths)
    assert not_decided_by_their_number(metrics["checks"]) == []
    return metrics, judge(metrics, REQUIRED)


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


def mirror_image_of_a_stable_fold(run: FakeRun) -> None:
    """Folded at the other temperature as well, so that no comparison with the reference has power."""
    mirror_image(run)
    run.other_reference = run.reference


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


def strands_closer(run: FakeRun) -> None:
    """The hairpin bent by 10° in its loop: no bond and no native contact changes, and three others form."""
    bonds = np.diff(run.native, axis=0)
    axis = np.cross(bonds[4], bonds[3])
    turn = Rotation.from_rotvec(-np.radians(10.0) * axis / np.linalg.norm(axis))
    for replica in run.nvt:
        x = replica.positions.astype(float)
        x[:, 5:] = x[:, 4:5] + (x[:, 5:] - x[:, 4:5]) @ turn.as_matrix().T
        replica.positions = x.astype(np.float32)


def bead_out_of_place(run: FakeRun) -> None:
    """One bead 2 Å away from its partners across the strands: they are in reach, but no longer as in the native."""
    partners = run.native[[6, 7, 8, 9]].mean(axis=0)
    along = run.native[3] - run.native[1]
    along /= np.linalg.norm(along)
    away = run.native[2] - partners
    away -= along * (along @ away)
    for replica in run.nvt:
        replica.positions[:, 2] += (2.0 * away / np.linalg.norm(away)).astype(np.float32)


def wrong_force_in_lammps(run: FakeRun) -> None:
    run.parity["force"]["value"] = 1e-2
    run.parity["verdict"] = "fail"


def wrong_energy_in_lammps(run: FakeRun) -> None:
    run.parity["energy"]["value"] = 1e-2
    run.parity["verdict"] = "fail"


def minimiser_stuck(run: FakeRun) -> None:
    run.minimized[0]["max_force_final"] = 3.0


def double_well(run: FakeRun) -> None:
    """The angle has a second minimum, far from the data, as deep as the first."""
    scan = next(scan for scan in run.static["scans"] if scan["term"] == "angle")
    grid = np.array(scan["grid"])
    low = grid < 1.0
    assert not np.array(scan["known"])[low].any()
    scan["energy"] = np.where(low, 50.0 * (grid - 0.8) ** 2, scan["energy"]).tolist()


def no_gradient(run: FakeRun) -> None:
    run.static["gradient"]["max_relative"] = 1e-3


def not_invariant(run: FakeRun) -> None:
    run.static["symmetry"]["rotation"]["forces"] = 1e-3


def too_narrow(run: FakeRun) -> None:
    """As under weak coupling: the mean is right."""
    for replica in run.nvt:
        replica.kinetic = replica.kinetic.mean() + 0.6 * (replica.kinetic - replica.kinetic.mean())


def one_type_hot(run: FakeRun) -> None:
    """Tryptophan takes a third more than its share, from all others: the sum is right."""
    hot = np.array(run.names) == "TRP"
    for replica in run.nvt:
        taken = replica.shares[:, hot] / 3
        rest = replica.shares[:, ~hot].sum(axis=1, keepdims=True)
        replica.shares[:, ~hot] *= 1 - taken.sum(axis=1, keepdims=True) / rest
        replica.shares[:, hot] += taken


def first_order(run: FakeRun) -> None:
    """Fluctuations with a half and a quarter step as those of an integrator of first order."""
    for totals in run.order:
        for k in (2, 4):
            totals[k] = totals[1].mean() + (totals[1] - totals[1].mean()) / k


def another_fold(run: FakeRun) -> None:
    """1.5 Å from the native structure, with the same contacts and signs."""
    bent(run, [-40, 17, 5, -10, 0, 11, -26, 16, 14, -14, -5, 0, -18, -6, -17])


def larger(run: FakeRun) -> None:
    """0.6 Å more radius of gyration, with all contacts."""
    bent(run, [21, 30, 57, -28, 24, 54, 15, 12, -9, 26, -4, -19, 8, -6, 41])


def ends_closer(run: FakeRun) -> None:
    """The ends 1.75 Å closer, which were in contact before."""
    bent(run, [-4, 1, 0, 0, 0, -1, -6, 8, -10, -2, 0, -1, -3, -1, 15])


def one_other_sign(run: FakeRun) -> None:
    """The fourth of seven dihedrals at −12° instead of 30°, everything else nearly as it was."""
    bent(run, [3, 2, -12, 2, 0, 11, -6, -2, -1, -9, 31, -42, 19, 9, 2])


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
    (too_narrow, "nvt.distribution"),
    (wrong_temperature, "nvt.distribution"),
    (wrong_temperature, "nvt.equipartition"),
    (truncated, "structure.rg"),
]
CASES = list(dict.fromkeys(case for case, _ in BAD))

ALONE: dict[str, Callable[[FakeRun], None]] = {
    "static.prior": double_well,
    "static.gradient": no_gradient,
    "static.symmetry": not_invariant,
    "nvt.distribution": too_narrow,
    "nvt.equipartition": one_type_hot,
    "nve.order": first_order,
    "structure.rg": larger,
    "structure.end_to_end": ends_closer,
    "structure.handedness": one_other_sign,
    "stability.survival": overlapping_beads,
    "nvt.temperature": slow_heating_nvt,
    "nve.drift": slow_heating_nve,
    "structure.rmsd": another_fold,
    "structure.contacts": strands_closer,
    "structure.q": bead_out_of_place,
    MIRROR: mirror_image_of_a_stable_fold,
    "parity.forces": wrong_force_in_lammps,
    "parity.energy": wrong_energy_in_lammps,
    "minimize.converged": minimiser_stuck,
}
"""For each check that decides, a bad run, made from analytic frames, that no other check fails."""

BESIDES = {MIRROR: {"structure.handedness", "structure.rmsd"}}
"""A mirror image fails these evidently, which no lack of power takes back: the mirror check is never alone."""


@pytest.fixture(scope="module", params=["analytic", pytest.param("real", marks=SLOW)])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def outcomes(kind, chain, tmp_path_factory):
    """Metrics and verdict of every case, each judged once."""
    judged = {}
    for case in dict.fromkeys([*CASES, *(ALONE.values() if kind == "analytic" else [])]):
        run = sound_run(kind, chain)
        case(run)
        judged[case] = run_and_judge(run, tmp_path_factory.mktemp(case.__name__) / "run")
    return judged


def test_sound_analytic_run_passes(sound):
    _, _, metrics, judged = sound
    assert judged["verdict"] == "pass", judged["reasons"]
    assert [c["check"] for c in metrics["checks"] if c["verdict"] == "fail"] == []


def test_sound_run_of_real_frames_is_honestly_inconclusive(chain, tmp_path):
    _, judged = run_and_judge(sound_run("real", chain), tmp_path / "run")
    assert judged["verdict"] == "inconclusive"
    open_ = {c["check"] for c in judged["checks"] if c["verdict"] == "inconclusive" and c["required"]}
    assert open_ == {"structure.rmsd", "structure.q", "structure.rg", MIRROR}
    assert [c["check"] for c in judged["checks"] if c["verdict"] == "fail"] == []
    assert "a longer reference" in judged["summary"]


def test_sound_run_about_a_chain_that_bends_passes(example_h5, tmp_path):
    lengths = synthetic.Lengths(nvt_ps=400.0, nve_ps=50.0)
    run = synthetic.healthy_run(*synthetic.real_chain(example_h5), seed=1, lengths=lengths)
    judged = synthetic.gate_of(run, lengths, tmp_path / "run", REQUIRED)
    assert judged["verdict"] == "pass", judged["reasons"]


def test_frames_of_real_dynamics_pass_where_they_do_not_move(chain, tmp_path):
    """The one stationary all-atom trajectory in pieces, as reference and as model: too short for a mean temperature."""
    names, native, trajectories = chain
    even, odd = trajectories[2][0::2], trajectories[2][1::2]
    run = builders.good_run(
        names, native, [even[i * 62 : (i + 1) * 62] for i in range(4)], [odd[i * 31 : (i + 1) * 31] for i in range(8)]
    )
    metrics, _ = run_and_judge(run, tmp_path / "run")
    judged = judge(metrics, [name for name in REQUIRED if name != "nvt.temperature"])
    assert judged["verdict"] == "pass", judged["reasons"]


@pytest.mark.parametrize(("case", "check"), BAD, ids=lambda part: getattr(part, "__name__", part))
def test_known_bad_run_is_failed_by_the_check_meant_for_it(outcomes, case, check):
    _, judged = outcomes[case]
    assert verdict_of(judged, check) == "fail"
    assert judged["verdict"] == "fail"


def test_every_required_check_has_a_bad_run_that_it_fails():
    assert set(ALONE) == set(REQUIRED)


def always_pass(metrics, check):
    """What `validate` would have written if this check passed everything."""
    entries = [
        {**one, "verdict": "pass", "value": 0.0, "error": 0.0, "detail": {}} if one["check"] == check else one
        for one in metrics["checks"]
    ]
    return {**metrics, "checks": entries}


@pytest.mark.parametrize("kind", ["analytic"], indirect=True)
@pytest.mark.parametrize("check", REQUIRED)
def test_a_check_that_always_passes_would_let_a_bad_run_through(outcomes, check):
    """Nothing else fails that run, so that no check can be broken without a test that notices."""
    metrics, judged = outcomes[ALONE[check]]
    assert judged["verdict"] == "fail"
    expected = {check} | BESIDES.get(check, set())
    assert {one["check"] for one in judged["checks"] if one["required"] and one["verdict"] == "fail"} == expected
    for one in expected:
        metrics = always_pass(metrics, one)
    assert judge(metrics, REQUIRED)["verdict"] != "fail"


@pytest.fixture(scope="module")
def sound(chain, tmp_path_factory):
    """The sound analytic run: itself, its folder, metrics and verdict."""
    run, folder = sound_run("analytic", chain), tmp_path_factory.mktemp("sound") / "run"
    return run, folder, *run_and_judge(run, folder)


@pytest.mark.parametrize("check", sorted(known_bad.JUDGES))
def test_the_gate_itself_notices_a_check_that_always_passes(sound, monkeypatch, check):
    """The known-bad trajectories that run with every gate, with that check replaced."""
    run, folder, metrics, _ = sound
    real = known_bad.JUDGES[check]
    monkeypatch.setitem(known_bad.JUDGES, check, lambda *given: replace(real(*given), verdict="pass"))
    reader, temperature = DatasetReader.open(folder / "prep"), {"md_K": 320.0, "model_K": 320.0}
    reference = read_reference(reader, "chain", temperature, run.config().validate_)
    found = known_bad.known_bad_control(reference, run.config(), 8, {})
    controls = {**metrics["controls"], "known_bad": {"chain": found}}
    refused = judge({**metrics, "controls": controls}, [*REQUIRED, check])
    meant_for_it = any(check in case.checks for case in known_bad.CASES)
    assert refused["refused"] == meant_for_it
    assert meant_for_it or CHECKS[check].direction == "reported"


def test_a_known_bad_run_too_short_to_tell_is_not_held_against_the_check(sound):
    """With 22 samples, kinetic energies that fluctuate half as much pass, with ten times as many they fail."""
    run, folder, metrics, _ = sound
    config = run.config()
    nvt, nve = (stage.model_copy(update={"length_ps": 16.0}) for stage in (config.md.nvt, config.md.nve))
    short = config.model_copy(update={"md": config.md.model_copy(update={"nvt": nvt, "nve": nve})})
    reader, temperature = DatasetReader.open(folder / "prep"), {"md_K": 320.0, "model_K": 320.0}
    reference = read_reference(reader, "chain", temperature, config.validate_)
    found = known_bad.known_bad_control(reference, short, 8, {}, only=["nvt.distribution"])["too_narrow"]
    assert (found["verdict"], found["caught"]) == ("pass", None)
    assert found["needs"] == {"run_factor": known_bad.LONGER}
    assert "it is caught in a run 10 times as long" in found["reason"]
    judged = judge({**metrics, "controls": {**metrics["controls"], "known_bad": {"chain": {"x": found}}}}, REQUIRED)
    assert not judged["refused"]
    assert verdict_of(judged, "nvt.distribution") == "inconclusive"
    # The same in a run of the length of the example is caught at once.
    found = known_bad.known_bad_control(reference, config, 8, {}, only=["nvt.distribution"])["too_narrow"]
    assert found["caught"] is True


def test_unfolded_model_is_failed_by_each_structural_check(chain, tmp_path):
    """Apart from the list above, because the bonds of this model break as well."""
    run = sound_run("analytic", chain)
    unfolded(run)
    _, judged = run_and_judge(run, tmp_path / "run")
    for check in ("structure.rmsd", "structure.contacts", "structure.q", "structure.rg"):
        assert verdict_of(judged, check) == "fail"


@pytest.mark.parametrize("scale", [0.1, pytest.param(0.5, marks=SLOW), pytest.param(10.0, marks=SLOW)])
def test_wrong_unit_of_length_is_failed(chain, tmp_path, scale):
    run = sound_run("analytic", chain)
    run.nvt = [replace(r, positions=r.positions * np.float32(scale)) for r in run.nvt]
    _, judged = run_and_judge(run, tmp_path / "run")
    assert verdict_of(judged, "stability.survival") == "fail"
    assert judged["verdict"] == "fail"
