"""Analyses the files of a run with error bars, and judges them; knows neither the model nor LAMMPS."""
