"""Where work runs: this machine, or the nodes of a cluster that SLURM hands out."""
