"""The energy function: prior terms plus an Allegro network, on flat graphs. Arrays in, energies out; no files."""
