"""The optional forms of prior terms against LAMMPS's own styles."""

import math
from functools import partial
from itertools import combinations_with_replacement

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import beta

from cgloop.md.session import Session
from cgloop.model import potentials
from cgloop.model.graph import build_graph
from cgloop.model.hybrid import Model, energy_and_forces
from cgloop.model.names import PRIOR_TERM_NAMES
from cgloop.model.terms import PriorForms
from cgloop.residues import RESIDUES, TYPE_ID
from cgloop.units import COULOMB
from tests.md.model_worlds import PRIOR
from tests.md.test_native_styles import FRAME, N_BEADS, ONE, assert_same, chain_of, in_lammps

pytestmark = pytest.mark.slow

FAR_A = 60.0
"""Cutoff of our terms: the chain ends long before they are switched off."""
EPSILON, SIGMA = 1.3, 4.5


def of_forms(term: str, forms: PriorForms, linked=None, types=None, **changes):
    """Forces [N, 3] and energy of one term alone, float64."""
    weights = np.array([name == term for name in PRIOR_TERM_NAMES], float)
    prior = PRIOR._replace(weights=weights, **changes)
    linked = ONE.linked if linked is None else linked
    types = ONE.residue_type if types is None else types
    model = Model(None, "prior-only", FAR_A, forms)
    with jax.enable_x64(True):
        graph = build_graph(types, linked, FRAME, FAR_A)
        function = jax.jit(partial(energy_and_forces, model, {"prior": prior, "ml": {}}))
        _, forces, terms = function(FRAME, graph)
        return np.asarray(forces), float(np.asarray(terms).sum())


def pairs_in_lammps(folder, commands: str, charges=(0,) * N_BEADS, types=(1,) * N_BEADS):
    """Forces and energy of a pair style between all beads."""
    lines = ["pairs", "", f"{N_BEADS} atoms", f"{max(types)} atom types"]
    lines += [*(f"-90 90 {axis}lo {axis}hi" for axis in "xyz"), "", "Masses", ""]
    lines += [*(f"{kind} 100.0" for kind in range(1, max(types) + 1)), "", "Atoms # charge", ""]
    lines += [f"{i + 1} {types[i]} {charges[i]} {x!r} {y!r} {z!r}" for i, (x, y, z) in enumerate(FRAME.tolist())]
    data = folder / "pairs.data"
    data.write_text("\n".join(lines) + "\n")
    with Session() as session:
        session.command(
            f"units real\natom_style charge\natom_modify map array sort 0 0\nboundary p p p\nread_data {data}\n"
            f"{commands}\nrun 0 post no"
        )
        return session.total_forces(), session.potential_energy()


def table(path, coordinates, energy, force, header: str):
    rows = zip(*map(np.ndarray.tolist, map(np.asarray, (coordinates, energy, force))), strict=True)
    lines = [f"{i + 1} {x!r} {e!r} {f!r}" for i, (x, e, f) in enumerate(rows)]
    path.write_text("\n".join(["FORM", header, "", *lines]) + "\n")
    return path


UNLINKED = np.zeros(N_BEADS - 1, bool)
"""Without bonds every pair counts as far apart along the chain."""
LONG = {
    "lj": (f"pair_style lj/cut {FAR_A}\npair_coeff * * {EPSILON} {SIGMA / 2 ** (1 / 6)!r}", 1e-6),
    "mie": (
        f"pair_style mie/cut {FAR_A}\npair_coeff * * {EPSILON} {SIGMA / 2 ** (1 / 6)!r} 12 6",
        1e-6,
    ),
    # Only the attractive term of Born, with the sign turned: ε (σ/r)⁶; and Lennard-Jones less its own attraction.
    "power6": (f"pair_style born {FAR_A}\npair_coeff * * 0.0 1.0 1.0 {-EPSILON * SIGMA**6!r} 0.0", 1e-6),
    "power12": (
        f"pair_style hybrid/overlay lj/cut {FAR_A} born {FAR_A}\npair_coeff * * lj/cut {EPSILON / 4!r} {SIGMA!r}\n"
        f"pair_coeff * * born 0.0 1.0 1.0 {-EPSILON * SIGMA**6!r} 0.0",
        1e-6,
    ),
}


@pytest.mark.parametrize("name", LONG)
def test_repulsions_are_pair_styles(tmp_path, name):
    commands, tolerance = LONG[name]
    forms = PriorForms(repulsion=name.replace("mie", "lj"))
    ours = of_forms(
        "repulsion", forms, UNLINKED, repulsion_epsilon=np.full(3, EPSILON), repulsion_r_min=np.full(3, SIGMA)
    )
    assert_same(ours, pairs_in_lammps(tmp_path, commands), rtol=tolerance)


def test_fourth_power_is_a_pair_table(tmp_path):
    """LAMMPS has no such form: a table of 20,000 points, good to 1e-5 of the largest force."""
    r = np.linspace(2.0, FAR_A, 20_000)
    energy = EPSILON * (SIGMA / r) ** 4
    path = table(tmp_path / "pair.table", r, energy, 4 * energy / r, f"N {len(r)} R 2.0 {FAR_A}")
    commands = f"pair_style table spline {len(r)}\npair_coeff * * {path} FORM"
    ours = of_forms(
        "repulsion", PriorForms(repulsion="power4"), UNLINKED,
        repulsion_epsilon=np.full(3, EPSILON), repulsion_r_min=np.full(3, SIGMA),
    )  # fmt: skip
    assert_same(ours, pairs_in_lammps(tmp_path, commands), rtol=1e-5)


def test_electrostatics_is_coul_debye(tmp_path):
    names = ["ASP", "LYS", "GLU", "ARG", "ALA", "LYS", "ASP", "ARG", "GLU", "LYS"]
    types = np.array([TYPE_ID[name] for name in names])
    charges = [RESIDUES[kind].charge for kind in types]
    dielectric, debye_A = 5.0, 7.85
    forms = PriorForms(electrostatics=True)
    ours = of_forms("electrostatics", forms, UNLINKED, types, electrostatics=np.array([COULOMB / dielectric, debye_A]))
    commands = f"pair_style coul/debye {1.0 / debye_A!r} {FAR_A}\ndielectric {dielectric}\npair_coeff * *"
    assert_same(ours, pairs_in_lammps(tmp_path, commands, charges))


CONTACT_TYPES = np.array([TYPE_ID[n] for n in ("ILE", "LYS", "ILE", "PHE", "LYS", "ILE", "PHE", "PHE", "LYS", "ILE")])


def contact_table():
    """Energies [20, 20] of pairs of types, symmetric, kcal/mol."""
    random = np.random.default_rng(8).normal(size=(20, 20))
    return random + random.T


def test_contacts_are_pair_tables_of_each_pair_of_types(tmp_path):
    """The switch from 5 to 9 Å is a regularised incomplete beta function of order (3, 3), its slope the density of that
    distribution: a table of 20,001 points for each of six pairs of types, good to 1e-6 of the largest force."""
    r = np.linspace(2.0, 12.0, 20_001)
    place = (r - 5.0) / 4.0
    shape, slope = beta.sf(place, 3, 3), beta.pdf(place, 3, 3) / 4.0
    energies, kinds = contact_table(), sorted(set(CONTACT_TYPES.tolist()))
    commands = [f"pair_style table spline {len(r)}"]
    for (i, first), (j, second) in combinations_with_replacement(enumerate(kinds, start=1), 2):
        path = tmp_path / f"{i}{j}.table"
        strength = energies[first, second]
        table(path, r, strength * shape, strength * slope, f"N {len(r)} R 2.0 12.0")
        commands.append(f"pair_coeff {i} {j} {path} FORM")
    types = [kinds.index(kind) + 1 for kind in CONTACT_TYPES.tolist()]
    theirs = pairs_in_lammps(tmp_path, "\n".join(commands), types=types)
    ours = of_forms("contact", PriorForms(contacts=True), UNLINKED, CONTACT_TYPES, contact_energy=energies)
    assert_same(ours, theirs)


def test_contacts_count_pairs_far_along_the_chain_once():
    """Plain loops over pairs in NumPy, and central differences of their sum."""
    linked = np.ones(N_BEADS - 1, bool)
    linked[7] = False
    energies = contact_table()

    def energy(x):
        total = 0.0
        for i in range(N_BEADS):
            for j in range(i + 1, N_BEADS):
                if not linked[i:j].all() or j - i >= 6:
                    total += energies[CONTACT_TYPES[i], CONTACT_TYPES[j]] * beta.sf(
                        (math.dist(x[i], x[j]) - 5.0) / 4.0, 3, 3
                    )
        return total

    forces = np.zeros((N_BEADS, 3))
    for place in np.ndindex(forces.shape):
        step = np.zeros_like(forces)
        step[place] = 1e-4
        forces[place] = -(energy(FRAME + step) - energy(FRAME - step)) / 2e-4
    ours = of_forms("contact", PriorForms(contacts=True), linked, CONTACT_TYPES, contact_energy=energies)
    assert_same(ours, (forces, energy(FRAME)))


def test_harmonic_angles_are_angle_style_harmonic(tmp_path):
    ours = of_forms("angle", PriorForms(angle="harmonic"), angle_coeffs=np.array([14.0, math.radians(105.0)]))
    commands = "angle_style harmonic\nangle_coeff 1 7.0 105.0\npair_style zero 12.0\npair_coeff * *"
    assert_same(ours, in_lammps(tmp_path, commands, {"Angles": chain_of(3)}))


def test_angle_splines_are_angle_style_table(tmp_path):
    """A table of a twentieth of a degree, good to 1e-4 of the largest force."""
    coefficients = np.array([9.0, 7.0, 3.0, 0.5, -0.4, 0.3, 1.0, 4.0])
    theta = np.linspace(0.0, np.pi, 3601)
    with jax.enable_x64(True):
        value = jax.vmap(jax.value_and_grad(lambda t: potentials.angle_spline(jnp.cos(t), jnp.asarray(coefficients))))
        energy, slope = map(np.asarray, value(jnp.asarray(theta)))
    path = table(tmp_path / "angle.table", np.linspace(0, 180, 3601), energy, -slope * math.pi / 180, f"N {len(theta)}")
    commands = f"angle_style table spline {len(theta)}\nangle_coeff 1 {path} FORM\npair_style zero 12.0\npair_coeff * *"
    ours = of_forms("angle", PriorForms(angle="spline"), angle_coeffs=coefficients)
    assert_same(ours, in_lammps(tmp_path, commands, {"Angles": chain_of(3)}), rtol=1e-4)


def test_dihedral_splines_are_dihedral_style_table(tmp_path):
    """A table of a twentieth of a degree, good to 1e-4 of the largest force."""
    coefficients = np.array([1.0, 2.0, 0.5, -1.0, 0.3, 1.7, 2.2, 0.1])
    # LAMMPS wants the first angle once: its table is periodic.
    degrees = np.linspace(-180.0, 180.0, 7201)[:-1]
    with jax.enable_x64(True):
        value = jax.vmap(
            jax.value_and_grad(lambda p: potentials.periodic_spline(jnp.cos(p), jnp.sin(p), jnp.asarray(coefficients)))
        )
        energy, slope = map(np.asarray, value(jnp.radians(degrees)))
    path = table(
        tmp_path / "dihedral.table",
        degrees,
        energy - energy.mean(),
        -slope * math.pi / 180,
        f"N {len(degrees)} DEGREES",
    )
    commands = (
        f"dihedral_style table spline {len(degrees)}\ndihedral_coeff 1 {path} FORM\npair_style zero 12.0\n"
        "pair_coeff * *"
    )
    ours = of_forms("dihedral", PriorForms(dihedral="spline"), dihedral_spline=coefficients)
    assert_same(ours, in_lammps(tmp_path, commands, {"Dihedrals": chain_of(4)}), rtol=1e-4)
