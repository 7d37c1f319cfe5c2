"""Numbers of a kernel whose forces are off their energy, as `static.gradient` and `nve.order` would be given them."""

import numpy as np

from cgloop.checks import CheckResult
from cgloop.config import Config
from cgloop.units import FS_PER_PS, thermal_energy
from cgloop.validate.order import judge_order
from cgloop.validate.static import gradient_check

FORCE_ERROR = 0.01
"""Relative; kernels of published packages were 1 to 4 % off."""
SEEN_IN_GRADIENT = 0.06
"""Share of the error in the difference that is found, over the RMS force (tests/md/test_wrong_kernels.py)."""
INTEGRATION_ERROR = 0.01
"""Amplitude with the whole time step, kcal/mol; it falls with the square of the step."""
PERIOD_STEPS = 40
STEP_FACTORS = (1, 2, 4)


def gradient_result(force_error: float, config: Config) -> CheckResult:
    """Judge the difference between force and energy of a kernel with a relative error."""
    return gradient_check({"gradient": {"max_relative": SEEN_IN_GRADIENT * force_error}}, config.validate_)


def order_result(force_error: float, n_beads: int, replicas: int, config: Config) -> CheckResult:
    """Judge total energies of runs with the time step divided by 1, 2 and 4.

    What the integrator leaves of the energy falls with the square of the step. The energy that wrong forces do not
    conserve fluctuates by the same amount whatever the step: by the error times the fluctuation of a potential energy,
    kT √N.
    """
    points = max(2 * PERIOD_STEPS, round(config.control.order_ps * FS_PER_PS / config.md.timestep_fs))
    wrong = force_error * thermal_energy(config.md_temperature_K) * np.sqrt(n_beads)
    totals = []
    for number in range(replicas):
        phase = 2 * np.pi * np.arange(points) / PERIOD_STEPS + number
        totals.append([INTEGRATION_ERROR / k**2 * np.sin(2 * phase) + wrong * np.sin(phase) for k in STEP_FACTORS])
    return judge_order([config.md.timestep_fs / k for k in STEP_FACTORS], totals, config.validate_, "")
