"""How far the structural checks tell a protein at one temperature from the same protein at another.

    python -m benchmarks.check_power mdcath_dataset_cln025.h5 --low 320 --high 450 --frame-ps 4 --lengths 100 1600

Blocks of single trajectories at the lower temperature are compared with all other trajectories there, and blocks at
the higher one with all at the lower. What a check can tell at a length is the share of the latter that are beyond its
limit: the floor, or the 95th percentile of the former.
"""

import argparse
from pathlib import Path

import numpy as np

from cgloop.config.validate import ValidateConfig
from cgloop.prep.mapping import map_to_ca
from cgloop.prep.mdcath import MdcathFile
from cgloop.validate.distances import Disagreement, Divergence, Metric, Wasserstein
from cgloop.validate.family import COMPARISONS
from cgloop.validate.observables import Frames, Protein, observe
from cgloop.validate.structure import StructuralCheck, Target

BLOCKS = 40
"""Of a trajectory, evenly spaced and overlapping where they must."""


def read(path: Path, low: float, high: float, settings: ValidateConfig) -> tuple[Protein, dict[float, list[Frames]]]:
    """Observables per replica at both temperatures."""
    with MdcathFile(path) as file:
        beads = map_to_ca(file.atoms, path)
        protein = Protein.of(beads.native, beads.linked, settings, beads.residue_type)
        found: dict[float, list[Frames]] = {low: [], high: []}
        for trajectory in file.trajectories:
            if trajectory.temperature_K in found:
                positions = np.concatenate([block.positions[:, beads.atom] for block in trajectory.blocks()])
                found[trajectory.temperature_K].append(observe(positions, protein, settings))
    return protein, found


def metric_of(spec: StructuralCheck, target: Target, high: list[np.ndarray]) -> Metric:
    """The distance of a check with every class counted, however few its samples: the length is what is varied here."""
    view, sample = target.view(spec), target.sample(spec)
    low = [view.feature(frames) for frames in target.frames]
    if spec.check.family in ("local", "pair"):
        few = ValidateConfig(class_min_effective_samples=1e-9)
        found = Target(target.protein, target.frames, target.temperature_K, few)
        metric = found.view(spec).metric(found.sample(spec), found.sample(spec))
        assert isinstance(metric, Divergence)
        return metric
    metric = view.metric(sample, sample)
    return Wasserstein.of(*low, *high) if isinstance(metric, Wasserstein) else metric


def blocks(features: np.ndarray, length: int) -> list[np.ndarray]:
    last = max(len(features) - length, 0)
    starts = np.unique(np.linspace(0, last, min(BLOCKS, last + 1)).astype(int))
    return [features[start : start + length] for start in starts]


def power(spec: StructuralCheck, target: Target, high: list[Frames], length: int) -> tuple[float, float, float, float]:
    """Median distance of blocks at the lower temperature, their 95th percentile, median at the higher, and power."""
    view = target.view(spec)
    low_features, high_features = ([view.feature(f) for f in frames] for frames in (target.frames, high))
    metric = metric_of(spec, target, high_features)

    def first(one: np.ndarray, other: np.ndarray) -> float:
        start = np.zeros(1, int)
        if isinstance(metric, Disagreement):
            other = one
        return float(metric.distances(metric.summaries(one, start)[0], metric.summaries(other, start)[0])[0])

    own = [
        first(block, np.concatenate([f for q, f in enumerate(low_features) if q != r]))
        for r, features in enumerate(low_features)
        for block in blocks(features, length)
    ]
    everything = np.concatenate(low_features)
    other = [first(block, everything) for features in high_features for block in blocks(features, length)]
    noise = float(np.percentile(own, 95))
    limit = max(view.measures[0].floor, noise)
    return float(np.median(own)), noise, float(np.median(other)), float(np.mean(np.array(other) > limit))


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="mdCATH layout")
    parser.add_argument("--low", type=float, default=320.0, help="K, the reference")
    parser.add_argument("--high", type=float, default=450.0, help="K")
    parser.add_argument("--frame-ps", type=float, required=True, help="time between frames")
    parser.add_argument("--lengths", type=float, nargs="+", default=[100.0, 1600.0], help="of a block, ps")
    chosen = parser.parse_args()
    settings = ValidateConfig()
    protein, found = read(chosen.file, chosen.low, chosen.high, settings)
    target = Target(protein, found[chosen.low], chosen.low, settings)
    columns = [f"{chosen.low:g} K", "95 %", f"{chosen.high:g} K", "power"]
    print("| check | floor |" + "".join(f" {c}, {length:g} ps |" for length in chosen.lengths for c in columns))
    print("|---|---|" + "---|" * (len(columns) * len(chosen.lengths)))
    for spec in COMPARISONS:
        cells = []
        for length in chosen.lengths:
            *values, able = power(spec, target, found[chosen.high], round(length / chosen.frame_ps))
            cells += [*(f"{value:.2g}" for value in values), f"{able:.0%}"]
        floor = target.view(spec).measures[0].floor
        print(f"| `{spec.check.name}` | {floor:.2g} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
