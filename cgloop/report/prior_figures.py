"""Plots of the prior terms: what the reference says of each, and what the fit made of it."""

from typing import Any

import numpy as np

from cgloop.figures.figure import (
    DASHES,
    DIVERGING,
    MODEL,
    REFERENCE,
    REVERSED,
    SERIES,
    Figure,
    axis,
    filled,
    heatmap,
    layout,
    line,
    points,
    stacked,
)
from cgloop.report.gather import CycleFiles

LINES = len(SERIES)
"""Up to so many keys each have a line; more are rows of a map."""
MOST_ROWS = 40
"""Pairs of residue types in a map, those with most samples."""
CEILING = 5.0
"""Colours of a map end here, kcal/mol."""


def priors(cycle: CycleFiles) -> list[Figure]:
    """Each prior term: the reference's distribution and what the fitted potential makes of it."""
    terms = cycle.read("priors/curves.json").get("terms") or []
    figures = [_prior(term) for term in terms if term.get("term") != "repulsion" and term.get("samples")]
    repulsion = [term for term in terms if term.get("term") == "repulsion"]
    return [*figures, *([_repulsion(repulsion)] if repulsion else [])]


def _prior(term: dict[str, Any]) -> Figure:
    """Potential above, densities below, on one axis."""
    grid, unit = term["grid"], "degrees" if term["unit"] == "degree" else term["unit"]
    data = [
        filled(grid, term["density"], "reference"),
        line(grid, term["implied_density"], "this term alone", MODEL),
        line(grid, term["reference"], "reference, inverted", REFERENCE, "dot", width=3, legend=False, upper=True),
        line(grid, term["fitted"], "fitted potential", MODEL, legend=False, upper=True),
    ]
    x = axis(f"{term['term']} {term['coordinate']}, {unit}")
    if unit == "degrees":
        x["step"] = 60 if term["term"] == "dihedral" else 30
    finite = [value for value in term["reference"] if value is not None]
    ceiling = max(1.5 * max(finite, default=0.0), 1.0)
    frame = stacked(
        x,
        axis(f"density, 1/{unit.removesuffix('s')}", zero=True),
        axis("U, kcal/mol", range=[-0.05 * ceiling, ceiling]),
    )
    return Figure(
        f"prior-{term['term']}",
        f"{term['term'].capitalize()} prior",
        f"Above: the potential of mean force in {term['samples']:,} reference samples (orange, dotted) and the fitted "
        "potential (blue). Below: their densities; the blue one is what this term alone would give, without the others "
        "and the network.",
        data,
        frame,
        height=380,
    )


def _repulsion(terms: list[dict[str, Any]]) -> Figure:
    data = []
    for term, color, dash in zip(terms, SERIES, DASHES, strict=False):
        name = f"separation {term.get('separation', '')}"
        data += [
            filled(term["grid"], term["density"], name, color, dash=dash, legend=False),
            line(term["grid"], term["fitted"], name, color, dash, upper=True),
        ]
    frame = stacked(axis("distance r, Å"), axis("density, 1/Å", zero=True), axis("U, kcal/mol", range=[-0.5, 12]))
    return Figure(
        "prior-repulsion",
        "Excluded volume",
        "Above: the repulsion by separation along the chain. Below: distances in the reference; the repulsion ends "
        "where they begin.",
        data,
        frame,
        height=380,
    )


def keyed(cycle: CycleFiles) -> list[Figure]:
    """Bonded potentials of classes or types of residues, if they have their own."""
    keys = cycle.read("priors/curves.json").get("keys") or []
    figures = []
    for term in ("bond", "angle", "dihedral"):
        own = sorted((key for key in keys if key["term"] == term), key=lambda key: -key["samples"])
        if own:
            make = _keyed_bonds if term == "bond" else _keyed_lines if len(own) <= LINES else _keyed_map
            figures.append(make(own))
    return figures


def _keyed_bonds(keys: list[dict[str, Any]]) -> Figure:
    shown = keys[:MOST_ROWS]
    names = [key["key"] for key in shown]
    texts = [
        f"{key['key']}: {key['r0']:.3f} Å, k = {key['k']:.4g} kcal/mol/Å², {key['samples']:,} samples" for key in shown
    ]
    marks = points([key["r0"] for key in shown], names, "r₀", MODEL, "circle", legend=False, text=texts)
    stiff, soft = max(key["k"] for key in keys), min(key["k"] for key in keys)
    return Figure(
        "prior-bond-keys",
        "Bond prior by residue",
        f"Length r₀ of the bond to each residue from the one before it; k lies between {soft:.4g} and {stiff:.4g} "
        "kcal/mol/Å².",
        [marks],
        layout(axis("r₀, Å"), axis("", names=names)),
        max(140, 60 + 20 * len(shown)),
    )


def _keyed_lines(keys: list[dict[str, Any]]) -> Figure:
    data = [
        line(key["grid"], key["fitted"], f"{key['key']} ({key['samples']:,})", color, dash)
        for key, color, dash in zip(keys, SERIES, DASHES, strict=False)
    ]
    frame = layout(_degrees(keys[0]["term"]), axis("U, kcal/mol", range=[-0.05 * CEILING, 1.5 * CEILING]))
    return _keyed_figure(keys[0]["term"], "Potentials of each key, with its number of samples.", data, frame, 280)


def _keyed_map(keys: list[dict[str, Any]]) -> Figure:
    shown = keys[:MOST_ROWS]
    names = [key["key"] for key in shown]
    rows = [[min(value, 2.0 * CEILING) if value is not None else None for value in key["fitted"]] for key in shown]
    map_ = heatmap(rows, shown[0]["grid"], list(range(len(names))), "U, kcal/mol", REVERSED, (0.0, CEILING))
    words = "A row for each key, those with most samples first; dark is where the potential is low."
    if len(keys) > len(shown):
        words += f" {len(keys) - len(shown):,} keys with fewer samples are in priors/curves.json."
    frame = layout(_degrees(shown[0]["term"], tight=True), axis("", names=names))
    return _keyed_figure(shown[0]["term"], words, [map_], frame, 110 + 16 * len(shown))


def _keyed_figure(term: str, words: str, data: list[dict[str, Any]], frame: dict[str, Any], height: int) -> Figure:
    middle = "its middle residue" if term == "angle" else "its two middle residues"
    what = f"{term.capitalize()} prior by residue"
    article = "An" if term == "angle" else "A"
    return Figure(f"prior-{term}-keys", what, f"{words} {article} {term} has the key of {middle}.", data, frame, height)


def _degrees(term: str, **more: Any) -> dict[str, Any]:
    return axis(f"{term}, degrees", step=60 if term == "dihedral" else 30, **more)


def pairs(cycle: CycleFiles) -> list[Figure]:
    """Electrostatics and contact energies, if there are any."""
    make = {"electrostatics": _electrostatics, "contact": _contacts}
    found = cycle.read("priors/curves.json").get("pairs") or []
    return [figure for pair in found if pair.get("term") in make for figure in make[pair["term"]](pair)]


def _electrostatics(pair: dict[str, Any]) -> list[Figure]:
    return [
        Figure(
            "prior-electrostatics",
            "Electrostatics",
            f"Screened Coulomb energy of {pair['about']}. Debye length {pair['debye_length_A']:.3g} Å.",
            [line(pair["grid"], pair["fitted"], "two like unit charges", MODEL, legend=False)],
            layout(axis("distance r, Å"), axis("U, kcal/mol", zero=True)),
        )
    ]


def _contacts(pair: dict[str, Any]) -> list[Figure]:
    """Only residue types of which there is a pair at all."""
    energy, counts = np.array(pair["energy"], float), np.array(pair["contacts"], float)
    here = np.flatnonzero(counts.sum(axis=1) > 0)
    if not len(here):
        return []
    names = [pair["residues"][k] for k in here]
    values, number = energy[np.ix_(here, here)], counts[np.ix_(here, here)]
    end = max(0.1, float(np.abs(values).max()))
    # Pairs that were never seen have no energy.
    shown = [
        [round(float(v), 4) if n else None for v, n in zip(*row, strict=True)]
        for row in zip(values, number, strict=True)
    ]
    map_ = heatmap(
        shown, names, names, "energy, kcal/mol", DIVERGING, (-end, end),
        extra={"label": "contacts", "values": number.tolist()},
    )  # fmt: skip
    frame = layout(axis("", names=names), axis("", names=names), square=True)
    words = "Energy of a contact of two residue types: blue attracts. Pairs without contacts are left grey."
    return [Figure("prior-contacts", "Contact energies", words, [map_], frame, 400)]
