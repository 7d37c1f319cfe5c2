"""How often the gate is right: python -m benchmarks.gate_power --runs 200 --out benchmarks/results/DATE-gate-power.json

Exact synthetic runs (tests/validate/synthetic.py) are written as files, measured and judged by the code that judges
real ones, with all controls. Healthy ones, whose model samples the reference's own distribution, should pass and must
not fail; wrong ones must not pass. For each set: rates of the three verdicts of the gate and of every check, with 95 %
Clopper–Pearson intervals.
"""

import argparse
import json
import multiprocessing
import tempfile
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from scipy import stats

from cgloop.config.validate import REQUIRED, GateConfig
from cgloop.progress import progress
from tests.validate import synthetic
from tests.validate.synthetic import Lengths

EXAMPLE = Path(__file__).parent.parent / "examples" / "chignolin" / "mdcath_dataset_cln025.h5"
EXAMPLE_SET, LONG_SET = "as in the example", "twice as long"
SETS = {EXAMPLE_SET: Lengths(), LONG_SET: Lengths(nvt_ps=400.0, nve_ps=50.0)}
VERDICTS = ("pass", "fail", "inconclusive")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="healthy runs as in the example")
    parser.add_argument("--wrong", type=int, default=50, help="runs of each wrong model")
    parser.add_argument("--long", type=int, default=200, help="healthy runs of twice the length")
    parser.add_argument("--processes", type=int, default=1, help="side by side; the numbers do not depend on it")
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    result: dict[str, Any] = {
        "system": "CLN025 as a chain of Gaussian bonds, angles and dihedrals",
        "required": list(REQUIRED),
        "significance": GateConfig().significance,
        "lengths": {name: asdict(lengths) for name, lengths in SETS.items()},
        "healthy": {},
        "wrong": {},
    }
    wrong = (*synthetic.DAMAGED, *synthetic.OTHER_MODELS)
    first = 10_000
    plan = [
        ("healthy", EXAMPLE_SET, "", EXAMPLE_SET, 0, chosen.runs),
        *(("wrong", name, name, EXAMPLE_SET, first, chosen.wrong) for name in wrong),
        ("healthy", LONG_SET, "", LONG_SET, 0, chosen.long),
    ]
    # Not forked: libraries that have started threads do not survive it.
    with ProcessPoolExecutor(chosen.processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for section, name, damage, lengths, start, count in plan:
            if count:
                seeds = range(start, start + count)
                verdicts = pool.map(partial(judged, damage, SETS[lengths]), seeds)
                result[section][name] = _rates(name, verdicts, count)
                chosen.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def judged(damage: str, lengths: Lengths, seed: int) -> dict[str, Any]:
    """The gate's verdict of one run: a healthy one, or one with this damage or of this other model."""
    names, chain = synthetic.real_chain(EXAMPLE)
    other = synthetic.OTHER_MODELS.get(damage)
    run = synthetic.healthy_run(names, chain, seed, lengths, other(chain) if other else None)
    if damage in synthetic.DAMAGED:
        synthetic.DAMAGED[damage](run)
    with tempfile.TemporaryDirectory() as folder:
        return synthetic.gate_of(run, lengths, Path(folder) / "run", REQUIRED)


def _rates(name: str, verdicts: Iterable[dict[str, Any]], count: int) -> dict[str, Any]:
    gate: Counter[str] = Counter()
    checks: dict[str, Counter[str]] = {}
    why: Counter[str] = Counter()
    with progress(name, total=count, unit="run") as bar:
        for verdict in verdicts:
            gate["refused" if verdict["refused"] else verdict["verdict"]] += 1
            for check in verdict["checks"]:
                if check["required"]:
                    checks.setdefault(check["check"], Counter())[check["verdict"]] += 1
                    if check["verdict"] != "pass":
                        why[f"{check['check']} {check['verdict']}: {_cause(check['reason'])}"] += 1
            bar.advance(1)
    print(name, dict(gate), *(f"\n  {n:4d} {text}" for text, n in why.most_common(12)), flush=True)
    return {
        "runs": count,
        "gate": {verdict: _interval(gate[verdict], count) for verdict in (*VERDICTS, "refused")},
        "checks": {check: {v: _interval(found[v], count) for v in VERDICTS} for check, found in checks.items()},
        "causes": dict(why.most_common(12)),
    }


def _cause(reason: str) -> str:
    """A reason without its numbers."""
    return "".join("#" if letter.isdigit() else letter for letter in reason.split(", but ")[-1])[:80]


def _interval(count: int, total: int) -> dict[str, float]:
    """A rate and its 95 % Clopper–Pearson interval."""
    interval = stats.binomtest(count, total).proportion_ci(0.95, method="exact")
    return {"rate": count / total, "low": float(interval.low), "high": float(interval.high)}


if __name__ == "__main__":
    main()
