"""How often the gate is right: python -m benchmarks.gate_power --runs 200 --out benchmarks/results/DATE-gate-power.json

Exact synthetic runs (tests/validate/synthetic.py) are written as files, measured and judged by the code that judges
real ones, with all controls. Healthy ones, whose model samples the reference's own distribution, should pass and must
not fail; wrong ones must not pass. For each set: rates of the three verdicts of the gate and of every check, with 95 %
Clopper–Pearson intervals.
"""

import argparse
import json
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scipy import stats

from cgloop.config.validate import REQUIRED, GateConfig
from cgloop.progress import progress
from tests.validate import synthetic
from tests.validate.synthetic import Lengths

EXAMPLE = Path(__file__).parent.parent / "examples" / "chignolin" / "mdcath_dataset_cln025.h5"
SETS = {"as in the example": Lengths(), "twice as long": Lengths(nvt_ps=400.0, nve_ps=50.0)}
WRONG_SET = "as in the example"
VERDICTS = ("pass", "fail", "inconclusive")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="healthy runs of each length")
    parser.add_argument("--wrong", type=int, default=50, help="runs of each wrong model")
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    names, chain = synthetic.real_chain(EXAMPLE)
    required = list(REQUIRED)
    result: dict[str, Any] = {
        "system": "CLN025 as a chain of Gaussian bonds, angles and dihedrals",
        "required": required,
        "significance": GateConfig().significance,
        "lengths": {name: asdict(lengths) for name, lengths in SETS.items()},
        "healthy": {},
        "wrong": {},
    }
    for name, lengths in SETS.items():
        runs = (synthetic.healthy_run(names, chain, seed, lengths) for seed in range(chosen.runs))
        result["healthy"][name] = _rates(name, runs, chosen.runs, lengths, required)
    lengths, first = SETS[WRONG_SET], 10_000
    for name in (*synthetic.DAMAGED, *synthetic.OTHER_MODELS):
        runs = (_wrong(name, names, chain, first + seed, lengths) for seed in range(chosen.wrong))
        result["wrong"][name] = _rates(name, runs, chosen.wrong, lengths, required)
    chosen.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _wrong(name: str, names: list[str], chain: Any, seed: int, lengths: Lengths) -> Any:
    if name in synthetic.OTHER_MODELS:
        return synthetic.healthy_run(names, chain, seed, lengths, synthetic.OTHER_MODELS[name](chain))
    run = synthetic.healthy_run(names, chain, seed, lengths)
    synthetic.DAMAGED[name](run)
    return run


def _rates(name: str, runs: Any, count: int, lengths: Lengths, required: list[str]) -> dict[str, Any]:
    gate: Counter[str] = Counter()
    checks: dict[str, Counter[str]] = {}
    why: Counter[str] = Counter()
    with progress(name, total=count, unit="run") as bar:
        for run in runs:
            with tempfile.TemporaryDirectory() as folder:
                verdict = synthetic.gate_of(run, lengths, Path(folder) / "run", required)
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
