"""The prior against LAMMPS's own styles finds every kind of fault, and says which kind it is."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from cgloop.export.lammps_styles import NativeStyles, native_styles
from cgloop.md import parity_native
from cgloop.md.evaluate import ModelEvaluator, compile_model
from cgloop.md.native import NativeProbe
from cgloop.md.parity import Frames, Row, explain_row, judge, parity_stage
from cgloop.md.parity_causes import explain
from cgloop.md.parity_native import NATIVE_CASES, NativePrior, compare_native
from cgloop.model.hybrid import Model, energy_and_forces
from cgloop.model.terms import PriorForms
from cgloop.residues import TYPE_ID
from tests.md.model_worlds import PRIOR, config, protein, small_model, system, write_world

CUTOFF_A = 12.0
FORMS = PriorForms(electrostatics=True, electrostatics_separation=4, repulsion="power6")
HARD = PRIOR._replace(
    repulsion_epsilon=np.array([1.0, 2.0, 3.0]), repulsion_r_min=np.array([5.6, 5.2, 5.0]),
    electrostatics=np.array([66.0, 7.8]),
)  # fmt: skip
MODEL = Model(None, "prior-only", CUTOFF_A, FORMS)
PARAMS = {"prior": HARD, "ml": {}}
TYPES = np.resize([TYPE_ID[n] for n in ("ALA", "ASP", "ASN", "LYS", "GLN", "LEU", "ARG", "GLU", "ALA")], 20)
"""Charged residues, and neighbours of charged ones in the alphabet."""
SYSTEM = replace(system(20, 2), residue_type=TYPES)
FRAMES = protein(20, chains=2).positions[:2].astype(float)


@pytest.fixture(scope="module")
def prior():
    compiled = compile_model(partial(energy_and_forces, MODEL, PARAMS), CUTOFF_A)
    return NativePrior(MODEL, PARAMS, ModelEvaluator(compiled, SYSTEM, 2.0), SYSTEM)


def run(prior):
    frames = Frames(SYSTEM, FRAMES, ["test, frame 0", "test, frame 1"])
    rows = [Row(case, frames, d) for case in NATIVE_CASES for d in compare_native(case, prior, FRAMES, 0, 0.64)]
    return judge(rows, 1e-4, 1e-5, True, NATIVE_CASES, lambda row: explain_row(row, MODEL, PARAMS))


@pytest.mark.slow
def test_a_sound_prior_passes(prior):
    result = run(prior)
    assert result["verdict"] == "pass"
    assert 0 < result["force"]["value"] < 2e-5


NEXT = (np.arange(20) + 1) % 20


def made(types=lambda t: t, linked=lambda k: k, change=lambda s: s):
    """A faulty `native_styles`."""

    def faulty(one, params, residue_type, links, **options):
        return change(native_styles(one, params, types(residue_type), linked(links), **options))

    return faulty


def in_kJ(styles: NativeStyles) -> NativeStyles:
    """Harmonic bonds in kJ/mol."""
    lines = []
    for line in styles.commands.splitlines():
        words = line.split()
        if words[:1] == ["bond_coeff"] and words[2] == "harmonic":
            words[3] = repr(4.184 * float(words[3]))
            line = " ".join(words)
        lines.append(line)
    return replace(styles, commands="\n".join(lines) + "\n")


def without_second_dihedral(styles: NativeStyles) -> NativeStyles:
    items = {**styles.items, "Dihedrals": np.delete(styles.items["Dihedrals"], 1, axis=0)}
    return replace(styles, items=items)


def shorter_pairs(styles: NativeStyles) -> NativeStyles:
    """Pair tables end at 9 Å."""
    files = dict(styles.files)
    files["pairs.table"] = [
        section._replace(curve=type(section.curve)(*(values[section.curve.x <= 9.0] for values in section.curve)))
        for section in files["pairs.table"]
    ]
    return replace(styles, files=files)


FAULTS = {
    "type order": (
        made(types=lambda t: NEXT[t]),
        "electrostatics",
        "type order: beads have the types of the residue after",
    ),
    "kJ": (made(change=in_kJ), "bond", "units: forces are 4.184 times as large, as with energies in kJ/mol"),
    "cutoff": (made(change=shorter_pairs), "electrostatics", "cutoff: pairs from 9."),
    "chains joined": (made(linked=np.ones_like), "bond", "topology: a break between chains is bonded"),
    "a dihedral missing": (made(change=without_second_dihedral), "dihedral", "topology: only 4 of 20 beads differ"),
    "exclusions": (
        made(change=lambda s: replace(s, commands=s.commands.replace("0.0 1.0 1.0", "0.0 0.0 0.0"))),
        "electrostatics",
        "topology: only ",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_found_and_named(prior, monkeypatch, name):
    fault, term, words = FAULTS[name]
    monkeypatch.setattr(parity_native, "native_styles", fault)
    if name == "type order":
        monkeypatch.setattr(parity_native, "NativeProbe", lambda styles, types: NativeProbe(styles, NEXT[types]))
    result = run(prior)
    assert result["verdict"] == "fail"
    case = result["cases"][0]
    assert case["verdict"] == "fail"
    assert case["frame"].startswith("test, frame ")
    assert case["term"] == term
    assert case["likely_cause"].startswith(words), case["likely_cause"]


def test_units_of_length_are_told():
    """Forces of an engine that was given nanometres."""
    from cgloop.md.parity_causes import _forces_of

    forces_of = _forces_of(MODEL, PARAMS)
    found = 10.0 * forces_of(0.1 * FRAMES[0], SYSTEM, CUTOFF_A)
    assert explain(MODEL, PARAMS, SYSTEM, FRAMES[0], found, "bond") == "units: positions in nm instead of Å"


def test_numbers_that_are_none_have_a_cause():
    assert "no numbers" in (explain(MODEL, PARAMS, SYSTEM, FRAMES[0], np.full((20, 3), np.nan), "bond") or "")


@pytest.mark.slow
def test_a_model_without_prior_skips_them_with_a_word(tmp_path):
    paths = write_world(tmp_path / "world", made=small_model("ml-only"))
    result = parity_stage(config(), paths["export"], paths["train"], paths["prep"], tmp_path)
    assert result["verdict"] == "pass"
    assert result["skipped"] == dict.fromkeys(NATIVE_CASES, "there is no prior")
    assert not any(case["name"] in NATIVE_CASES for case in result["cases"])
