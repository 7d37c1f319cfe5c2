"""Slow collective coordinates of a reference; the only file that imports deeptime."""

import warnings
from collections.abc import Callable

import numpy as np


def slowest_components(
    replicas: list[np.ndarray], lag: int, dimensions: int = 2
) -> Callable[[np.ndarray], np.ndarray] | None:
    """Return the time-lagged independent components (Pérez-Hernández et al., J. Chem. Phys. 139, 015102, 2013).

    Args:
        replicas: features [F_r, C] per replica, evenly spaced in time.
        lag: in frames.
        dimensions: how many components, slowest first.

    Returns:
        A function from features [F, C] to components [F, dimensions] of zero mean and unit variance in the reference;
        None if the features have fewer independent directions, or no replica is longer than the lag.
    """
    usable = [np.ascontiguousarray(values, float) for values in replicas if len(values) > lag + 1]
    if not usable:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from deeptime.covariance import Covariance
        from deeptime.decomposition import TICA

        # With the mean left in, the slowest "component" is a constant.
        covariance = Covariance(lagtime=lag, compute_c0t=True, remove_data_mean=True, reversible=True)
        for values in usable:
            covariance.partial_fit((values[:-lag], values[lag:]))
        try:
            model = TICA(lagtime=lag, dim=dimensions, scaling=None).fit_from_covariances(covariance).fetch_model()
        except (ValueError, np.linalg.LinAlgError):
            return None
    if model is None or model.output_dimension < dimensions:
        return None
    pooled = np.asarray(model.transform(np.concatenate(usable)))
    # The sign of a component is arbitrary: the longer tail points up, so that plots look alike.
    sign = np.where((pooled**3).mean(axis=0) < 0, -1.0, 1.0)
    return lambda features: np.asarray(model.transform(np.ascontiguousarray(features, float))) * sign
