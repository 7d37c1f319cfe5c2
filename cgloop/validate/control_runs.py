"""What the stage `control` left of one protein, and what the prior alone is worth in the checks of the model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cgloop.checks import CheckResult
from cgloop.config import Config
from cgloop.errors import UserError
from cgloop.units import FS_PER_PS
from cgloop.validate.rundata import StageRun
from cgloop.validate.trajectory import Asked, read_json, read_stage

FILE, AGAIN = "control.json", "run `cgloop control` again"


@dataclass(frozen=True)
class ControlRuns:
    """The controls of one protein.

    Attributes:
        prior_only: NVT with the prior alone; None if there is none.
        why_not: why there is none.
        order: constant energy, by what the time step was divided by.
    """

    prior_only: StageRun | None
    why_not: str
    order: dict[int, StageRun]


def read_controls(control_dir: Path, protein: str, residue_type: np.ndarray, config: Config) -> ControlRuns:
    """Read the controls of a protein.

    Args:
        control_dir: holds `control.json` and `<protein>/…`.
        protein: its name.
        residue_type: int [N], what the beads should be.
        config: intervals of the records.

    Raises:
        UserError: `control.json` is missing or does not say what was asked.
    """
    about = read_json(control_dir / FILE, AGAIN)
    try:
        timestep_fs, temperature_K = float(about["timestep_fs"]), float(about["temperature_K"])
        prior, order, replicas = about["prior_only"], about["order"], int(about["replicas"])
        factors, started = [int(k) for k in order["factors"]], about["proteins"][protein]["order"]
        order_steps, prior_steps = int(order["steps"]), int(prior["steps"])
        begun = {k: len(started[f"dt_{k}"]) for k in factors}
    except (KeyError, TypeError, ValueError):
        raise UserError("does not say what was asked", where=control_dir / FILE, remedy=AGAIN) from None

    def steps(length_ps: float) -> int:
        return max(1, round(length_ps * FS_PER_PS / timestep_fs))

    def read(folder: str, stage: str, asked: Asked) -> StageRun:
        return read_stage(control_dir / protein / folder, protein, stage, residue_type, asked)

    nvt = Asked(
        replicas, prior_steps, timestep_fs, temperature_K, steps(config.md.dump_every_ps),
        steps(config.md.observe_every_ps), at_rest=config.md.nvt.conserves_momentum,
    )  # fmt: skip
    return ControlRuns(
        prior_only=read("prior_only/nvt", "nvt", nvt) if prior.get("run") else None,
        why_not=str(prior.get("reason") or ""),
        order={
            k: read(
                f"order/dt_{k}",
                "nve",
                Asked(begun[k], k * order_steps, timestep_fs / k, temperature_K, k * order_steps, k, at_rest=True),
            )
            for k in factors
        },
    )


def beside(checks: Sequence[CheckResult], prior_only: Sequence[CheckResult]) -> dict[str, dict[str, Any]]:
    """Note in every check of the model, in place, what the prior alone is worth in it.

    Args:
        checks: of the model; their `detail` gets `prior_only`.
        prior_only: the same checks of the dynamics of the prior.

    Returns:
        By check, what was noted: value, error, threshold, verdict and reason.
    """
    noted = {
        one.check: {
            "value": one.value, "error": one.error, "threshold": one.threshold, "verdict": one.verdict,
            "reason": one.reason, "unit": one.unit, "quantity": one.quantity,
        }
        for one in prior_only
    }  # fmt: skip
    for check in checks:
        if check.check in noted:
            check.detail["prior_only"] = noted[check.check]
    return noted
