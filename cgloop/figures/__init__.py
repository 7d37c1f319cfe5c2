"""Plots as plain data, and pages that draw them without the network."""
