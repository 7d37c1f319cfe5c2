"""The parts of the page, in order: what each says in words, shows in plots and lists in tables."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from cgloop.figures.figure import Figure
from cgloop.report import (
    controls_section,
    data_section,
    md_figures,
    priors_section,
    refine_section,
    training_figures,
    training_section,
)
from cgloop.report.check_figures import check_figures
from cgloop.report.gather import CycleFiles
from cgloop.report.rows import CheckRow
from cgloop.report.section import Section, ungrouped

PER_PROTEIN = ("minimize", "stability", "nvt", "nve", "structure", "contacts", "local", "ensemble")
MOST_PROTEINS = 8
"""Of more, only so many have plots."""

FAMILIES = {
    "priors": ("static",),
    "training": ("training", "forces", "uncertainty"),
    "parity": ("parity",),
    "minimize": ("minimize",),
    "stability": ("stability",),
    "nvt": ("nvt",),
    "nve": ("nve",),
    "structure": ("structure",),
    "local": ("local", "pair"),
    "ensemble": ("ensemble",),
    "transfer": ("transfer",),
}
"""Families of checks that each section shows; a family that is not here is in the section `others`."""


def sections(cycle: CycleFiles, rows: list[CheckRow]) -> list[Section]:
    """All parts between the table of checks and the provenance."""
    known, shown = _proteins(cycle), _foremost_proteins(cycle, rows)
    by_section: dict[str, list[CheckRow]] = {}
    for row in rows:
        by_section.setdefault(_section_of(row), []).append(row)
    found = [
        *_of_dynamics(cycle, shown),
        controls_section.make(cycle),
        *([refined] if (refined := refine_section.make(cycle, shown)) is not None else []),
        training_section.make(cycle),
        _parity(cycle),
        priors_section.make(cycle),
        data_section.make(cycle),
    ]
    for section in found:
        section.checks = by_section.get(section.id, [])
        _add_plots_of_checks(section, cycle, shown)
        if len(shown) < len(known) and section.id in PER_PROTEIN:
            section.notes.append(f"Plots of {len(shown)} of {len(known):,} proteins, those with the worst verdicts.")
        section.absent = _absence(section, cycle)
    # These are there only if something was measured.
    return [one for one in found if one.id not in ("local", "ensemble", "transfer", "others") or one.checks]


def _of_dynamics(cycle: CycleFiles, shown: list[str]) -> list[Section]:
    per = _per_protein
    return [
        Section("stability", "Survival", "A replica that breaks a limit is stopped and recorded; the others go on.",
                "md", groups=ungrouped(md_figures.survival(cycle, shown))),
        Section("structure", "Structure", "The model's frames in NVT beside the reference at the same temperature.",
                "validate", groups=per(cycle, shown, _structure)),
        Section("contacts", "Contact maps", "How often two residues are close to each other.",
                "validate", groups=per(cycle, shown, _contacts)),
        Section("local", "Local geometry and distances", "Distributions of bonds, angles, dihedrals and distances "
                "along the chain, beside the reference.", "validate"),
        Section("ensemble", "Free-energy surface", "Where the model spends its time on the slowest coordinates of the "
                "reference.", "validate"),
        Section("nvt", "Temperature", "Dynamics with a thermostat at the model's temperature: what the velocities "
                "must look like does not depend on the model.", "validate", groups=per(cycle, shown, _temperature)),
        Section("nve", "Energy conservation", "Dynamics at constant energy: a test of the forces alone.",
                "validate", groups=per(cycle, shown, _energy)),
        Section("minimize", "Energy minimisation", "Every replica starts from another held-out frame and is minimised "
                "first.", "md", groups=ungrouped(training_figures.minimisation(cycle, shown))),
        Section("transfer", "Proteins that were not in training", "The same questions, asked of proteins that the "
                "model has never seen.", "validate"),
        Section("others", "Other checks", "Checks that belong to none of the parts above.", "validate"),
    ]  # fmt: skip


def _parity(cycle: CycleFiles) -> Section:
    return Section(
        "parity",
        "Parity: the artifact in LAMMPS",
        "The exported model, called by LAMMPS, against the same model in JAX on the same frames.",
        "parity",
        groups=ungrouped(training_figures.parity(cycle)),
        notes=_parity_notes(cycle),
    )


def _section_of(row: CheckRow) -> str:
    if row.name == "structure.contacts":
        return "contacts"
    return next((section for section, families in FAMILIES.items() if row.family in families), "others")


def _add_plots_of_checks(section: Section, cycle: CycleFiles, shown: list[str]) -> None:
    """Plots that checks brought along, behind those of the same protein."""
    groups = {subject: list(figures) for subject, figures in section.groups}
    alone = len(groups) == 1 and "" in groups
    several = len({subject for subject in shown if cycle.md}) > 1
    for subject, found in check_figures(cycle, section.checks).items():
        if section.id in PER_PROTEIN and shown and subject not in shown:
            continue
        key = subject if several or (groups and not alone) else ""
        own = groups.setdefault(key, [])
        for row, figures in found:
            # What a check was judged by takes the place of the page's own distribution.
            same = f"{row.name.split('.')[-1]}-density-{subject}"
            at = next((k for k, one in enumerate(own) if one.id == same), len(own))
            own[at : at + 1] = figures
    # Maps stand three abreast, behind the plots that stand in pairs.
    section.groups = [(name, sorted(own, key=lambda one: one.width == "third")) for name, own in groups.items()]


def _proteins(cycle: CycleFiles) -> list[str]:
    """Proteins that were simulated."""
    return list(cycle.md.get("proteins") or cycle.plots.get("proteins") or {})


def _foremost_proteins(cycle: CycleFiles, rows: list[CheckRow]) -> list[str]:
    """All of few proteins; of many those with the worst verdicts."""
    known = _proteins(cycle)
    if len(known) <= MOST_PROTEINS:
        return known
    bad = Counter(row.subject for row in rows if row.verdict == "fail")
    open_ = Counter(row.subject for row in rows if row.verdict == "inconclusive")
    return sorted(known, key=lambda name: (-bad[name], -open_[name]))[:MOST_PROTEINS]


def _absence(section: Section, cycle: CycleFiles) -> str:
    """Why a section has nothing to show, or ""."""
    if section.figures or section.tables or section.lists:
        return ""
    if section.stage in cycle.missing_stages:
        if cycle.stopped_at_parity:
            return "Not done: the artifact and the model differ, so that no MD was run with it."
        return f"Not done yet: the stage `{section.stage}` is missing."
    if section.id == "training":
        return "Nothing was trained: the energy is the prior alone."
    if section.checks:
        return ""
    return "The stage was done, and left nothing to plot."


def _parity_notes(cycle: CycleFiles) -> list[str]:
    """Where each failed case differs most, and what it most likely means."""
    failed = [case for case in cycle.read("parity/parity.json").get("cases") or [] if case.get("verdict") == "fail"]
    return [
        f"Case `{case.get('name')}` differs most at {case.get('residue', '?')} of {case.get('protein', '?')} "
        f"({case.get('frame', 'no frame')}), in the {case.get('term', '?')} energy. "
        f"Likely cause: {case.get('likely_cause', 'not known')}."
        for case in failed
    ]


PlotsOf = Callable[[CycleFiles, str, dict[str, Any]], list[Figure]]


def _per_protein(cycle: CycleFiles, shown: list[str], make: PlotsOf) -> list[tuple[str, list[Figure]]]:
    proteins = cycle.plots.get("proteins") or {}
    groups = [(name, make(cycle, name, proteins[name])) for name in shown if name in proteins]
    groups = [(name, figures) for name, figures in groups if figures]
    return groups if len(proteins) > 1 else [("", figures) for _, figures in groups]


def _temperature(cycle: CycleFiles, name: str, plots: dict[str, Any]) -> list[Figure]:
    beads = ((cycle.md.get("proteins") or {}).get(name) or {}).get("n_beads")
    return md_figures.temperature(name, plots, beads, _broken(cycle, name, "nvt"))


def _energy(cycle: CycleFiles, name: str, plots: dict[str, Any]) -> list[Figure]:
    return md_figures.energy(name, plots, _broken(cycle, name, "nve"))


def _structure(cycle: CycleFiles, name: str, plots: dict[str, Any]) -> list[Figure]:
    broken = _broken(cycle, name, "nvt")
    return [figure for key in md_figures.STRUCTURE for figure in md_figures.structure(name, plots, key, broken)]


def _broken(cycle: CycleFiles, protein: str, stage: str) -> set[int]:
    """Replicas of a protein that broke a limit in a stage."""
    described = (cycle.md.get("proteins") or {}).get(protein) or {}
    replicas = ((described.get("stages") or {}).get(stage) or {}).get("replicas") or []
    return {number for number, replica in enumerate(replicas) if not replica.get("survived", True)}


def _contacts(cycle: CycleFiles, name: str, plots: dict[str, Any]) -> list[Figure]:
    described = (cycle.read("prep/manifest.json").get("proteins") or {}).get(name) or {}
    separation = int((cycle.metrics.get("settings") or {}).get("contact_min_separation", 1))
    return md_figures.contacts(name, plots, str(described.get("sequence", "")), separation)
