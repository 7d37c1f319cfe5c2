"""Where the dynamics went, do the members of an ensemble still agree? From the JSON that `md` wrote."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cgloop.checks import Check, CheckResult
from cgloop.errors import UserError
from cgloop.validate.artifact import number
from cgloop.validate.statistics import jackknife_error
from cgloop.validate.trajectory import read_json

FILE = "uncertainty.json"

DISAGREEMENT = Check(
    "uncertainty.disagreement",
    "ensemble disagreement in NVT",
    "kcal/mol/Å",
    "reported",
    "Standard deviation (n − 1) over the members of an ensemble of a component of the learned force on a bead, root "
    "mean square over components, beads and frames of NVT; to be read against the same on validation frames. Far "
    "above it, the dynamics went where the data decide little; agreement is no proof that members are right.",
)


@dataclass(frozen=True)
class Disagreement:
    """How members differ on one protein, kcal/mol/Å.

    Attributes:
        value: along the MD; NaN if there are no frames.
        validation: on validation frames.
        of: whose validation frames: the protein's name, or "all".
        n_frames: of the MD, all replicas together.
        per_bead: [N].
        per_residue_type: by name.
        per_replica: of those with frames, number of frames and disagreement.
    """

    value: float
    validation: float
    of: str
    n_frames: int
    per_bead: list[float]
    per_residue_type: dict[str, float]
    per_replica: list[tuple[int, float]]

    @property
    def ratio(self) -> float:
        return self.value / self.validation if self.validation > 0 else math.nan


@dataclass(frozen=True)
class Ensemble:
    """Contents of `uncertainty.json`."""

    members: int
    proteins: dict[str, Disagreement]


def read_uncertainty(md_dir: Path) -> Ensemble | None:
    """What `md` found out about an ensemble; None if there is none. Raises UserError if the file is damaged."""
    path, remedy = md_dir / FILE, "run `cgloop md` again"
    if not path.exists():
        return None
    content = read_json(path, remedy)
    try:
        proteins = {str(name): _read(one) for name, one in content["proteins"].items()}
        return Ensemble(int(content["members"]), proteins)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError("does not say how the members of the ensemble differ", where=path, remedy=remedy) from None


def _read(one: dict[str, Any]) -> Disagreement:
    validation = one["validation"]
    return Disagreement(
        value=number(one["disagreement"]),
        validation=number(validation["disagreement"]),
        of=str(validation["proteins"]),
        n_frames=int(one["n_frames"]),
        per_bead=[number(value) for value in one["per_bead"]],
        per_residue_type={str(name): number(value) for name, value in one["per_residue_type"].items()},
        per_replica=[(int(part["n_frames"]), number(part["disagreement"])) for part in one["per_replica"]],
    )


def disagreement_checks(ensemble: Ensemble | None, subject: str) -> list[CheckResult]:
    """The check `DISAGREEMENT` of a protein; none without an ensemble.

    The error bar is a jackknife over replicas of the MD; it knows nothing of how few members there are.
    """
    if ensemble is None or subject not in ensemble.proteins:
        return []
    found = ensemble.proteins[subject]
    frames, own = np.array(found.per_replica, float).reshape(-1, 2).T

    def pooled(replicas: list[int]) -> np.ndarray:
        return np.sqrt(np.average(own[replicas] ** 2, weights=frames[replicas]))

    error = float(jackknife_error(pooled, len(frames))) if found.n_frames else math.nan
    of = "all proteins" if found.of == "all" else found.of
    reason = "there are no frames of NVT"
    if found.n_frames:
        reason = (
            f"{ensemble.members} members, {found.n_frames} frames: {found.value:.3g} kcal/mol/Å, "
            f"{found.ratio:.3g} times that on validation frames of {of}"
        )
    return [
        CheckResult(
            check=DISAGREEMENT.name, subject=subject, value=found.value, error=error, threshold=None,
            verdict="reported", reason=reason, unit=DISAGREEMENT.unit, reference=found.validation,
            inputs={"files": [f"md/{FILE}"]},
            detail={
                "members": ensemble.members, "frames": found.n_frames, "ratio": found.ratio,
                "ratio_error": error / found.validation if found.validation > 0 else math.nan,
                "validation_of": found.of, "per_bead": found.per_bead, "per_residue_type": found.per_residue_type,
                "per_replica": own.tolist(),
            },
        )
    ]  # fmt: skip
