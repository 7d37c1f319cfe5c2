"""`model.ptb` as chemtrain's plugin would run it, against the model: the file is checked by emulation only."""

from typing import Any

import numpy as np

from cgloop.export.bundle import Bundle
from cgloop.export.chemtrain_deploy import PTB
from cgloop.export.emulate import compare
from cgloop.md.system import System
from cgloop.model.hybrid import Model, Params
from cgloop.units import thermal_energy

CAUSE = (
    "the file is of other parameters or another network than the training, or was made by a JAX that lowers differently"
)


def emulate_ptb(
    bundle: Bundle, model: Model, params: Params, system: System, frame: np.ndarray, limit: float
) -> dict[str, Any]:
    """Run the bundle's `model.ptb` here, over one domain and three with ghosts, and compare with the trained network.

    Args:
        bundle: whose file it is.
        model, params: of the training.
        system: the protein.
        frame: [N, 3] Å.
        limit: for the force difference over the RMS force, and the energy difference over max(|energy|, N kT).

    Returns:
        `force`, `energy` (both relative), `limit`, `cases`, `protein`, `verdict` `pass` or `fail`, `likely_cause` of a
        failure; or `verdict` `skipped` and the `reason`, where there is no file to check.

    Raises:
        UserError: the file cannot be read.
    """
    path = bundle.path / PTB
    if not path.is_file():
        said = bundle.manifest.get("chemtrain_deploy") or {}
        return {"verdict": "skipped", "reason": said.get("reason") or f"there is no {PTB}"}
    # A domain of fewer beads than one has no neighbours to get wrong.
    domains = (1, 3) if system.n_beads >= 3 else (1,)
    found = compare(path, model, params, frame, system.residue_type, domains)
    scale = max(abs(found["energy"]), system.n_beads * thermal_energy(bundle.temperature_K))
    force, energy = found["max_force_difference"], found["max_energy_difference"] / scale
    passed = force <= limit and energy <= limit
    return {
        "force": force, "energy": energy, "limit": limit, "cases": found["cases"], "protein": system.name,
        "verdict": "pass" if passed else "fail", **({} if passed else {"likely_cause": CAUSE}),
    }  # fmt: skip
