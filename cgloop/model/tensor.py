"""Irreducible tensors of rotations: real spherical harmonics and Clebsch–Gordan products, l ≤ 3.

A tensor of degree l is a list of its 2l + 1 components, each an array of any one shape (here [edges, channels]). So a
product is a handful of elementwise multiplications, one for each non-zero coefficient, which the compiler fuses.
Basis: that of e3nn (y is the polar axis, components ordered m = −l … l), "component" normalisation: the squares of the
components of Y_l add up to 2l + 1 on the unit sphere.
"""

import re
from functools import cache
from math import factorial, sqrt
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Tensor = list[jax.Array]
"""Components m = −l … l."""

MAX_DEGREE = 3


class Irrep(NamedTuple):
    """An irreducible representation of O(3): degree l and parity +1 or −1."""

    degree: int
    parity: int


def parse_irreps(text: str) -> tuple[int, tuple[Irrep, ...]]:
    """Multiplicity and irreps of, for example, `32x0e+32x1o+32x2e` (one multiplicity for all).

    Raises:
        ValueError: not of that form, several multiplicities, or a degree over 3.
    """
    parts = [re.fullmatch(r"(\d+)x(\d)([eo])", part.strip()) for part in text.split("+")]
    matches = [part for part in parts if part is not None]
    if len(matches) != len(parts) or len({part[1] for part in matches}) != 1:
        raise ValueError(f"irreps `{text}` are not of the form 32x0e+32x1o+32x2e with one multiplicity")
    irreps = tuple(Irrep(int(part[2]), 1 if part[3] == "e" else -1) for part in matches)
    if max(irrep.degree for irrep in irreps) > MAX_DEGREE:
        raise ValueError(f"irreps `{text}`: degrees over {MAX_DEGREE} are not available")
    return int(matches[0][1]), irreps


def spherical_harmonics(unit_vectors: jax.Array, max_degree: int) -> list[Tensor]:
    """Real spherical harmonics of degrees 0 … max_degree ≤ 3.

    Args:
        unit_vectors: [E, 3].
        max_degree: largest degree.

    Returns:
        for each degree l the 2l + 1 components, each [E].
    """
    x, y, z = unit_vectors[:, 0], unit_vectors[:, 1], unit_vectors[:, 2]
    harmonics: list[Tensor] = [[jnp.ones_like(x)]]
    if max_degree >= 1:
        harmonics.append([sqrt(3) * x, sqrt(3) * y, sqrt(3) * z])
    if max_degree >= 2:
        harmonics.append(
            [
                sqrt(15) * x * z,
                sqrt(15) * x * y,
                sqrt(5) * (y * y - 0.5 * (x * x + z * z)),
                sqrt(15) * y * z,
                sqrt(15) / 2 * (z * z - x * x),
            ]
        )
    if max_degree >= 3:
        rest = 4.0 * y * y - x * x - z * z
        harmonics.append(
            [
                sqrt(70) / 4 * x * (3.0 * z * z - x * x),
                sqrt(105) * x * y * z,
                sqrt(42) / 4 * x * rest,
                sqrt(7) / 2 * y * (2.0 * y * y - 3.0 * (x * x + z * z)),
                sqrt(42) / 4 * z * rest,
                sqrt(105) / 2 * y * (z * z - x * x),
                sqrt(70) / 4 * z * (z * z - 3.0 * x * x),
            ]
        )
    return harmonics


def couple(first: Tensor, second: Tensor, degree: int) -> Tensor:
    """The part of degree `degree` of the product of two tensors (degrees follow from their numbers of components).

    Components of unit variance give components of unit variance.
    """
    coefficients = clebsch_gordan((len(first) - 1) // 2, (len(second) - 1) // 2, degree)
    out: Tensor = []
    for m in range(2 * degree + 1):
        products = [
            (float(coefficients[i, j, m]) * first[i]) * second[j] for i, j in np.argwhere(coefficients[:, :, m])
        ]
        out.append(sum(products[1:], start=products[0]))
    return out


@cache
def clebsch_gordan(l1: int, l2: int, l3: int) -> np.ndarray:
    """Clebsch–Gordan coefficients in the real basis, float64 [2l1+1, 2l2+1, 2l3+1], exact zeros where they vanish.

    Normalised so that the squares add up to 1 for each m3. The overall sign is a convention.
    """
    complex_coefficients = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
    for m1 in range(-l1, l1 + 1):
        for m2 in range(-l2, l2 + 1):
            if abs(m1 + m2) <= l3:
                complex_coefficients[l1 + m1, l2 + m2, l3 + m1 + m2] = _racah(l1, m1, l2, m2, l3)
    real = np.einsum(
        "ai,bj,ck,ijk->abc",
        _real_from_complex(l1).conj(),
        _real_from_complex(l2).conj(),
        _real_from_complex(l3),
        complex_coefficients,
    )
    # A product of odd l1 + l2 + l3 comes out purely imaginary: the factor i is part of the basis' convention.
    coefficients = real.imag if (l1 + l2 + l3) % 2 else real.real
    coefficients = np.where(np.abs(coefficients) < 1e-12, 0.0, coefficients)
    coefficients.setflags(write=False)
    return coefficients


def _real_from_complex(degree: int) -> np.ndarray:
    """Unitary matrix from complex spherical harmonics (Condon–Shortley phase) to real ones, m = −l … l."""
    matrix = np.zeros((2 * degree + 1, 2 * degree + 1), dtype=complex)
    matrix[degree, degree] = 1.0
    for m in range(1, degree + 1):
        sign = (-1) ** m
        matrix[degree + m, degree + m] = sign / sqrt(2)
        matrix[degree + m, degree - m] = 1 / sqrt(2)
        matrix[degree - m, degree - m] = 1j / sqrt(2)
        matrix[degree - m, degree + m] = -1j * sign / sqrt(2)
    return matrix


def _racah(l1: int, m1: int, l2: int, m2: int, l3: int) -> float:
    """⟨l1 m1 l2 m2 | l3 m1+m2⟩ by Racah's formula (Phys. Rev. 62, 438 (1942))."""
    m3 = m1 + m2
    if not abs(l1 - l2) <= l3 <= l1 + l2:
        return 0.0
    f = factorial
    prefactor = sqrt((2 * l3 + 1) * f(l3 + l1 - l2) * f(l3 - l1 + l2) * f(l1 + l2 - l3) / f(l1 + l2 + l3 + 1)) * sqrt(
        f(l3 + m3) * f(l3 - m3) * f(l1 - m1) * f(l1 + m1) * f(l2 - m2) * f(l2 + m2)
    )
    total = 0.0
    for k in range(l1 + l2 - l3 + 1):
        terms = (k, l1 + l2 - l3 - k, l1 - m1 - k, l2 + m2 - k, l3 - l2 + m1 + k, l3 - l1 - m2 + k)
        if min(terms) >= 0:
            total += (-1) ** k / np.prod([float(f(term)) for term in terms])
    return prefactor * total
