"""The parts of the page, in order: what each says in words, shows in plots and lists in tables."""

from collections import Counter
from typing import Any

from cgloop.report import data_section, md_figures, priors_section, training_figures
from cgloop.report.gather import CycleFiles
from cgloop.report.rows import CheckRow, decimals
from cgloop.report.section import Section, Table, ungrouped
from cgloop.report.style import Figure

PER_PROTEIN = ("minimize", "stability", "nvt", "nve", "structure", "contacts")
MOST_PROTEINS = 8
"""Of more, only so many have plots."""


def sections(cycle: CycleFiles, rows: list[CheckRow]) -> list[Section]:
    """All parts between the table of checks and the provenance."""
    known, shown = _proteins(cycle), _foremost_proteins(cycle, rows)
    found = [
        data_section.make(cycle),
        priors_section.make(cycle),
        _training(cycle),
        Section(
            "parity",
            "Parity: the artifact in LAMMPS",
            "The exported model, called by LAMMPS, against the same model in JAX on the same frames.",
            "parity",
            groups=ungrouped(training_figures.parity(cycle)),
            notes=_parity_notes(cycle),
            columns=1,
        ),
        Section(
            "minimize",
            "Energy minimisation",
            "Every replica starts from another held-out frame and is minimised first.",
            "md",
            groups=ungrouped(training_figures.minimisation(cycle, shown)),
        ),
        Section(
            "stability",
            "Survival",
            "A replica that breaks a limit is stopped and recorded; the others go on.",
            "md",
            groups=ungrouped(md_figures.survival(cycle, shown)),
            columns=1,
        ),
        Section("nvt", "Temperature", "Langevin dynamics at the model's temperature.", "validate",
                groups=_per_protein(cycle, shown, _temperature)),
        Section("nve", "Energy conservation", "Dynamics at constant energy: a test of the forces alone.", "validate",
                groups=_per_protein(cycle, shown, _energy), columns=1),
        Section("structure", "Structure", "The model's frames in NVT beside the reference at the same temperature.",
                "validate", groups=_per_protein(cycle, shown, _structure)),
        Section("contacts", "Contact maps", "How often two residues are close to each other.", "validate",
                groups=_per_protein(cycle, shown, _contacts), columns=3),
    ]  # fmt: skip
    for section in found:
        if len(shown) < len(known) and section.id in PER_PROTEIN:
            section.notes.append(f"Plots of {len(shown)} of {len(known):,} proteins, those with the worst verdicts.")
        section.checks = [row for row in rows if _belongs(row, section.id)]
        section.absent = _absence(section, cycle)
    return found


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


def _belongs(row: CheckRow, section: str) -> bool:
    if row.name == "structure.contacts":
        return section == "contacts"
    return row.family in {"training": ("forces", "uncertainty")}.get(section, (section,))


def _absence(section: Section, cycle: CycleFiles) -> str:
    """Why a section has nothing to show, or ""."""
    if section.figures or section.tables:
        return ""
    if section.stage in cycle.missing_stages:
        if cycle.stopped_at_parity:
            return "Not done: the artifact and the model differ, so that no MD was run with it."
        return f"Not done yet: the stage `{section.stage}` is missing."
    if section.id == "training":
        return "Nothing was trained: the energy is the prior alone."
    return "The stage was done, and left nothing to plot."


def _training(cycle: CycleFiles) -> Section:
    summary = cycle.read("train/summary.json")
    frames = summary.get("frames") or {}
    intro = "Forces on held-out frames, learned by force matching."
    if summary:
        epochs = summary.get("epochs", 0)
        intro = (
            f"{summary.get('parameters', 0):,} parameters, {epochs} epoch{'' if epochs == 1 else 's'} on "
            f"{frames.get('train', 0):,} frames; {frames.get('validation', 0):,} frames for validation, "
            f"{frames.get('test', 0):,} held out for the test. Ended with: {summary.get('stopped', 'unknown')}."
        )
    table = _force_table(cycle.read("train/forces.json"))
    return Section(
        "training",
        "Training",
        intro,
        "train",
        groups=ungrouped(training_figures.training(cycle)),
        tables=[table] if table else [],
    )


def _parity_notes(cycle: CycleFiles) -> list[str]:
    """Where each failed case differs most, and what it most likely means."""
    failed = [case for case in cycle.read("parity/parity.json").get("cases") or [] if case.get("verdict") == "fail"]
    return [
        f"Case `{case.get('name')}` differs most at {case.get('residue', '?')} of {case.get('protein', '?')} "
        f"({case.get('frame', 'no frame')}), in the {case.get('term', '?')} energy. "
        f"Likely cause: {case.get('likely_cause', 'not known')}."
        for case in failed
    ]


def _force_table(forces: dict[str, Any]) -> Table | None:
    modes = forces.get("modes") or {}
    if not modes:
        return None
    names = {"full": "full model", "prior-only": "prior alone", "zero": "no model"}
    columns = {"rmse": "RMSE", "mae": "MAE", "cosine": "cosine", "r2": "R²"}
    rows = [
        [label, *(decimals(modes[mode].get(key), 2 if key in ("rmse", "mae") else 3) for key in columns)]
        for mode, label in names.items()
        if mode in modes
    ]
    frames = f"{forces.get('n_frames', 0):,} frames of the {forces.get('split', 'held-out')} split"
    caption = f"Forces on {frames}; RMSE and MAE in kcal/mol/Å"
    return Table(caption, ["", *columns.values()], rows)


def _per_protein(cycle: CycleFiles, shown: list[str], make: Any) -> list[tuple[str, list[Figure]]]:
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
