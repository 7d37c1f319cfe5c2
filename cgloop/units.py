"""Units and constants: LAMMPS `real` (Å, fs, kcal/mol, g/mol, K) everywhere.

The numbers are those of LAMMPS's `update.cpp` for `units real`, so that energies and temperatures
computed here and by LAMMPS agree to rounding.
"""

KB = 0.0019872067
"""Boltzmann constant, kcal/mol/K."""

COULOMB = 332.06371
"""Energy of two unit charges at 1 Å in vacuum, kcal/mol·Å."""

MVV_TO_KCAL_PER_MOL = 48.88821291 * 48.88821291
"""Converts g/mol · (Å/fs)² to kcal/mol."""

ACCELERATION = 1.0 / MVV_TO_KCAL_PER_MOL
"""Converts kcal/mol/Å / (g/mol) to Å/fs²."""

FS_PER_PS = 1000.0
FS_PER_NS = 1.0e6
ANGSTROM_PER_NM = 10.0
DEGREES_PER_RADIAN = 57.29577951308232


def thermal_energy(temperature_K: float) -> float:
    """k_B T in kcal/mol."""
    return KB * temperature_K
