"""Measuring: records of speed, their statistics, scaling over devices, roofline, profile, and pages of them."""
