"""What LAMMPS makes of the exported model: minimisation, NVT, NVE, and the proof that it computes the same forces."""
