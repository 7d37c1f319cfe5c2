"""All checks there are: gate, tables and pages are made from these declarations."""

from cgloop.checks import Check
from cgloop.validate import artifact, nve, nvt, nvt_ensemble, order, stability, transfer, uncertainty
from cgloop.validate.family import DECLARED

CHECKS: dict[str, Check] = {
    check.name: check
    for check in (
        artifact.PARITY_FORCES,
        artifact.PARITY_ENERGY,
        artifact.FORCE_ERROR,
        artifact.MINIMIZED,
        stability.SURVIVAL,
        nvt.TEMPERATURE,
        nvt_ensemble.DISTRIBUTION,
        nvt_ensemble.EQUIPARTITION,
        nve.DRIFT,
        order.ORDER,
        *DECLARED,
        transfer.UNSEEN,
        uncertainty.DISAGREEMENT,
    )
}

OF_THE_MODEL = frozenset({artifact.PARITY_FORCES.name, artifact.PARITY_ENERGY.name, artifact.FORCE_ERROR.name})
"""Checks that belong to the artifact; all others are made for every protein."""
