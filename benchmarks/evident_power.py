"""How often the verdict of comparisons is right with short references: python -m benchmarks.evident_power --runs 60

Each run has `CHECKS` independent scalar observables, compared by the Wasserstein distance at a limit of half a standard
deviation of the fast motion, as model against reference by the code that judges real ones; fails that are not evident
go through Holm's procedure together, as in the gate. Processes are stationary: fast ones, whose lineages have several
effective samples, and two-state ones whose states last three times as long as a lineage. Hopeless models are six limits
or more away from every lineage. Random numbers are fixed; the numbers do not depend on the machine.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.signal import lfilter

from cgloop.config.validate import GateConfig, ValidateConfig
from cgloop.validate.comparison import Comparison, compare
from cgloop.validate.distances import Wasserstein
from cgloop.validate.measure import Measure
from cgloop.validate.sample import Sample, equilibrated
from cgloop.validate.statistics import holm, student_t

CHECKS = 6
LIMIT = 0.5
MODEL_REPLICAS = 8
FRAMES = 250
FAR = 6.0
"""Distance of a hopeless model, limits."""


class Process(NamedTuple):
    """A stationary process.

    Attributes:
        memory: correlation time of the fast motion, frames.
        step: distance of the second state, standard deviations of the fast motion; 0 for one state.
        share: equilibrium probability of the second state.
    """

    memory: float
    step: float = 0.0
    share: float = 0.0

    def lineage(self, rng: np.random.Generator, shift: float = 0.0) -> np.ndarray:
        """Return a series [FRAMES]."""
        keep = np.exp(-1.0 / self.memory)
        noise = rng.normal(size=FRAMES) * np.sqrt(1 - keep**2)
        noise[0] = rng.normal()
        return shift + np.asarray(lfilter([1.0], [1.0, -keep], noise)) + self.step * self._states(rng)

    def _states(self, rng: np.random.Generator) -> np.ndarray:
        """Return a Markov chain of two states with a relaxation time of three lineages."""
        if not self.step:
            return np.zeros(FRAMES)
        rate = 1.0 / (3 * FRAMES)
        state, states = rng.random() < self.share, np.zeros(FRAMES)
        for frame, draw in enumerate(rng.random(FRAMES)):
            state = (not state) if draw < rate * (1 - self.share if state else self.share) else state
            states[frame] = state
        return states


PROCESSES = {
    "fast, 12 samples a lineage": Process(10.0),
    "slow, 5 samples a lineage": Process(25.0),
    "two states, second 20 %": Process(5.0, 3.0, 0.2),
    "two states, second 50 %": Process(5.0, 3.0, 0.5),
}
REFERENCES = (2, 4, 8, 13)


def sample_of(process: Process, lineages: int, rng: np.random.Generator, shift: float = 0.0) -> Sample:
    series = [process.lineage(rng, shift) for _ in range(lineages)]
    return equilibrated(series, series, ValidateConfig().max_trim)


def judged(process: Process, lineages: int, seed: int, shift: float) -> tuple[str, int, float]:
    """Return the verdict of all checks together, how many of them fail evidently, and the reference's samples."""
    rng = np.random.default_rng([11, seed])
    settings = ValidateConfig(noise_blocks=60)
    outcomes = []
    for _ in range(CHECKS):
        model, reference = sample_of(process, MODEL_REPLICAS, rng, shift), sample_of(process, lineages, rng)
        metric = Wasserstein.of(*model.replicas, *reference.replicas)
        outcomes.append(compare(model, reference, metric, (Measure("distance", "", LIMIT),), settings))
    evident = sum(one.evident for one in outcomes)
    samples = float(np.median([one.n_effective_reference for one in outcomes]))
    return _together(outcomes), evident, samples


def _together(outcomes: list[Comparison]) -> str:
    if any(one.evident for one in outcomes):
        return "fail"
    freedom = MODEL_REPLICAS - 1
    excess = np.array([(one.values - one.limits)[0] / one.errors[0] for one in outcomes]) * student_t(freedom)
    corrected = holm(stats.t.sf(excess, freedom))
    if any(
        one.verdict == "fail" and p <= GateConfig().significance for one, p in zip(outcomes, corrected, strict=True)
    ):
        return "fail"
    return "pass" if all(one.verdict == "pass" for one in outcomes) else "inconclusive"


def rows(runs: int) -> Iterator[dict[str, object]]:
    """One row for every process, number of lineages of the reference, and kind of model."""
    for name, process in PROCESSES.items():
        for lineages in REFERENCES:
            for model, shift in (("right", 0.0), ("hopeless", -FAR * LIMIT - process.step)):
                found = [judged(process, lineages, seed, shift) for seed in range(runs)]
                verdicts = Counter(verdict for verdict, _, _ in found)
                failed = stats.binomtest(verdicts["fail"], runs).proportion_ci(0.95, method="exact")
                yield {
                    "process": name, "lineages": lineages, "model": model, "runs": runs,
                    "effective_samples": float(np.median([samples for *_, samples in found])),
                    **{verdict: verdicts[verdict] / runs for verdict in ("pass", "fail", "inconclusive")},
                    "fail_low": float(failed.low), "fail_high": float(failed.high),
                    "evident": float(np.mean([evident > 0 for _, evident, _ in found])),
                }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=60, help="of each row; hopeless and right models alike")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    print("| process | lineages | effective samples | model | pass | fail | inconclusive |")
    print("|---|---|---|---|---|---|---|")
    kept = []
    for row in rows(chosen.runs):
        kept.append(row)
        print(
            "| {process} | {lineages} | {effective_samples:.0f} | {model} | {pass:.0%} | "
            "{fail:.0%} ({fail_low:.1%}–{fail_high:.1%}) | {inconclusive:.0%} |".format(**row),
            flush=True,
        )
    if chosen.out:
        chosen.out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
