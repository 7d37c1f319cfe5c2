"""Crash files whose cause is known: does the diagnosis find it, and say it?"""

import dataclasses

import h5py
import numpy as np
import pytest
from scipy.spatial.distance import pdist

from cgloop.errors import UserError
from cgloop.feedback.diagnosis import diagnose
from cgloop.feedback.reference import coverage_of
from tests.feedback import crash_files
from tests.feedback.crash_files import CrashFile

KEYS = {"class", "words", "step", "time_ps", "beads", "residues", "dominant_term", "numbers", "frames", "limit"}


def sentences(words: str) -> int:
    return words.count(". ") + 1


@pytest.mark.parametrize(
    ("make", "kind", "term", "said"),
    [
        (
            crash_files.clash, "clash", "ml",
            ["step 5,039", "10.08 ps", "TYR 1 and GLY 7 came within 1.90 Å", "the limit is 2.00 Å",
             "fell from 5.20 to 1.90 Å in 34 fs", "ML term pulls them together with 210",
             "the repulsion pushes them apart with 35.0", "In 200 training frames they never came closer than"],
        ),
        (
            crash_files.broken_bond, "broken bond", "ml",
            ["bond between PRO 4 and GLU 5 was 4.80 Å long, 24% above", "rose from 3.87 to 4.80 Å in 20 fs",
             "ML term pulls them apart with 90.0", "the bond term holds them with 60.0"],
        ),
        (
            crash_files.force_explosion, "force explosion", "ml",
            ["force on TRP 9 was 1,200 kcal/mol/Å", "limit is 1,000", "45.0 to 1,200 kcal/mol/Å in 24 fs",
             "ML term carries 1,150 of it", "times the RMS force"],
        ),
        (
            crash_files.non_finite, "non-finite", "ml",
            ["force of ASP 3 was not a number", "Nothing announced it", "the ML term is not finite"],
        ),
        (
            crash_files.heat, "thermostat runaway", None,
            ["instantaneous temperature was 2,800 K", "limit is 950 K", "target of 320 K",
             "no energy term gave it away"],
        ),
    ],
)  # fmt: skip
def test_cause_is_found_and_told(make, kind, term, said, protein, coverage, tmp_path):
    found = diagnose(make(protein, tmp_path / "crash_003.h5"), coverage)
    assert set(found) >= KEYS
    assert found["class"] == kind
    assert found["dominant_term"] == term
    for phrase in said:
        assert phrase in found["words"]
    assert found["words"].startswith("Replica 3 of cln025 was stopped in NVT")
    assert 2 <= sentences(found["words"]) <= 4


def test_words_do_without_a_data_set(protein, tmp_path):
    found = diagnose(crash_files.clash(protein, tmp_path / "c.h5"))
    assert found["class"] == "clash"
    assert "training frames" not in found["words"]


def test_a_jump_of_the_energy_names_its_term(protein, coverage, tmp_path):
    crash = CrashFile(protein)
    crash.terms[-1, 4] -= 12.0
    crash.terms[-1, 3] += 2.0
    found = diagnose(crash.write(tmp_path / "c.h5", "energy_jump", 10.0, 0.64, [8]), coverage)
    assert (found["class"], found["dominant_term"], found["beads"]) == ("energy drift", "ml", [8])
    assert "the energy changed in one step by 10.0 kcal/mol more than the work" in found["words"]
    assert "The ML term changed most in that step, by -12.0 kcal/mol." in found["words"]


def test_heat_without_thermostat_is_drift(protein, coverage, tmp_path):
    found = diagnose(crash_files.heat(protein, tmp_path / "c.h5", stage="nve"), coverage)
    assert found["class"] == "energy drift"


def test_heat_from_a_burst_of_force_is_an_explosion(protein, coverage, tmp_path):
    crash = CrashFile(protein)
    crash.forces[-10:] *= 30
    crash.velocities = crash.velocities * np.linspace(1, 3, 40)[:, None, None]
    assert diagnose(crash.write(tmp_path / "c.h5", "temperature_mean", 600.0, 480.0, [0]), coverage)["class"] == (
        "force explosion"
    )


def test_heat_is_traced_to_the_term_whose_energy_fell(protein, coverage, tmp_path):
    crash = CrashFile(protein)
    crash.velocities = crash.velocities * np.linspace(1, 2, 40)[:, None, None]
    crash.terms[:, 4] -= np.linspace(0, 45, 40)
    found = diagnose(crash.write(tmp_path / "c.h5", "temperature_instant", 1500.0, 950.0, [0]), coverage)
    assert found["dominant_term"] == "ml"
    assert "energy of the ML term fell by 45.0" in found["words"]
    assert "fell into a well" in found["meaning"]


def test_heat_from_a_term_is_no_drift(protein, coverage, tmp_path):
    """At constant energy a hot replica whose potential energy fell by the same amount conserves energy."""
    crash = CrashFile(protein, stage="nve")
    crash.velocities = crash.velocities * np.linspace(1, 2, 40)[:, None, None]
    crash.terms[:, 4] -= np.linspace(0, 43, 40)
    found = diagnose(crash.write(tmp_path / "c.h5", "temperature_instant", 1500.0, 950.0, [0]), coverage)
    assert found["class"] != "energy drift"
    assert found["dominant_term"] == "ml"


def test_large_force_of_the_repulsion_is_a_clash(protein, coverage, tmp_path):
    found = diagnose(crash_files.force_explosion(protein, tmp_path / "c.h5", term="repulsion"), coverage)
    assert (found["class"], found["dominant_term"]) == ("clash", "repulsion")


def test_beads_that_every_term_pushes_apart(protein, coverage, tmp_path):
    crash = CrashFile(protein)
    crash.approach(0, 6, 5.2, 1.9, 17)
    crash.terms[:, 4] -= np.linspace(0, 40, crash.frames)
    crash.term_forces[:] = 0
    crash.set_term_force("repulsion", 0, -300 * crash.direction(0, 6))
    crash.set_term_force("repulsion", 6, 300 * crash.direction(0, 6))
    found = diagnose(crash.write(tmp_path / "c.h5", "min_distance", 1.9, 2.0, [0, 6]), coverage)
    assert "every term worked against it (the repulsion with 300 kcal/mol/Å)" in found["words"]
    assert "came from the ML term, 40.0 kcal/mol" in found["words"]
    assert found["dominant_term"] == "ml"


def test_other_types_than_the_data_set_are_a_mapping_error(protein, coverage, tmp_path):
    crash = CrashFile(protein)
    crash.types = crash.types[::-1].copy()
    assert diagnose(crash.write(tmp_path / "c.h5", "max_force", 2e3, 1e3, [0]), coverage)["class"] == (
        "type or unit mapping"
    )


def test_nanometres_are_a_mapping_error(protein, coverage, tmp_path):
    crash = CrashFile(protein)
    crash.positions *= 0.1
    assert diagnose(crash.write(tmp_path / "c.h5", "min_distance", 0.4, 2.0, [0, 5]), coverage)["class"] == (
        "type or unit mapping"
    )


def test_a_broken_start_structure_is_bad_input(protein, coverage, tmp_path):
    crash = CrashFile(protein, frames=1, stage="minimize")
    crash.steps[:] = 0
    crash.positions[0, 4] = np.nan
    found = diagnose(crash.write(tmp_path / "c.h5", "non-finite", float("nan"), 0.0, [4]), coverage)
    assert found["class"] == "bad input"
    assert "in minimisation, iteration 0" in found["words"]
    assert "position" in found["words"]


def test_the_hottest_of_many_pairs_is_named(protein, coverage, tmp_path):
    crash = CrashFile(protein)
    crash.approach(0, 6, 5.2, 1.9, 17)
    found = diagnose(crash.write(tmp_path / "c.h5", "min_distance", 1.9, 2.0, [0, 5, 6, 8]), coverage)
    assert found["residues"] == ["TYR 1", "GLY 7"]


def test_equilibration_is_said(protein, coverage, tmp_path):
    crash = CrashFile(protein)
    path = crash.write(tmp_path / "c.h5", "max_force", 1e4, 1e3, [8], phase="equilibration")
    assert "in the equilibration of NVT" in diagnose(path, coverage)["words"]


def test_leaving_the_training_data_is_dated(protein, coverage, tmp_path):
    """Bead 9 leaves its range 20 fs before the end; nothing else moves."""
    crash = CrashFile(protein)
    crash.positions[:] = protein.native
    crash.positions[-10:, 9] += np.array([30.0, 0, 0])
    crash.set_term_force("ml", 2, [np.nan] * 3)
    found = diagnose(crash.write(tmp_path / "c.h5", "non-finite", float("nan"), 0.0, [2]), coverage)
    assert "It left the distances of the training frames 20 fs before the end" in found["words"]
    assert found["numbers"]["outside_A"] > 10


def test_a_collapsed_chain_is_called_so(protein, coverage, tmp_path):
    crash = CrashFile(protein)
    crash.positions[:] = 0.85 * protein.native
    crash.velocities = crash.velocities * np.linspace(1, 3, 40)[:, None, None]
    found = diagnose(crash.write(tmp_path / "c.h5", "temperature_instant", 2800.0, 950.0, [5]), coverage)
    size = np.sqrt(((0.85 * (protein.native - protein.native.mean(axis=0))) ** 2).sum(axis=1).mean())
    assert f"The chain has collapsed: its radius of gyration is {size:.2f} Å" in found["words"]
    assert found["numbers"]["rg_A"] == pytest.approx(size, rel=1e-5)


def test_frames_for_the_viewer(protein, coverage, tmp_path):
    frames = diagnose(crash_files.clash(protein, tmp_path / "c.h5"), coverage)["frames"]
    assert frames["letters"] == "YYDPETGTWY"
    assert frames["time_fs"][-1] == 0
    assert frames["time_fs"][0] == -78
    assert len(frames["positions"]) == len(frames["steps"]) == 40
    last = np.array(frames["positions"][-1]).reshape(-1, 3)
    assert np.linalg.norm(last[0] - last[6]) == pytest.approx(1.9, abs=0.02)
    assert np.all(np.diff(last.std(axis=0)) < 0)  # along the principal axes, the longest first
    assert frames["series"][0]["name"] == "distance"
    assert all(len(series["values"]) == 40 for series in frames["series"])
    assert frames["bonds"] == [[i, i + 1] for i in range(9)]


def test_the_viewer_shows_no_mirror_image(protein, coverage, tmp_path):
    """Distances and the sign of the volume of four beads are those of the crash."""
    path = crash_files.clash(protein, tmp_path / "c.h5")
    with h5py.File(path) as file:
        original = file["positions"][-1]
    shown = np.array(diagnose(path, coverage)["frames"]["positions"][-1]).reshape(-1, 3)

    def volume(x):
        return np.linalg.det(x[[2, 4, 8]] - x[0])

    assert volume(shown) == pytest.approx(volume(original), abs=1.0)
    assert abs(volume(original)) > 5
    np.testing.assert_allclose(pdist(shown), pdist(original), atol=0.02)


def test_not_a_number_becomes_null_in_frames(protein, coverage, tmp_path):
    crash = CrashFile(protein)
    crash.positions[-1, 2] = np.nan
    path = crash.write(tmp_path / "c.h5", "non-finite", float("nan"), 0.0, [2])
    frames = diagnose(path, coverage)["frames"]
    assert frames["positions"][-1][6:9] == [None] * 3
    assert frames["positions"][-2][6] is not None


def test_forces_of_several_chains(protein, tmp_path):
    """Two chains of five beads: the gap between them is no bond, and they have no common topology."""
    linked = protein.linked.copy()
    linked[4] = False
    two = dataclasses.replace(protein, linked=linked)
    crash = CrashFile(two)
    crash.approach(4, 5, 5.0, 1.8, 10)
    found = diagnose(crash.write(tmp_path / "c.h5", "min_distance", 1.8, 2.0, [4, 5]), coverage_of(two, "training"))
    assert found["residues"] == ["GLU 5", "THR 6"]
    assert [4, 5] not in found["frames"]["bonds"]


@pytest.mark.parametrize("damage", ["truncated", "no frames", "unknown limit", "missing"])
def test_damaged_files_are_user_errors(damage, protein, tmp_path):
    path = crash_files.clash(protein, tmp_path / "c.h5")
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "missing":
        path.unlink()
    else:
        with h5py.File(path, "a") as file:
            if damage == "no frames":
                del file["step"]
                file["step"] = np.zeros(0, int)
            else:
                file.attrs["limit"] = "boredom"
    with pytest.raises(UserError, match=r"c\.h5: not a readable crash file"):
        diagnose(path)
