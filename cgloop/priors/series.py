"""Fourier series fitted to a potential, by weighted ridge least squares with linear inequalities."""

import numpy as np


def cosine_basis(angles: np.ndarray, order: int) -> np.ndarray:
    """cos nθ, [G, order + 1]."""
    return np.cos(np.outer(angles, np.arange(order + 1)))


def cosine_slopes(angles: np.ndarray, order: int) -> np.ndarray:
    """d/dθ cos nθ, [G, order + 1]."""
    n = np.arange(order + 1)
    return -n * np.sin(np.outer(angles, n))


def periodic_basis(angles: np.ndarray, order: int) -> np.ndarray:
    """cos nφ for n = 0 … order, then sin nφ for n = 1 … order: [G, 2 order + 1]."""
    return np.concatenate([cosine_basis(angles, order), np.sin(np.outer(angles, np.arange(1, order + 1)))], axis=1)


def harmonic_numbers(n_columns: int, order: int) -> np.ndarray:
    """n of each column of a basis above."""
    n = np.arange(order + 1)
    return n if n_columns == order + 1 else np.concatenate([n, n[1:]])


def fit_series(
    basis: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray,
    harmonics: np.ndarray,
    ridge: float,
    lower: np.ndarray,
    bounds: np.ndarray,
) -> np.ndarray:
    """Coefficients c that minimise Σ_g w_g (basis_g·c − target_g)² + ridge Σ_n n⁴ c_n² under lower·c ≥ bounds.

    Solved as a least-distance problem through non-negative least squares: C. L. Lawson and R. J. Hanson,
    Solving Least Squares Problems, chapter 23 (SIAM, 1995).

    Args:
        basis: [G, C]. target, weights: [G]. harmonics: [C], n of each column.
        ridge: weight of the curvature.
        lower: [M, C]. bounds: [M].

    Raises:
        ValueError: no coefficients fulfil the inequalities.
    """
    return fit_linear(basis, target, weights, np.diag(np.sqrt(ridge) * harmonics.astype(float) ** 2), lower, bounds)


def fit_linear(
    basis: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray,
    penalty: np.ndarray,
    lower: np.ndarray,
    bounds: np.ndarray,
) -> np.ndarray:
    """As `fit_series`, with Σ (penalty·c)² in place of the weighted squares of the coefficients; penalty: [P, C]."""
    from scipy.linalg import solve_triangular
    from scipy.optimize import nnls

    root = np.sqrt(weights)
    tiny = 1e-9 * np.eye(basis.shape[1])
    rows = np.concatenate([basis * root[:, None], penalty, tiny])
    right = np.concatenate([target * root, np.zeros(len(penalty) + len(tiny))])
    q, r = np.linalg.qr(rows)
    free = q.T @ right
    if not len(lower):
        return solve_triangular(r, free)
    limits = solve_triangular(r, lower.T, trans="T").T
    # Shortest z with limits·z >= bounds - limits·free.
    system = np.concatenate([limits.T, (bounds - limits @ free)[None, :]])
    unit = np.zeros(len(system))
    unit[-1] = 1.0
    multipliers, distance = nnls(system, unit)
    if distance < 1e-9:
        raise ValueError("the inequalities contradict each other")
    residual = system @ multipliers - unit
    return solve_triangular(r, free - residual[:-1] / residual[-1])
