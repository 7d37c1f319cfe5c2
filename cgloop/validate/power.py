"""What each check cannot see, in words, for the verdict and the page: a pass is worth what its checks can find.

Rates are those of `python -m benchmarks.gate_power`; docs/validation.md says how they were measured.
"""

POWER_NOTES: dict[str, str] = {
    "static.prior": "Each term alone, and the network not at all: minima of several terms together are not seen.",
    "static.gradient": "Steps of the energy that lie between its three frames are not seen; drift and order in "
    "NVE look at every step.",
    "static.symmetry": "Three frames; an energy that does not know left from right is as invariant as one that does.",
    "training.network_helps": "A mean over held-out frames: a network that helps where the frames are may do harm "
    "where there are none, which only the dynamics show.",
    "parity.forces": "Frames of other proteins, and states that its cases do not contain, are not compared.",
    "parity.energy": "Does not see an error of the energy that is the same in LAMMPS and in JAX.",
    "stability.survival": "That nothing broke in S ns bounds the rate of crashes below 3/S per ns (95 %), no further.",
    "minimize.converged": "Shows that the minimizer converged, not that the minimum is right; how far it is from "
    "the start frames (RMSD) is a caution above 2 Å.",
    "nvt.temperature": "Errors of less than its limit are not seen; to know the mean temperature of 10 beads to 1 % "
    "takes about 2 ns of all replicas together. A thermostat can hide heat that the forces produce: NVE shows that.",
    "nvt.distribution": "A distribution that is wrong by less than sampling shows is passed; the power grows with the "
    "length of the run.",
    "nvt.equipartition": "Types with few beads are decided last; a difference of a few per cent needs nanoseconds.",
    "nve.drift": "A drift that reverses its sign within the run is not seen as one.",
    "nve.order": "A force that is wrong but the gradient of a smooth energy is integrated at second order as well.",
    "structure.rmsd": "Two ensembles at the same distances from the native structure, in different directions, are the "
    "same to it; so are those closer than its limit.",
    "structure.mirror": "Judges folded frames only; nothing about a fold that is its own mirror image.",
    "structure.contacts": "Blind to handedness: a mirror image has the same contacts. Averages: correlations between "
    "contacts are not compared.",
    "structure.q": "Blind to handedness and to contacts that the native structure does not have; a model whose every "
    "fluctuation is 20 % too large passed the usual checks in 7 of 12 runs.",
    "structure.rg": "One number a frame: another fold of the same size is the same to it.",
    "structure.end_to_end": "Two beads only; what happens between them is not seen.",
    "structure.handedness": "Dihedrals near ±180°, as in strands, have no sign that counts. What is folded at both "
    "temperatures has the same signs at both: then it is reported.",
    "local.bonds": "Bond lengths hardly depend on temperature or fold: blind to both.",
    "local.angles": "Within 100 ps the reference's own blocks differ by twice its limit; correlations between angles "
    "are not compared.",
    "local.dihedrals": "Within 100 ps the reference's own blocks differ by more than twice its limit; correlations "
    "between dihedrals are not compared.",
    "pair.distances": "Blind to handedness. Pairs of the same separation share a histogram: an exchange between them "
    "is not seen.",
    "ensemble.surface": "Two slow components of the reference: what is fast, and what the reference has not visited, "
    "is not seen.",
}
"""By name of the check."""
