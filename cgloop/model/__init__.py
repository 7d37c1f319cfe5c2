"""The energy function: prior terms plus a network, on flat graphs. Arrays in, energies out; no files."""
