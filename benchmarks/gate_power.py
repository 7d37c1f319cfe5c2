"""How often the gate is right: python -m benchmarks.gate_power --out benchmarks/results/DATE-gate-power.json

Exact synthetic runs (tests/validate/synthetic.py) are written as files, measured and judged by the code that judges
real ones, with all controls; random numbers are fixed. For each set of runs: rates of the three verdicts of the gate
and of every required check with 95 % Clopper–Pearson intervals, causes, and the effective samples of the reference.

Sections (`--sections`, all by default):

- `example`: right models with the lengths of the example;
- `wrong`: wrong models with the same lengths;
- `short`: right models, short references, which move ten times as slowly as the model;
- `hopeless`: models far from everything that the reference visits, with the same references;
- `two states`: models and references that change between two conformations more slowly than a replica is long.

An existing file is updated, section by section. `--table FILE` prints the tables of docs/validation.md.
"""

import argparse
import json
import multiprocessing
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import stats

from cgloop.config.validate import GateConfig, ValidateConfig, required_by_default
from cgloop.progress import progress
from tests.validate import synthetic
from tests.validate.synthetic import Chain, Lengths

EXAMPLE = Path(__file__).parent.parent / "examples" / "chignolin" / "mdcath_dataset_cln025.h5"
VERDICTS = ("pass", "fail", "inconclusive")
REQUIRED = required_by_default("hybrid")
SLOWER = 10.0
"""Correlation times of a short reference over those of the model."""
ENOUGH_SAMPLES = 10.0
"""Effective samples of the reference from which a hopeless model has to fail."""
SEEDS_OF_A_SET = 10_000
AT_A_TIME = 4
"""Runs of a set before those of the next, so that a study that is ended early has some of all."""

Section = Literal["example", "wrong", "short", "hopeless", "two states"]
SECTIONS: tuple[Section, ...] = ("short", "two states", "hopeless", "example", "wrong")
EXAMPLE_LENGTHS = Lengths()
SHORT = {
    "2 × 1 ns": Lengths(reference_replicas=2, reference_ps=1000.0),
    "3 × 500 ps": Lengths(reference_replicas=3, reference_ps=500.0),
    "4 × 500 ps": Lengths(reference_replicas=4, reference_ps=500.0),
    "4 × 2 ns": Lengths(reference_replicas=4, reference_ps=2000.0),
    "13 × 1 ns": Lengths(reference_replicas=13, reference_ps=1000.0),
}
SLOW_MODEL = Lengths(nvt_ps=400.0, reference_replicas=4, reference_ps=500.0)
MANY = Lengths(replicas=40, nvt_ps=100.0, nve_ps=10.0, reference_replicas=40, reference_ps=250.0)
"""Of a process slower than its replicas only many replicas give the samples that a pass needs."""


@dataclass(frozen=True)
class RunSet:
    """Runs of one kind.

    Attributes:
        section, name: what they are.
        number: of the set, by which its random numbers differ from those of others.
        runs: how many.
        lengths: of model and reference.
        damage: what is done to the records of the run (`synthetic.DAMAGED`), or nothing.
        other: what the model samples (`synthetic.OTHER_MODELS`, `synthetic.HOPELESS`); "": what the reference does.
        slow_reference, slow_model: correlation times, relative to those of the chain.
        shares: equilibrium probability of the second state in model and reference; None: there is one state.
    """

    section: Section
    name: str
    number: int
    runs: int
    lengths: Lengths = EXAMPLE_LENGTHS
    damage: str = ""
    other: str = ""
    slow_model: float = 1.0
    slow_reference: float = 1.0
    shares: tuple[float, float] | None = None

    @property
    def seeds(self) -> range:
        first = SEEDS_OF_A_SET * self.number
        return range(first, first + self.runs)

    def chains(self, chain: Chain) -> tuple[Chain, Chain]:
        """Return what the model samples, and what the reference does."""
        if self.shares is not None:
            model, reference = (synthetic.unfolding(chain, share) for share in self.shares)
            return model, reference
        change = {**synthetic.OTHER_MODELS, **synthetic.HOPELESS}.get(self.other, lambda chain: chain)
        return synthetic.slower(change(chain), self.slow_model), synthetic.slower(chain, self.slow_reference)


def run_sets(counts: dict[Section, int]) -> list[RunSet]:
    """Return all sets, of so many runs each, or half as many where runs are long."""
    sets: list[RunSet] = []

    def add(section: Section, name: str, **chosen: Any) -> None:
        runs = counts[section] // (2 if chosen.get("lengths") is MANY else 1)
        sets.append(RunSet(section, name, len(sets), runs, **chosen))

    for name, lengths in SHORT.items():
        add("short", name, lengths=lengths, slow_reference=SLOWER)
    add(
        "short", "4 × 500 ps, model as slow (8 × 400 ps)",
        lengths=SLOW_MODEL, slow_model=SLOWER, slow_reference=SLOWER,
    )  # fmt: skip
    for other in synthetic.HOPELESS:
        for name, lengths in SHORT.items():
            add("hopeless", f"{other}, {name}", lengths=lengths, other=other, slow_reference=SLOWER)
    for share in (0.2, 0.5):
        for lineages in (4, 8, 13):
            lengths = Lengths(reference_replicas=lineages, reference_ps=1000.0)
            name = f"second state {share:.0%}, 8 × 200 ps against {lineages} × 1 ns"
            add("two states", name, lengths=lengths, shares=(share, share))
    for model, reference, lengths, name in (
        (0.8, 0.2, SHORT["13 × 1 ns"], "second state 80%, of the reference 20%, 8 × 200 ps against 13 × 1 ns"),
        (0.05, 0.05, MANY, "second state 5%, 40 × 100 ps against 40 × 250 ps"),
        (0.2, 0.2, MANY, "second state 20%, 40 × 100 ps against 40 × 250 ps"),
        (0.8, 0.2, MANY, "second state 80%, of the reference 20%, 40 × 100 ps against 40 × 250 ps"),
    ):
        add("two states", name, lengths=lengths, shares=(model, reference))
    add("example", "right model, 8 × 200 ps against 4 × 2 ns")
    for damage in synthetic.DAMAGED:
        add("wrong", damage, damage=damage)
    for other in synthetic.OTHER_MODELS:
        add("wrong", other, other=other)
    return sets


@dataclass(frozen=True)
class Outcome:
    """What the gate said of one run.

    Attributes:
        verdict: of the gate, or `refused`.
        checks: verdicts of the required checks.
        causes: what the required checks that did not pass said, without numbers.
        evident: names of the checks that failed evidently.
        samples: effective samples of the reference in the required comparisons.
        distance: the largest distance over its limit among them.
    """

    verdict: str
    checks: dict[str, str]
    causes: tuple[str, ...]
    evident: tuple[str, ...]
    samples: tuple[float, ...]
    distance: float

    @classmethod
    def of(cls, verdict: dict[str, Any]) -> "Outcome":
        """Return the outcome in a verdict of `judge`."""
        required = [check for check in verdict["checks"] if check["required"]]
        compared = [check for check in required if "n_effective_reference" in check["detail"]]
        return cls(
            "refused" if verdict["refused"] else verdict["verdict"],
            {check["check"]: check["verdict"] for check in required},
            tuple(f"{c['check']} {c['verdict']}: {_cause(c['reason'])}" for c in required if c["verdict"] != "pass"),
            tuple(check["check"] for check in required if check.get("evident") and check["verdict"] == "fail"),
            tuple(float(check["detail"]["n_effective_reference"]) for check in compared),
            max((_limits_away(check) for check in compared), default=0.0),
        )


def _limits_away(check: dict[str, Any]) -> float:
    """Return how many limits a distance is; a similarity is as far from 1."""
    value, limit = check["value"], check["threshold"]
    if value is None or limit is None:
        return 0.0
    return float((1.0 - value) / (1.0 - limit)) if check["direction"] == "at least" else float(value / limit)


def judged(runs: RunSet, seed: int) -> Outcome:
    """Return the outcome of one run."""
    names, chain = synthetic.real_chain(EXAMPLE)
    model, reference = runs.chains(chain)
    run = synthetic.healthy_run(names, chain, seed, runs.lengths, model, reference)
    run.settings = {"noise_blocks": ValidateConfig().noise_blocks}
    if runs.damage:
        synthetic.DAMAGED[runs.damage](run)
    with tempfile.TemporaryDirectory() as folder:
        return Outcome.of(synthetic.gate_of(run, runs.lengths, Path(folder) / "run", REQUIRED))


def summary_of(runs: RunSet, found: Sequence[Outcome]) -> dict[str, Any]:
    """Return rates of a set, from the outcomes of its runs."""
    count = len(found)
    gate = Counter(one.verdict for one in found)
    causes = Counter(cause for one in found for cause in one.causes)
    middle = [float(np.median(one.samples)) for one in found if one.samples]
    return {
        **{key: value for key, value in asdict(runs).items() if key != "runs"},
        "runs": count,
        "gate": {verdict: _interval(gate[verdict], count) for verdict in (*VERDICTS, "refused")},
        "checks": _by_check(found),
        "causes": dict(causes.most_common(12)),
        "failed_evidently": {
            "runs": sum(bool(one.evident) for one in found),
            "checks": dict(Counter(name for one in found for name in one.evident)),
        },
        "reference_samples": {
            "median_of_checks": _spread(middle),
            "smallest_of_checks": _spread([min(one.samples) for one in found if one.samples]),
        },
        "limits_away": _spread([one.distance for one in found]),
        "with_enough_samples": _enough(found, middle),
    }  # fmt: skip


def _by_check(found: Sequence[Outcome]) -> dict[str, dict[str, dict[str, float]]]:
    """Return the rates of the verdicts of each required check."""
    verdicts: dict[str, Counter[str]] = {}
    for one in found:
        for name, verdict in one.checks.items():
            verdicts.setdefault(name, Counter())[verdict] += 1
    return {
        name: {verdict: _interval(count[verdict], len(found)) for verdict in VERDICTS}
        for name, count in sorted(verdicts.items())
    }


def _enough(found: Sequence[Outcome], middle: Sequence[float]) -> dict[str, int]:
    """Return how many references have enough samples by the median of the checks, and how many of these runs failed."""
    enough = [one for one, samples in zip(found, middle, strict=True) if samples >= ENOUGH_SAMPLES] if middle else []
    return {"runs": len(enough), "failed": sum(one.verdict == "fail" for one in enough)}


def _cause(reason: str) -> str:
    """Return a reason without its numbers."""
    return "".join("#" if letter.isdigit() else letter for letter in reason.split(", but ")[-1])[:100]


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Return percentiles."""
    return {f"p{q}": float(np.percentile(values, q)) for q in (0, 5, 50, 95, 100)} if values else {}


def _interval(count: int, total: int) -> dict[str, float]:
    """Return a rate and its 95 % Clopper–Pearson interval."""
    interval = stats.binomtest(count, total).proportion_ci(0.95, method="exact")
    return {"count": count, "rate": count / total, "low": float(interval.low), "high": float(interval.high)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--short", type=int, default=62, help="runs of each set of this section")
    parser.add_argument("--hopeless", type=int, default=5)
    parser.add_argument("--two-states", type=int, default=20)
    parser.add_argument("--example", type=int, default=60)
    parser.add_argument("--wrong", type=int, default=20)
    parser.add_argument("--processes", type=int, default=1, help="side by side; the numbers do not depend on it")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", type=Path, help="print the tables of these results, and nothing else")
    chosen = parser.parse_args()
    if chosen.table:
        print("\n".join(tables(json.loads(chosen.table.read_text(encoding="utf-8")))))
        return
    if not chosen.out:
        parser.error("--out is needed")
    counts: dict[Section, int] = {
        "short": chosen.short, "hopeless": chosen.hopeless, "two states": chosen.two_states,
        "example": chosen.example, "wrong": chosen.wrong,
    }  # fmt: skip
    measure(run_sets(counts), chosen.sections, chosen.processes, chosen.out)


def measure(sets: Sequence[RunSet], sections: Sequence[Section], processes: int, out: Path) -> None:
    """Judge all runs of some sections, some of each set in turn, and write what is known after each."""
    before = json.loads(out.read_text(encoding="utf-8"))["sets"] if out.exists() else []
    kept = {one["name"]: one for one in before if one["section"] not in sections}
    # Not forked: libraries that have started threads do not survive it.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for section in sections:
            chosen = [runs for runs in sets if runs.section == section]
            found: dict[str, list[Outcome]] = {runs.name: [] for runs in chosen}
            with progress(section, total=sum(runs.runs for runs in chosen), unit="run") as bar:
                for first in range(0, max((runs.runs for runs in chosen), default=0), AT_A_TIME):
                    for runs in chosen:
                        for outcome in pool.map(partial(judged, runs), runs.seeds[first : first + AT_A_TIME]):
                            found[runs.name].append(outcome)
                            bar.advance(1)
                        if found[runs.name]:
                            kept[runs.name] = summary_of(runs, found[runs.name])
                            _write(out, list(kept.values()))


def _write(out: Path, sets: list[dict[str, Any]]) -> None:
    result = {
        "system": "CLN025 as a chain of Gaussian bonds, angles and dihedrals",
        "required": REQUIRED,
        "significance": GateConfig().significance,
        "noise_blocks": ValidateConfig().noise_blocks,
        "sets": sorted(sets, key=lambda one: one["number"]),
    }
    out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def is_right(one: dict[str, Any]) -> bool:
    """Return whether the model of a set samples what the reference does."""
    return not one["damage"] and not one["other"] and (one["shares"] is None or len(set(one["shares"])) == 1)


def tables(result: dict[str, Any]) -> list[str]:
    """Return a table of each section, in Markdown, and the total of all right models."""
    lines = []
    for section in SECTIONS:
        sets = [one for one in result["sets"] if one["section"] == section]
        if not sets:
            continue
        lines += ["| runs | effective samples of the reference | number | pass | fail | inconclusive |"]
        lines += ["|---|---|---|---|---|---|"]
        if section == "hopeless":
            models = dict.fromkeys(one["other"] for one in sets)
            lines += [_total(name, [one for one in sets if one["other"] == name]) for name in models]
            lines += [_total("together", sets)]
        else:
            lines += map(_row, sets)
            right = [one for one in sets if is_right(one)]
            lines += [_total("right models together", right)] if len(right) > 1 else []
        lines += [""]
    return [*lines, _total("all right models", [one for one in result["sets"] if is_right(one)])]


def _row(one: dict[str, Any]) -> str:
    samples = one["reference_samples"]["median_of_checks"]
    shown = f"{samples['p50']:.0f} ({samples['p5']:.0f}–{samples['p95']:.0f})" if samples else ""
    cells = [_percent(one["gate"][verdict]) for verdict in VERDICTS]
    return f"| {one['name']} | {shown} | {one['runs']} | " + " | ".join(cells) + " |"


def _total(name: str, sets: Sequence[dict[str, Any]]) -> str:
    runs = sum(one["runs"] for one in sets)
    cells = [_percent(_interval(sum(one["gate"][verdict]["count"] for one in sets), runs)) for verdict in VERDICTS]
    found = [one["reference_samples"]["median_of_checks"] for one in sets]
    middle = [samples["p50"] for samples in found if samples]
    shown = f"{min(middle):.0f}–{max(middle):.0f}" if middle else ""
    return f"| {name} | {shown} | {runs} | " + " | ".join(cells) + " |"


def _percent(rate: dict[str, float]) -> str:
    return f"{100 * rate['rate']:.3g} % ({100 * rate['low']:.2f}–{100 * rate['high']:.2f})"


if __name__ == "__main__":
    main()
