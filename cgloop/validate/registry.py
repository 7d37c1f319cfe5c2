"""All checks there are: gate, tables and pages are made from these declarations."""

from cgloop.checks import Check
from cgloop.validate import (
    artifact,
    network,
    nve,
    nvt,
    nvt_ensemble,
    order,
    stability,
    static,
    training,
    transfer,
    uncertainty,
)
from cgloop.validate.family import DECLARED

_OF_THE_MODEL = (
    static.PRIOR,
    static.GRADIENT,
    static.SYMMETRY,
    artifact.PARITY_FORCES,
    artifact.PARITY_ENERGY,
    training.CONVERGED,
    network.HELPS,
    artifact.FORCE_ERROR,
)

CHECKS: dict[str, Check] = {
    check.name: check
    for check in (
        *_OF_THE_MODEL,
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

OF_THE_MODEL = frozenset(check.name for check in _OF_THE_MODEL)
"""Checks that belong to the artifact; all others are made for every protein."""
