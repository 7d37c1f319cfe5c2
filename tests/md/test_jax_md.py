"""The whole coupling against another code: NVE of the prior terms, through LAMMPS and by jax-md."""

from functools import partial

import jax
import numpy as np
import pytest

from cgloop.md.evaluate import ModelEvaluator, compile_model
from cgloop.model.graph import build_graph
from cgloop.model.hybrid import energy, energy_and_forces
from cgloop.units import MVV_TO_KCAL_PER_MOL
from tests.md.model_worlds import CUTOFF_A, protein, small_model, system
from tests.md.worlds import masses_of, run_in_lammps, thermal_velocities

pytestmark = pytest.mark.slow

STEPS, TIMESTEP_FS, N_BEADS = 50, 2.0, 8


def jax_md_trajectory(model, params, one, x, v):
    """Positions and velocities after `STEPS` of jax-md's velocity Verlet in float64.

    With time in units of √(g/mol Å²/(kcal/mol)), force = mass · acceleration has no factor.
    """
    from jax_md import simulate, space

    unit = np.sqrt(MVV_TO_KCAL_PER_MOL)
    graph = build_graph(one.residue_type, one.linked, x, np.inf)
    mass = masses_of(N_BEADS)
    _, shift = space.free()
    init, step = simulate.nve(lambda r, **_: energy(model, params, r, graph), shift, dt=TIMESTEP_FS / unit)
    state = init(jax.random.key(0), jax.numpy.asarray(x), kT=1.0, mass=jax.numpy.asarray(mass))
    state = state.set(momentum=jax.numpy.asarray(v * unit * mass[:, None]))
    state = jax.lax.fori_loop(0, STEPS, lambda _, s: step(s), state)
    return np.asarray(state.position), np.asarray(state.velocity) / unit


def test_same_trajectory_as_jax_md(tmp_path):
    model, params = small_model("prior-only")
    one, x, v = system(N_BEADS), protein(N_BEADS).positions[0].astype(float), thermal_velocities(N_BEADS, [0])
    with jax.enable_x64(True):
        positions, velocities = jax_md_trajectory(model, params, one, x, v[0])
    assert np.abs(positions - x).max() > 0.3
    evaluate = ModelEvaluator(compile_model(partial(energy_and_forces, model, params), CUTOFF_A), one, 2.0)
    final = run_in_lammps(tmp_path, evaluate, x[None], v, STEPS, TIMESTEP_FS).final
    # Forces of the coupling are float32.
    np.testing.assert_allclose(final.positions[0], positions, atol=2e-5)
    np.testing.assert_allclose(final.velocities[0], velocities, atol=2e-7)
