"""The part of the page about the prior: its terms, and how much of the forces it explains."""

from typing import Any

from cgloop.report import prior_figures
from cgloop.report.gather import CycleFiles
from cgloop.report.rows import decimals, short
from cgloop.report.section import Section, Table, ungrouped
from cgloop.wording import listing

FITS = {"inverted": "inverted", "refined": "refined"}
SPLITS = {"train": "training"}
POWERS = {"power4": "r⁻⁴", "power6": "r⁻⁶", "power12": "r⁻¹²"}
FORMS = {"fourier": "Fourier", "spline": "spline", "wca": "WCA", "lj": "Lennard-Jones", **POWERS}


def make(cycle: CycleFiles) -> Section:
    """The section, from what `priors` left."""
    summary, curves = cycle.read("priors/summary.json"), cycle.read("priors/curves.json")
    table = _force_errors(summary)
    return Section(
        "priors",
        "Prior potentials",
        _intro(summary),
        "priors",
        groups=ungrouped([*prior_figures.priors(cycle), *prior_figures.keyed(cycle), *prior_figures.pairs(cycle)]),
        notes=_notes(summary, curves),
        tables=[table] if table else [],
    )


def _intro(summary: dict[str, Any]) -> str:
    how = "fitted to the reference by Boltzmann inversion"
    if summary.get("refine"):
        how += ", then refined together to lower the force error"
    forms = summary.get("forms") or {}
    kinds = (("angle", "angles"), ("dihedral", "dihedrals"), ("repulsion", "repulsion"))
    named = [f"{FORMS.get(forms[key], forms[key])} {words}" for key, words in kinds if forms.get(key)]
    text = f"Physical terms below the network, {how}."
    return text + (f" Harmonic bonds, {listing(named)}." if named else "")


def _notes(summary: dict[str, Any], curves: dict[str, Any]) -> list[str]:
    """What a reader should know before the curves: temperatures, and whether the terms are of a sensible size."""
    notes = []
    temperatures = summary.get("temperatures_K") or {}
    if len(temperatures) > 1:
        frames = listing([f"{count:,} frames at {one} K" for one, count in temperatures.items()], 8)
        notes.append(
            f"Parameters were inverted at each temperature on its own and averaged: {frames}. Histograms, and the "
            "potentials and densities beside them, are those of the model's temperature."
        )
    sanity = curves.get("sanity") or {}
    if sanity.get("angle_amplitude_kT") is not None and sanity.get("angle_reference_range_kT") is not None:
        notes.append(
            f"The angle term spans {short(sanity['angle_amplitude_kT'])} kT over all angles, the reference "
            f"{short(sanity['angle_reference_range_kT'])} kT over those that it visits."
        )
    contact = sanity.get("repulsion_at_3_A_kT") or []
    if contact and contact[-1] is not None:
        last = [one.get("separation", "") for one in curves.get("terms") or [] if one.get("term") == "repulsion"][-1:]
        far = f", {last[0].rstrip('+')} or more residues apart," if last and last[0] else ""
        notes.append(f"Two beads at 3 Å{far} cost {short(contact[-1])} kT.")
    if sanity.get("angle_turns_down_outside"):
        notes.append("The angle potential turns down outside the data.")
    return notes


def _force_errors(summary: dict[str, Any]) -> Table | None:
    """Force error of the prior alone, as inverted and as refined, on training and validation frames."""
    rows = []
    for name, entry in (summary.get("splits") or {}).items():
        split = SPLITS.get(name, name)
        rows.append([f"{split}, no model", decimals(entry.get("rms_force"), 3), "–", "–"])
        for key, words in FITS.items():
            if found := entry.get(key):
                shares = [_percent(found.get(share)) for share in ("explained", "explained_of_explainable")]
                rows.append([f"{split}, {words}", decimals(found.get("rmse"), 3), *shares])
    if not rows:
        return None
    noise = summary.get("force_noise")
    floor = f"; noise, at most: {decimals(noise, 3)}" if noise is not None else "; noise is not known"
    caption = (
        f"Force error of the prior alone, kcal/mol/Å{floor}. Shares are of the mean squared force, and of what is not "
        "noise in it"
    )
    return Table(caption, ["frames", "RMSE", "explained", "of explainable"], rows)


def _percent(part: float | None) -> str:
    return "–" if part is None else f"{100 * part:.1f} %".replace("-", "−")
