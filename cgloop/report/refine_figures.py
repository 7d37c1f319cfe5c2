"""Plots of a refinement: what its chains showed round by round, and what changed."""

from collections.abc import Sequence

import numpy as np

from cgloop.figures.figure import (
    CONTROL,
    DIVERGING,
    INK,
    MODEL,
    REFERENCE,
    SEQUENTIAL,
    SERIES,
    Figure,
    axis,
    bars,
    filled,
    heatmap,
    layout,
    level,
    line,
    points,
    with_levels,
)
from cgloop.refine.result import Candidate, ContactMaps, Observed, PriorCurve, RefinedProtein, RefineResult

OBSERVABLES = (("rmsd_A", "CA-RMSD", "Å"), ("q", "native contacts Q", ""), ("rg_A", "radius of gyration", "Å"))
HISTOGRAMS = {"rmsd": "CA-RMSD", "q": "native contacts Q", "rg": "radius of gyration"}
MOST_CURVES = 12
"""Curves of the prior, those that changed most."""


def over_rounds(result: RefineResult, protein: str) -> list[Figure]:
    """Distances of the observables, effective share and force error of a protein over the rounds."""
    rounds = [one.number for one in result.rounds]
    shown = [one.proteins[protein] for one in result.rounds]
    return [
        *(_distance(result, protein, rounds, shown, *what) for what in OBSERVABLES),
        Figure(
            f"refine-ess-{protein}",
            "Effective share of the frames",
            "How many of a round's frames still count after its updates. Where it is low the parameters moved far in "
            "one round.",
            [line(rounds, [one.ess for one in shown], "after the last update", MODEL)],
            layout(axis("round"), axis("effective share", range=[0.0, 1.0])),
        ),
    ]


def _distance(
    result: RefineResult,
    protein: str,
    rounds: Sequence[int],
    shown: Sequence[Observed],
    key: str,
    title: str,
    unit: str,
) -> Figure:
    judged = [one.round for one in result.candidates]
    at_average = [one.proteins[protein] for one in result.candidates]
    data = [line(rounds, [getattr(one.training, key) for one in shown], "chains, to the training part", MODEL)]
    if shown and shown[0].validation is not None:
        held = [getattr(one.validation, key) if one.validation else None for one in shown]
        data.append(line(rounds, held, "chains, to the validation part", REFERENCE, "dash"))
    averages = [getattr(one.training, key) for one in at_average]
    data.append(points(judged, averages, "at the average, to the training part", CONTROL, "diamond"))
    unit_shown = f", {unit}" if unit else ""
    return Figure(
        f"refine-{key}-{protein}",
        f"Distance of {title}",
        f"Wasserstein-1 distance of the distribution of {title} to the reference. It falls where refinement works, and "
        "scatters by what a block of frames can tell.",
        data,
        with_levels(
            layout(axis("round"), axis(f"distance{unit_shown}", zero=True)),
            *([level(result.kept_round, "kept", axis_name="x")] if result.kept_round else []),
        ),
    )


def judged(candidates: Sequence[Candidate]) -> list[Figure]:
    """What decided whether an average was kept."""
    rounds = [one.round for one in candidates]
    figures = []
    if any(one.force_rise is not None for one in candidates):
        rise = [None if one.force_rise is None else 100.0 * one.force_rise for one in candidates]
        allowed = [None if one.force_rise_allowed is None else 100.0 * one.force_rise_allowed for one in candidates]
        figures.append(
            Figure(
                "refine-force-error", "Force error on the validation part",
                "Relative rise of the RMSE over the start. The refinement ends where it exceeds what is allowed.",
                [line(rounds, rise, "rise", MODEL, dots=True), line(rounds, allowed, "allowed", INK, "dot")],
                layout(axis("round"), axis("rise, %", zero=True)),
            )
        )  # fmt: skip
    if any(one.overfitting is not None for one in candidates):
        figures.append(
            Figure(
                "refine-overfitting", "Overfitting G",
                "By how much more the energies of training frames fell than those of validation frames, in kT, with "
                "95 % errors. A rise beyond its error ends the refinement.",
                [points(rounds, [one.overfitting for one in candidates], "G", MODEL, "circle",
                        error=[one.overfitting_error for one in candidates])],
                layout(axis("round"), axis("G")),
            )
        )  # fmt: skip
    return figures


def before_and_after(name: str, protein: RefinedProtein) -> list[Figure]:
    """Distributions and contact maps of a protein before and after, beside the training part of the reference."""
    figures = []
    for one in protein.histograms:
        middle = (0.5 * (np.array(one.edges[1:]) + one.edges[:-1])).round(4).tolist()
        figures.append(
            Figure(
                f"refine-{one.name}-distribution-{name}", f"Distribution of {HISTOGRAMS[one.name]}",
                "Frames of the first round, soon after the chains left the reference, and of the result, beside the "
                "training part of the reference.",
                [
                    filled(middle, one.reference, "reference", REFERENCE),
                    line(middle, one.before, "before", CONTROL, "dashdot"),
                    line(middle, one.after, "after", MODEL),
                ],
                layout(axis(f"{HISTOGRAMS[one.name]}{', Å' if one.unit else ''}"), axis("density", zero=True)),
            )
        )  # fmt: skip
    figures += _contact_maps(name, protein.beads, protein.contacts)
    beads = list(range(1, protein.beads + 1))
    figures.append(
        Figure(
            f"refine-beads-{name}", "What the energies of beads lost or gained",
            "Mean change of each bead's energy on the training frames, kcal/mol.",
            [bars(beads, protein.bead_energy_change, "change", MODEL)],
            layout(axis("bead"), axis("ΔU, kcal/mol")),
        )
    )  # fmt: skip
    return figures


def _contact_maps(name: str, beads: int, contacts: ContactMaps) -> list[Figure]:
    ticks = list(range(1, beads + 1))
    difference = {key: np.array(getattr(contacts, key)) - np.array(contacts.reference) for key in ("before", "after")}
    figures = []
    for key, values, title, ends, colors in (
        ("reference", np.array(contacts.reference), "Contacts of the reference", (0.0, 1.0), SEQUENTIAL),
        ("before", difference["before"], "Contacts before, less the reference", (-0.5, 0.5), DIVERGING),
        ("after", difference["after"], "Contacts after, less the reference", (-0.5, 0.5), DIVERGING),
    ):
        matrix: list[list[float | None]] = [[None] * beads for _ in range(beads)]
        for (i, j), value in zip(contacts.pairs, values.tolist(), strict=True):
            matrix[i][j] = matrix[j][i] = round(value, 4)
        figures.append(
            Figure(
                f"refine-contacts-{key}-{name}", title,
                "Probability of each pair to be in contact; grey: too near along the chain to count.",
                [heatmap(matrix, ticks, ticks, "probability" if key == "reference" else "difference", colors, ends)],
                layout(axis("residue"), axis("residue", reversed=True), square=True), 340,
            )
        )  # fmt: skip
    return figures


def prior_changes(curves: Sequence[PriorCurve]) -> list[Figure]:
    """Terms of the prior before and after, those that changed most."""
    figures = []
    for term in ("angle", "dihedral"):
        chosen = sorted((one for one in curves if one.term == term), key=_change, reverse=True)
        chosen = chosen[: min(MOST_CURVES, len(SERIES))]
        if not chosen:
            continue
        data = []
        for color, one in zip(SERIES, chosen, strict=False):
            data.append(line(one.x, one.before, f"{one.label}, before", color, "dot"))
            data.append(line(one.x, one.after, f"{one.label}, after", color))
        figures.append(
            Figure(
                f"refine-prior-{term}", f"The prior's {term} terms",
                f"Potentials of the {len(chosen)} keys that changed most, dotted before and solid after, zero at their "
                "minimum.",
                data, layout(axis(f"{term}, degrees"), axis("U, kcal/mol", range=[0.0, 6.0])), 320,
            )
        )  # fmt: skip
    contacts = sorted((one for one in curves if one.term == "contact"), key=_change, reverse=True)[:MOST_CURVES]
    if contacts:
        names = [one.label for one in contacts]
        figures.append(
            Figure(
                "refine-prior-contacts", "The prior's contact energies",
                "The pairs of residue types that changed most.",
                [
                    points([one.before[0] for one in contacts], names, "before", CONTROL, "square-open"),
                    points([one.after[0] for one in contacts], names, "after", MODEL, "circle"),
                ],
                layout(axis("energy, kcal/mol"), axis("", names=names)), 60 + 24 * len(names),
            )
        )  # fmt: skip
    return figures


def _change(curve: PriorCurve) -> float:
    return float(np.abs(np.array(curve.after) - np.array(curve.before)).mean())
