"""The parts of the page, in order: what each says in words, shows in plots and lists in tables."""

from dataclasses import dataclass, field
from typing import Any

from cgloop.report import md_figures, training_figures
from cgloop.report.gather import CycleFiles
from cgloop.report.rows import CheckRow, worst
from cgloop.report.style import Figure


@dataclass(frozen=True)
class Table:
    """A small table: first column is a name, all others numbers."""

    caption: str
    head: list[str]
    rows: list[list[str]]


@dataclass
class Section:
    """A part of the page.

    Attributes:
        id: anchor.
        title: heading.
        intro: what it is about, one or two sentences.
        stage: whose results it shows; if that stage is missing, it says so.
        checks: the checks that belong to it.
        groups: plots by subject; the subject is "" where there is only one.
        notes: sentences above the plots.
        tables: below the plots.
        columns: plots side by side on a wide page.
        absent: why there is nothing, in words.
    """

    id: str
    title: str
    intro: str
    stage: str
    checks: list[CheckRow] = field(default_factory=list)
    groups: list[tuple[str, list[Figure]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    columns: int = 2
    absent: str = ""

    @property
    def verdict(self) -> str:
        return worst(self.checks)

    @property
    def figures(self) -> list[Figure]:
        return [figure for _, figures in self.groups for figure in figures]


def sections(cycle: CycleFiles, rows: list[CheckRow]) -> list[Section]:
    """All parts between the table of checks and the provenance."""
    found = [
        _training(cycle),
        Section(
            "priors",
            "Prior potentials",
            "Physical terms below the network, fitted to the reference by Boltzmann inversion.",
            "priors",
            groups=_one(training_figures.priors(cycle)),
        ),
        Section(
            "parity",
            "Parity: the artifact in LAMMPS",
            "The exported model, called by LAMMPS, against the same model in JAX on the same frames.",
            "parity",
            groups=_one(training_figures.parity(cycle)),
            notes=_parity_notes(cycle),
            columns=1,
        ),
        Section(
            "minimize",
            "Energy minimisation",
            "Every replica starts from another held-out frame and is minimised first.",
            "md",
            groups=_one(training_figures.minimisation(cycle)),
        ),
        Section(
            "stability",
            "Survival",
            "A replica that breaks a limit is stopped and recorded; the others go on.",
            "md",
            groups=_one(md_figures.survival(cycle)),
            columns=1,
        ),
        Section("nvt", "Temperature", "Langevin dynamics at the model's temperature.", "validate",
                groups=_per_protein(cycle, _temperature)),
        Section("nve", "Energy conservation", "Dynamics at constant energy: a test of the forces alone.", "validate",
                groups=_per_protein(cycle, _energy), columns=1),
        Section("structure", "Structure", "The model's frames in NVT beside the reference at the same temperature.",
                "validate", groups=_per_protein(cycle, _structure)),
        Section("contacts", "Contact maps", "How often two residues are close to each other.", "validate",
                groups=_per_protein(cycle, _contacts), columns=3),
    ]  # fmt: skip
    for section in found:
        section.checks = [row for row in rows if _belongs(row, section.id)]
        section.absent = _absence(section, cycle)
    return found


def _belongs(row: CheckRow, section: str) -> bool:
    if row.name == "structure.contacts":
        return section == "contacts"
    return row.family == {"training": "forces"}.get(section, section)


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
        groups=_one(training_figures.training(cycle)),
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
        [label, *(_decimals(modes[mode].get(key), 2 if key in ("rmse", "mae") else 3) for key in columns)]
        for mode, label in names.items()
        if mode in modes
    ]
    frames = f"{forces.get('n_frames', 0):,} frames of the {forces.get('split', 'held-out')} split"
    caption = f"Forces on {frames}; RMSE and MAE in kcal/mol/Å"
    return Table(caption, ["", *columns.values()], rows)


def _decimals(value: float | None, decimals: int) -> str:
    """A number with so many decimals; zero without a sign."""
    if value is None:
        return "–"
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")


def _one(figures: list[Figure]) -> list[tuple[str, list[Figure]]]:
    return [("", figures)] if figures else []


def _per_protein(cycle: CycleFiles, make: Any) -> list[tuple[str, list[Figure]]]:
    proteins = cycle.plots.get("proteins") or {}
    groups = [(name, make(cycle, name, plots)) for name, plots in proteins.items()]
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
