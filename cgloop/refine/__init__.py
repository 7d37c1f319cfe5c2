"""Refinement: parameters from what the model's own dynamics show, by minimizing the relative entropy."""
