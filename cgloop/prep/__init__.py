"""Preparation: all-atom trajectories to coarse-grained frames."""
