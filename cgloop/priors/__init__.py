"""Fitting the physical terms below the network."""
