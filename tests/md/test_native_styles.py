"""The prior terms against LAMMPS's own bond, angle, dihedral and pair styles."""

import math
from functools import partial

import jax
import numpy as np
import pytest

from cgloop.md.session import Session
from cgloop.model.graph import build_graph
from cgloop.model.hybrid import energy_and_forces
from cgloop.model.names import PRIOR_TERM_NAMES
from tests.md.model_worlds import PRIOR, protein, small_model, system

N_BEADS = 10
ONE = system(N_BEADS)
FRAME = protein(N_BEADS).positions[1].astype(float) + 0.3 * np.random.default_rng(5).standard_normal((N_BEADS, 3))
REPULSION = PRIOR._replace(repulsion_epsilon=np.full(3, 2.0), repulsion_r_min=np.full(3, 6.5))


def of_term(term, prior):
    """Forces [N, 3] and energy of one prior term alone, float64."""
    weights = np.array([name == term for name in PRIOR_TERM_NAMES], float)
    model, params = small_model("prior-only")
    params = {**params, "prior": prior._replace(weights=weights)}
    with jax.enable_x64(True):
        graph = build_graph(ONE.residue_type, ONE.linked, FRAME, 20.0)
        _, forces, terms = jax.jit(partial(energy_and_forces, model, params))(FRAME, graph)
        return np.asarray(forces), float(np.asarray(terms).sum())


def in_lammps(folder, commands, counts):
    """Forces and energy of native styles; `counts` are the sections of the data file, name -> tuples of beads."""
    names = {"Bonds": ("bonds", "bond types"), "Angles": ("angles", "angle types"),
             "Dihedrals": ("dihedrals", "dihedral types")}  # fmt: skip
    lines = ["native styles", "", f"{N_BEADS} atoms", "1 atom types"]
    for section, members in counts.items():
        lines += [f"{len(members)} {names[section][0]}", f"1 {names[section][1]}"]
    lines += [
        *(f"-50 50 {axis}lo {axis}hi" for axis in "xyz"),
        "",
        "Masses",
        "",
        "1 100.0",
        "",
        "Atoms # molecular",
        "",
    ]
    lines += [f"{i + 1} 1 1 {x!r} {y!r} {z!r}" for i, (x, y, z) in enumerate(FRAME.tolist())]
    for section, members in counts.items():
        lines += ["", section, ""]
        lines += [f"{k + 1} 1 " + " ".join(str(b + 1) for b in beads) for k, beads in enumerate(members)]
    data = folder / "native.data"
    data.write_text("\n".join(lines) + "\n")
    with Session() as session:
        session.command(
            f"units real\natom_style molecular\natom_modify map array sort 0 0\nboundary p p p\n"
            f"special_bonds lj 0.0 1.0 1.0\nread_data {data}\n{commands}\nrun 0 post no"
        )
        return session.total_forces(), session.potential_energy()


def chain_of(n):
    return [tuple(range(i, i + n)) for i in range(N_BEADS - n + 1)]


def assert_same(ours, theirs, rtol=1e-6):
    scale = np.abs(ours[0]).max()
    np.testing.assert_allclose(theirs[0], ours[0], atol=rtol * scale)
    assert theirs[1] == pytest.approx(ours[1], rel=rtol, abs=1e-6)
    assert scale > 0.1


def test_bonds_are_bond_style_harmonic(tmp_path):
    """LAMMPS writes K (r − r₀)² without the half."""
    commands = (
        f"bond_style harmonic\nbond_coeff 1 {float(PRIOR.bond_k) / 2!r} {float(PRIOR.bond_r0)!r}\n"
        "pair_style zero 12.0\npair_coeff * *"
    )
    assert_same(of_term("bond", PRIOR), in_lammps(tmp_path, commands, {"Bonds": chain_of(2)}))


def test_angles_are_angle_style_fourier(tmp_path):
    """K [C₀ + C₁ cos θ + C₂ cos 2θ]: the whole series of this prior."""
    c0, c1, c2 = (float(c) for c in PRIOR.angle_coeffs)
    commands = f"angle_style fourier\nangle_coeff 1 1.0 {c0!r} {c1!r} {c2!r}\npair_style zero 12.0\npair_coeff * *"
    assert_same(of_term("angle", PRIOR), in_lammps(tmp_path, commands, {"Angles": chain_of(3)}))


def test_long_angle_series_are_angle_style_table(tmp_path):
    """Orders above two have no closed form in LAMMPS: a fine table of the series instead."""
    series = np.array([0.3, 1.1, 2.0, 0.4, -0.3, 0.2, 0.1])
    degrees = np.linspace(0, 180, 3601)
    orders = np.arange(len(series))[:, None]
    energy = (series[:, None] * np.cos(orders * np.deg2rad(degrees))).sum(axis=0)
    # Minus the derivative in kcal/mol per degree.
    force = (series[:, None] * orders * np.sin(orders * np.deg2rad(degrees))).sum(axis=0) * math.pi / 180
    rows = [
        f"{i + 1} {d!r} {e!r} {f!r}"
        for i, (d, e, f) in enumerate(zip(*map(np.ndarray.tolist, (degrees, energy, force)), strict=True))
    ]
    (tmp_path / "angle.table").write_text("\n".join(["SERIES", f"N {len(rows)}", "", *rows]) + "\n")
    commands = (
        f"angle_style table spline {len(rows)}\nangle_coeff 1 {tmp_path / 'angle.table'} SERIES\n"
        "pair_style zero 12.0\npair_coeff * *"
    )
    ours = of_term("angle", PRIOR._replace(angle_coeffs=series))
    assert_same(ours, in_lammps(tmp_path, commands, {"Angles": chain_of(3)}), rtol=2e-5)


def test_dihedrals_are_dihedral_style_fourier(tmp_path):
    """a cos nφ + b sin nφ = K [1 + cos(nφ − d)] − K with K = √(a² + b²), d = atan2(b, a): the sign of φ counts.

    The series' own constant has no effect.
    """
    cosines, sines = np.array([0.2, 1.0, -0.5, 0.3]), np.array([0.0, 0.6, 0.4, -0.2])
    amplitude, phase = np.hypot(cosines, sines)[1:], np.degrees(np.arctan2(sines, cosines))[1:]
    terms = " ".join(
        f"{k!r} {n} {d!r}" for n, (k, d) in enumerate(zip(amplitude.tolist(), phase.tolist(), strict=True), 1)
    )
    commands = f"dihedral_style fourier\ndihedral_coeff 1 3 {terms}\npair_style zero 12.0\npair_coeff * *"
    ours = of_term("dihedral", PRIOR._replace(dihedral_cos=cosines, dihedral_sin=sines))
    forces, energy = in_lammps(tmp_path, commands, {"Dihedrals": chain_of(4)})
    constant = len(chain_of(4)) * amplitude.sum()
    assert_same(ours, (forces, energy - constant))


def test_repulsion_is_pair_style_lj_cut_at_its_minimum(tmp_path):
    """WCA: σ = r_min / 2^(1/6), cut at r_min and shifted up by ε; bonded neighbours are excluded."""
    sigma = 6.5 / 2 ** (1 / 6)
    commands = (
        "bond_style zero\nbond_coeff 1 3.8\npair_style lj/cut 6.5\npair_modify shift yes\n"
        f"pair_coeff * * 2.0 {sigma!r} 6.5"
    )
    assert_same(of_term("repulsion", REPULSION), in_lammps(tmp_path, commands, {"Bonds": chain_of(2)}))
