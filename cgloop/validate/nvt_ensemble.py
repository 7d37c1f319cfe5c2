"""Are kinetic energies distributed as the thermostat's temperature says, among replicas, times and types of bead?"""

import math
from dataclasses import replace

import numpy as np
from scipy import stats

from cgloop.checks import Check, CheckResult, Curve, Plot, Verdict
from cgloop.config.validate import ValidateConfig
from cgloop.units import thermal_energy
from cgloop.validate.ensemble import kinetic_p_value
from cgloop.validate.rundata import StageRun
from cgloop.validate.sample import Doubt, Sample, equilibrated, in_words, sampling_doubts, together
from cgloop.validate.statistics import holm

DISTRIBUTION = Check(
    "nvt.distribution",
    "distribution of kinetic energy in NVT",
    "",
    "at least",
    "Chance, by the Kolmogorov–Smirnov test, of kinetic energies that fit the Gamma distribution of the run's degrees "
    "of freedom (3N in Langevin dynamics) at the set point no better than those of the run, over decorrelated samples "
    "of all replicas; at the temperature within a small margin of the set point that fits best.",
)
EQUIPARTITION = Check(
    "nvt.equipartition",
    "equipartition among bead types in NVT",
    "",
    "at least",
    "Smallest chance, over residue types and corrected by Holm's procedure, of a mean kinetic energy as far from "
    "½ kT per degree of freedom as that of the beads of this type, from the Gamma distribution of the mean of as many "
    "independent samples; deviations within a small margin of the temperature do not count.",
)

APART = 2.0
"""Samples of the distribution are so many statistical inefficiencies apart: after one, neighbours still are alike by
exp(−2) if correlation falls exponentially, and the test takes them for independent."""
MARGIN_POINTS = 5
BINS = 40


def distribution_check(run: StageRun, settings: ValidateConfig) -> CheckResult:
    """Distribution of kinetic energy in a complete NVT stage; see `DISTRIBUTION`."""
    kinetics = [replica.series["kinetic"] for replica in run.replicas]
    return judge_distribution(kinetics, run.n_beads, run.temperature_K, settings, run.protein, at_rest=run.at_rest)


def judge_distribution(
    kinetics: list[np.ndarray],
    n_beads: int,
    temperature_K: float,
    settings: ValidateConfig,
    subject: str,
    *,
    at_rest: bool = False,
) -> CheckResult:
    """As `distribution_check`, from the kinetic energies [T] of each replica in kcal/mol.

    With enough samples every test of a hypothesis finds the error of the time step, which shifts kinetic energies by
    (ωΔt)²/4 of the stiffest motion. So the hypothesis is that there is a temperature within the margin of the config
    that the samples are from.
    """
    if not all(np.isfinite(values).all() for values in kinetics):
        return _not_finite(DISTRIBUTION, subject, settings)
    sample = equilibrated(kinetics, kinetics, settings.max_trim)
    apart = max(1, math.ceil(APART * sample.inefficiency))
    chosen = np.concatenate([values[::apart] for values in sample.replicas])
    margin = settings.nvt_temperature_margin
    temperatures = temperature_K * (1.0 + margin * np.linspace(-1.0, 1.0, MARGIN_POINTS if margin else 1))
    p_value = max(kinetic_p_value(chosen, n_beads, at_rest, float(one)) for one in temperatures)
    doubts = sampling_doubts("model", sample, settings)
    if not doubts and not len(chosen) >= settings.min_effective_samples:
        factor = settings.min_effective_samples / len(chosen)
        doubts = [Doubt(f"only {len(chosen)} independent samples", {"run_factor": factor})]
    freedom = 3 * n_beads - (3 if at_rest else 0)
    shown = f"p = {p_value:.2g} from {len(chosen)} independent samples"
    verdict, reason, measured = _verdict(p_value, doubts, settings, shown)
    return CheckResult(
        check=DISTRIBUTION.name, subject=subject, value=p_value, error=0.0, threshold=settings.nvt_p_value,
        verdict=verdict, reason=reason, measured=measured, n_effective=sample.n_effective,
        detail={
            "p_value": p_value, "samples": len(chosen), "points_apart": apart, "degrees_of_freedom": freedom,
            "margin": margin, "needs": together(doubts) if verdict == "inconclusive" else {},
        },
        plot=_distribution_plot(sample.pooled(), freedom, temperature_K),
    )  # fmt: skip


def _not_finite(check: Check, subject: str, settings: ValidateConfig) -> CheckResult:
    return CheckResult(
        check=check.name, subject=subject, value=None, error=0.0, threshold=settings.nvt_p_value, verdict="fail",
        reason="kinetic energies are not finite", detail={"incomplete": True},
    )  # fmt: skip


def _verdict(p_value: float, doubts: list[Doubt], settings: ValidateConfig, shown: str) -> tuple[Verdict, str, str]:
    """Return verdict, reason and `CheckResult.measured`.

    A small chance fails whatever else is in doubt: what makes a series doubtful makes it no less unlikely.
    """
    if not p_value >= settings.nvt_p_value:
        return "fail", f"{shown}: less than {settings.nvt_p_value:g}", ""
    if doubts:
        return "inconclusive", f"{shown}, but {in_words(doubts)}", shown
    return "pass", shown, ""


def _distribution_plot(kinetic: np.ndarray, freedom: int, temperature_K: float) -> Plot:
    expected = stats.gamma(freedom / 2, scale=thermal_energy(temperature_K))
    first, last = expected.ppf([1e-4, 1 - 1e-4])
    edges = np.linspace(first, last, BINS + 1)
    centres = 0.5 * (edges[1:] + edges[:-1])
    density = np.histogram(kinetic, edges)[0] / (len(kinetic) * np.diff(edges))
    return Plot(
        "steps", "kinetic energy (kcal/mol)", "density (mol/kcal)",
        [
            Curve("model", "model", centres.tolist(), density.tolist()),
            Curve(f"Gamma distribution at {temperature_K:g} K", "reference", centres.tolist(),
                  expected.pdf(centres).tolist()),
        ],
    )  # fmt: skip


def equipartition_check(run: StageRun, settings: ValidateConfig) -> CheckResult:
    """Equipartition among bead types in a complete NVT stage; see `EQUIPARTITION`."""
    series = [replica.kinetic_by_type for replica in run.replicas]
    if not run.types or any(one is None for one in series):
        return CheckResult(
            check=EQUIPARTITION.name, subject=run.protein, value=None, error=0.0, threshold=settings.nvt_p_value,
            verdict="inconclusive", reason="not measured: the record has no kinetic energies by residue type",
        )  # fmt: skip
    return judge_equipartition(
        [one for one in series if one is not None],
        run.types,
        np.array(run.freedom_by_type),
        run.temperature_K,
        settings,
        run.protein,
    )


def judge_equipartition(
    kinetics: list[np.ndarray],
    types: tuple[str, ...],
    freedom: np.ndarray,
    temperature_K: float,
    settings: ValidateConfig,
    subject: str,
) -> CheckResult:
    """As `equipartition_check`.

    Args:
        kinetics: [T, K] of each replica, kcal/mol.
        types: names, [K].
        freedom: degrees of freedom of the beads of each type, [K].
        temperature_K: set point.
    """
    if not all(np.isfinite(values).all() for values in kinetics):
        return _not_finite(EQUIPARTITION, subject, settings)
    samples = [
        equilibrated([one[:, k] for one in kinetics], [one[:, k] for one in kinetics], settings.max_trim)
        for k in range(len(types))
    ]
    # A correlation time is a noisy estimate, and the smaller of two makes a test too strict: of a type that of all
    # beads together counts if it is longer.
    totals = [one.sum(axis=1) for one in kinetics]
    slowest = equilibrated(totals, totals, settings.max_trim).inefficiency
    samples = [replace(sample, inefficiency=max(sample.inefficiency, slowest)) for sample in samples]
    means = np.array([sample.pooled().mean() for sample in samples])
    temperatures = 2.0 * means / (freedom * thermal_energy(1.0))
    chances = np.array(
        [
            _chance_of_mean(sample, mean, dof, temperature_K, settings.nvt_temperature_margin)
            for sample, mean, dof in zip(samples, means, freedom, strict=True)
        ]
    )
    adjusted = holm(chances)
    worst = int(np.argmin(np.where(np.isnan(adjusted), -1.0, adjusted)))
    p_value = float(adjusted[worst])
    # Velocities forget within picoseconds, whatever basin a replica is in: samples count by their correlation in time.
    scatter = np.array([2.0 / (f * sample.n_pooled) for f, sample in zip(freedom, samples, strict=True)])
    errors = stats.norm.ppf(0.975) * temperatures * np.sqrt(scatter)
    n_effective = min(sample.n_pooled for sample in samples)
    doubts = []
    if not n_effective >= settings.min_effective_samples:
        needed = settings.min_effective_samples
        text = f"the model has {n_effective:.1f} effective samples of a type, {needed:g} are needed"
        doubts.append(Doubt(text, {"run_factor": needed / n_effective}))
    shown = (
        f"p = {p_value:.2g} over {len(types)} types; farthest is {types[worst]} with "
        f"{temperatures[worst]:.1f} ± {errors[worst]:.1f} K for {temperature_K:g} K"
    )
    verdict, reason, measured = _verdict(p_value, doubts, settings, shown)
    return CheckResult(
        check=EQUIPARTITION.name, subject=subject, value=p_value, error=0.0, threshold=settings.nvt_p_value,
        verdict=verdict, reason=reason, measured=measured, n_effective=n_effective,
        detail={
            "p_value": p_value, "p_values": dict(zip(types, chances, strict=True)),
            "temperature_K": dict(zip(types, temperatures, strict=True)),
            "error_K": dict(zip(types, errors, strict=True)),
            "degrees_of_freedom": dict(zip(types, freedom, strict=True)),
            "margin": settings.nvt_temperature_margin,
            "needs": together(doubts) if verdict == "inconclusive" else {},
        },
        plot=Plot(
            "bars", "residue type", "kinetic temperature (K)",
            [
                Curve("model", "model", list(range(len(types))), temperatures.tolist(), errors.tolist()),
                Curve("set point", "reference", list(range(len(types))), [temperature_K] * len(types)),
            ],
            ticks=list(types),
        ),
    )  # fmt: skip


def _chance_of_mean(sample: Sample, mean: float, freedom: float, temperature_K: float, margin: float) -> float:
    """Two-sided chance of a mean at least as far from its expectation, at the nearest temperature of the margin.

    The sum of n independent samples of Gamma distributions of shape f/2 is one of shape n f/2.
    """
    shape = 0.5 * freedom * sample.n_pooled
    measured_kT = 2.0 * mean / freedom
    kT = float(np.clip(measured_kT, *(thermal_energy(temperature_K) * (1.0 + margin * np.array([-1.0, 1.0])))))
    total = stats.gamma(shape, scale=kT / sample.n_pooled)
    return float(min(1.0, 2.0 * min(total.cdf(mean), total.sf(mean))))
