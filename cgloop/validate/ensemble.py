"""Tests of physical_validation on plain arrays; the only file that imports it.

Source: P. T. Merz, M. R. Shirts, PLoS ONE 13, e0202764 (2018).
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from cgloop.units import KB


@cache
def _package() -> Any:
    """The package, imported when first needed and without the banners of what it imports."""
    for name in ("pymbar", "pymbar.timeseries", "pymbar.mbar_solvers"):
        logging.getLogger(name).setLevel(logging.ERROR)
    quiet = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        warnings.simplefilter("ignore")
        import physical_validation
    return physical_validation


def kinetic_p_value(kinetic: np.ndarray, n_beads: int, at_rest: bool, temperature_K: float) -> float:
    """Chance of kinetic energies that fit their Gamma distribution no better than these.

    P(K) ∝ K^(f/2 − 1) exp(−K/kT) with f degrees of freedom, by the Kolmogorov–Smirnov test.

    Args:
        kinetic: [n] independent samples, kcal/mol.
        n_beads: N.
        at_rest: whether the centre of mass is at rest, so that f is 3N − 3 and not 3N.
        temperature_K: of the distribution.
    """
    validation = _package()
    data = validation.data.SimulationData(
        units=validation.data.UnitData(
            kb=KB, energy_conversion=4.184, length_conversion=0.1, volume_conversion=1e-3, temperature_conversion=1.0,
            pressure_conversion=1.0, time_conversion=1e-3, energy_str="kcal/mol", length_str="A", volume_str="A^3",
            temperature_str="K", pressure_str="bar", time_str="fs",
        ),
        ensemble=validation.data.EnsembleData("NVT", natoms=n_beads, volume=1.0, temperature=temperature_K),
        system=validation.data.SystemData(
            natoms=n_beads, nconstraints=0, ndof_reduction_tra=3 if at_rest else 0, ndof_reduction_rot=0
        ),
        observables=validation.data.ObservableData(kinetic_energy=np.asarray(kinetic, float)),
    )  # fmt: skip
    test = validation.kinetic_energy.distribution
    return float(test(data, strict=True, verbosity=0, data_is_uncorrelated=True))


def convergence_deviation(totals: Mapping[float, np.ndarray]) -> float:
    """Largest |1 − (δE₁/δE₂)/(Δt₁/Δt₂)²| over neighbouring time steps; 0 for an integrator of second order.

    Args:
        totals: by time step, total energy [T] at constant energy; δE is its standard deviation.
    """
    validation = _package()
    runs = [
        validation.data.SimulationData(
            dt=timestep, observables=validation.data.ObservableData(constant_of_motion=np.asarray(total, float))
        )
        for timestep, total in totals.items()
    ]
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(validation.integrator.convergence(runs, verbose=False))
