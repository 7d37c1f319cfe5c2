"""The coarse-grained data set: written by `prep`, read by everything else."""
