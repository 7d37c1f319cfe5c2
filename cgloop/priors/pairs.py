"""Parameters of electrostatics and residue-pair contacts."""

import numpy as np

from cgloop.config.priors import ElectrostaticsConfig
from cgloop.units import COULOMB, thermal_energy

PARTICLES_PER_A3 = 6.02214076e-4
"""Number density of a solution of 1 mol/l, 1/Å³."""

CELSIUS = 273.15


def water_dielectric(temperature_K: float) -> float:
    """Relative permittivity of water at 1 bar, measured from 0 to 100 °C and extrapolated beyond.

    Source: C. G. Malmberg, A. A. Maryott, J. Res. Natl. Bur. Stand. 56, 1 (1956).
    """
    t = temperature_K - CELSIUS
    return 87.740 - 0.40008 * t + 9.398e-4 * t**2 - 1.410e-6 * t**3


def debye_length(dielectric: float, salt_mol_per_l: float, temperature_K: float) -> float:
    """Screening length in Å of a 1:1 salt: 1/√(8π l_B n) with the Bjerrum length l_B = C/(ε kT)."""
    bjerrum = COULOMB / (dielectric * thermal_energy(temperature_K))
    return float(1.0 / np.sqrt(8.0 * np.pi * bjerrum * salt_mol_per_l * PARTICLES_PER_A3))


def electrostatics(config: ElectrostaticsConfig, temperature_K: float) -> np.ndarray:
    """[2]: energy of two unit charges times distance (kcal/mol·Å), and the Debye length (Å)."""
    dielectric = config.dielectric or water_dielectric(temperature_K)
    return np.array([COULOMB / dielectric, debye_length(dielectric, config.salt_mol_per_l, temperature_K)])


def invert_contacts(counts: np.ndarray, pseudo_counts: float, kT: float) -> np.ndarray:
    """Contact energies [20, 20] in kcal/mol, symmetric: −kT ln of contacts found over contacts expected.

    Expected are those of a reference in which every pair of residues touches as often as the average pair. Both are
    raised by `pseudo_counts`, so that pairs without data have no energy: the quasi-chemical approximation of
    S. Miyazawa, R. L. Jernigan, Macromolecules 18, 534 (1985), regularised.

    Args:
        counts: [2, 20, 20], contacts and pairs by residue types, in any order of the two.
        pseudo_counts: strength of the regularisation, in expected contacts.
        kT: kcal/mol.
    """
    found, pairs = (part + part.T for part in counts)
    expected = pairs * (found.sum() / max(pairs.sum(), 1.0))
    return -kT * np.log((found + pseudo_counts) / (expected + pseudo_counts))
