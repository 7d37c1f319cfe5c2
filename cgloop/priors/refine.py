"""Refinement of the prior by force matching: its parameters alone, all together, so that terms which were inverted one
by one stop counting the same thing twice.

Method: L-BFGS (D. C. Liu, J. Nocedal, Math. Program. 45, 503 (1989)) on the mean squared deviation of the prior's
forces from the reference's, from the inverted parameters and from disturbed ones. Bounds keep parameters physical; the
inequalities that keep angles and dihedrals confining are enforced by projection at the end, and the loss that is
reported is that of the projected parameters.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cgloop.config.priors import PriorsConfig, RefineConfig
from cgloop.data.dataset import ProteinData
from cgloop.errors import UserError
from cgloop.interrupt import check_stop
from cgloop.model.graph import Graph, batch_graphs, build_graph
from cgloop.model.hybrid import Model, prior_forces
from cgloop.model.terms import PriorForms, PriorParams
from cgloop.priors.bonded import angle_limits, dihedral_limits
from cgloop.priors.bounded import free_fields, params_at
from cgloop.priors.forms import angle_basis, dihedral_basis, repulsion_shape
from cgloop.priors.inversion import CONTACT_A, CONTACT_KT, Fit, angle_size, rounded, shrunk
from cgloop.priors.samples import Histogram
from cgloop.priors.series import fit_linear
from cgloop.units import thermal_energy

log = logging.getLogger("cgloop.priors")

DISTURBANCE = 0.3
"""Standard deviation of disturbed starts: of coefficients in kT, of bounded parameters in units of the logit."""


@dataclass(frozen=True)
class Frames:
    """Reference frames as one graph.

    Attributes:
        positions: [N, 3], Å. forces: [N, 3], kcal/mol/Å. graph: all frames, side by side.
    """

    positions: np.ndarray
    forces: np.ndarray
    graph: Graph


@dataclass(frozen=True)
class Refined:
    """What a refinement found.

    Attributes:
        params: of the best start, projected and rounded.
        before, after: root mean square deviation of the forces on the frames of the fit, kcal/mol/Å.
        starts: per start, steps and root of the loss before the projection.
    """

    params: PriorParams
    before: float
    after: float
    starts: list[dict[str, Any]]


def gather(proteins: Iterable[ProteinData], cutoff_A: float) -> Frames:
    """All frames with forces of these proteins, of which there must be some; see `DatasetReader.sample`."""
    graphs, positions, forces = [], [], []
    for every in proteins:
        protein = every.with_forces()
        if not protein.n_frames:
            continue
        x = protein.positions.astype(np.float64)
        graphs.append(build_graph(protein.residue_type, protein.linked, x, cutoff_A))
        positions.append(x.reshape(-1, 3))
        forces.append(protein.forces.astype(np.float64).reshape(-1, 3))
    if not graphs:
        raise UserError(
            "no training frames with forces, which `priors.refine` matches",
            remedy="add a source with forces, or set `priors.refine.enabled: false`",
        )
    return Frames(np.concatenate(positions), np.concatenate(forces), batch_graphs(graphs))


def rms_deviation(params: PriorParams, forms: PriorForms, cutoff_A: float, frames: Frames) -> float:
    """Root mean square deviation of the prior's force components, kcal/mol/Å."""
    with jax.enable_x64(True):
        return float(jnp.sqrt(jax.jit(_loss_of(forms, cutoff_A, frames))(_arrays(params))))


def refine(fit: Fit, config: PriorsConfig, cutoff_A: float, frames: Frames, seed: int = 0) -> Refined:
    """Refine all parameters of a fit that its forms use.

    Args:
        fit: the inversion, where the search starts and to which it is restrained.
        config: `refine`, and the sizes of the forms.
        cutoff_A: of the prior.
        frames: of the training split, at the fit's temperature.
        seed: of the disturbed starts.
    """
    kT = thermal_energy(fit.temperature_K)
    settings = config.refine
    with jax.enable_x64(True):
        centre = _arrays(fit.params)
        free = free_fields(fit.params, fit.forms, fit.samples.sizes)
        mean_square = float(np.mean(frames.forces**2))
        deviation = _loss_of(fit.forms, cutoff_A, frames)

        def objective(point: dict[str, jax.Array]) -> jax.Array:
            """In units of the mean squared force; the point is zero at the inversion."""
            pull = sum(jnp.sum(value**2) for value in point.values())
            return deviation(params_at(point, centre, kT)) / mean_square + settings.restraint * pull

        step = _make_step(objective)
        random = np.random.Generator(np.random.Philox(key=seed))
        starts, best = [], None
        for number in range(settings.starts):
            point = {name: DISTURBANCE * (number > 0) * random.standard_normal(shape) for name, shape in free.items()}
            point, steps, loss = _descend(step, point, settings)
            found = rounded(project(params_at(point, centre, kT), fit, config, kT))
            rms = float(jnp.sqrt(deviation(_arrays(found))))
            starts.append({"steps": steps, "objective": loss, "rms": rms})
            if best is None or rms < best[0]:
                best = rms, found
        before = float(jnp.sqrt(deviation(centre)))
    assert best is not None
    after, params = best
    log.info("refined: force deviation %.4f to %.4f kcal/mol/Å on the training frames", before, after)
    if not after < before:
        after, params = before, fit.params
    return Refined(params, before, after, starts)


def _arrays(params: PriorParams) -> PriorParams:
    return PriorParams(*(jnp.asarray(np.asarray(value, np.float64)) for value in params))


def _loss_of(forms: PriorForms, cutoff_A: float, frames: Frames) -> Callable[[PriorParams], jax.Array]:
    model = Model(None, "prior-only", cutoff_A, forms)

    def loss(params: PriorParams) -> jax.Array:
        predicted = prior_forces(model, {"prior": params, "ml": {}}, jnp.asarray(frames.positions), frames.graph)
        return jnp.mean((predicted - frames.forces) ** 2)

    return loss


def _make_step(objective: Callable[[dict[str, jax.Array]], jax.Array]) -> Callable[..., Any]:
    optimizer = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(objective)

    @jax.jit
    def step(point: Any, state: Any) -> tuple[Any, Any, jax.Array]:
        value, gradient = value_and_grad(point, state=state)
        updates, state = optimizer.update(gradient, state, point, value=value, grad=gradient, value_fn=objective)
        return optax.apply_updates(point, updates), state, value

    return lambda point, state: step(point, optimizer.init(point) if state is None else state)


def _descend(step: Callable[..., Any], point: Any, config: RefineConfig) -> tuple[Any, int, float]:
    """Until the objective has not fallen by `tolerance` for `patience` steps; the point, steps, and objective."""
    point = {name: jnp.asarray(value) for name, value in point.items()}
    state, best, since, steps = None, (np.inf, point), 0, 0
    while steps < config.max_steps and since < config.patience:
        check_stop()
        steps += 1
        before = point
        point, state, value = step(point, state)
        loss = float(value)
        if not np.isfinite(loss):
            break
        since = 0 if loss < best[0] * (1.0 - config.tolerance) else since + 1
        if loss < best[0]:
            best = loss, before
    return best[1], steps, best[0]


def project(params: PriorParams, fit: Fit, config: PriorsConfig, kT: float) -> PriorParams:
    """The nearest parameters, where the data are, that confine beyond the data as the inversion's do."""
    samples, forms = fit.samples, fit.forms
    values: dict[str, np.ndarray] = {name: np.asarray(value) for name, value in params._asdict().items()}
    if forms.angle == "harmonic":
        k, theta0 = values["angle_coeffs"][..., 0], values["angle_coeffs"][..., 1]
        values["angle_coeffs"] = np.stack([np.maximum(k, kT), np.clip(theta0, 1.0, np.pi)], axis=-1)
    elif samples.angles.total:
        size = angle_size(config)
        values["angle_coeffs"] = _each_row(
            values["angle_coeffs"],
            _by_key(samples.angles, samples.key_angles, config),
            lambda row, angles: _project_angle(row, angles, forms.angle, size, kT),
        )
    dihedrals = _by_key(samples.dihedrals, samples.key_dihedrals, config)
    if samples.dihedrals.total and forms.dihedral == "spline":
        values["dihedral_spline"] = _each_row(
            values["dihedral_spline"], dihedrals, lambda row, own: _project_dihedral(row, own, "spline", len(row), kT)
        )
    elif samples.dihedrals.total:
        order = config.dihedral_order
        joined = np.concatenate([values["dihedral_cos"], values["dihedral_sin"][..., 1:]], axis=-1)
        joined = _each_row(joined, dihedrals, lambda row, own: _project_dihedral(row, own, "fourier", order, kT))
        values["dihedral_cos"], sines = joined[..., : order + 1], joined[..., order + 1 :]
        values["dihedral_sin"] = np.concatenate([np.zeros((*sines.shape[:-1], 1)), sines], axis=-1)
    # Two beads 3 Å apart must still cost what VALIDATION asks for.
    kinds = ("wca", "wca", forms.repulsion)
    shape = [
        float(repulsion_shape(kind, CONTACT_A / r)) for kind, r in zip(kinds, values["repulsion_r_min"], strict=True)
    ]
    needed = 1.0001 * CONTACT_KT * kT / np.maximum(shape, 1e-3)
    values["repulsion_epsilon"] = np.maximum(values["repulsion_epsilon"], needed)
    values["contact_energy"] = 0.5 * (values["contact_energy"] + values["contact_energy"].T)
    return PriorParams(**values)


def _by_key(common: Histogram, counts: np.ndarray, config: PriorsConfig) -> list[Histogram]:
    """The distribution that each row of parameters was inverted from."""
    return [shrunk(common, row, config.shrinkage) for row in counts] if len(counts) else [common]


def _each_row(
    values: np.ndarray, histograms: Sequence[Histogram], function: Callable[[np.ndarray, Histogram], np.ndarray]
) -> np.ndarray:
    if values.ndim == 1:
        return function(values, histograms[0])
    return np.stack([function(row, own) for row, own in zip(values, histograms, strict=True)])


def _project_angle(coefficients: np.ndarray, angles: Histogram, form: str, size: int, kT: float) -> np.ndarray:
    basis = angle_basis(form, angles.centres, size, 0.0).values
    weights = np.maximum(angles.counts / angles.counts.max(), 1e-3)
    for ceiling in (True, False):
        rows, bounds = angle_limits(angles, form, size, kT, ceiling)
        if (rows @ coefficients >= bounds - 1e-6 * kT).all():
            return coefficients
        try:
            return fit_linear(basis, basis @ coefficients, weights, _nearby(basis), rows, bounds)
        except ValueError:
            continue
    raise AssertionError("confinement alone can always be had")


def _project_dihedral(coefficients: np.ndarray, dihedrals: Histogram, form: str, size: int, kT: float) -> np.ndarray:
    rows, bounds = dihedral_limits(dihedrals, form, size, kT)
    if (rows @ coefficients >= bounds - 1e-6 * kT).all():
        return coefficients
    basis = dihedral_basis(form, dihedrals.centres, size, 0.0).values
    weights = np.maximum(dihedrals.counts / dihedrals.counts.max(), 1e-3)
    return fit_linear(basis, basis @ coefficients, weights, _nearby(basis), rows, bounds)


def _nearby(basis: np.ndarray) -> np.ndarray:
    """No penalty: the target is already smooth."""
    return np.zeros((0, basis.shape[1]))


def refined_fit(fit: Fit, found: Refined) -> Fit:
    """The fit with the refined parameters."""
    common = found.params if fit.forms.keyed == "global" else fit.common
    return replace(fit, params=found.params, common=common)
