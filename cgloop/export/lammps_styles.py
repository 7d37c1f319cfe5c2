"""The prior terms as LAMMPS's own bond, angle, dihedral and pair styles: no Python, no network.

Every term of every form is exact or a table of it. What acts between near neighbours along the chain, and not between
others, is a bond: pairs up to `near_reach` are joined by bonds of table type that carry their repulsion (and
electrostatics, and contact), and the pair styles leave exactly these pairs out. There are two ways to leave them out:

- "special": `special_bonds` with weight 0 for pairs that share a bond, and weight 1 for those two or three bonds apart.
  The latter would else be excluded up to three times as far along the chain.
- "subtracted": `special_bonds` with all weights 1, and tables from which the far pair's energy is subtracted. Needed
  beside `pair_style chemtrain_deploy`: it takes LAMMPS's list of neighbours as it is, in which pairs of weight 0 are
  missing, and pairs of another weight are marked in bits that the plugin does not mask.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cgloop.export import lammps_tables as tables
from cgloop.export.lammps_tables import Curve, Section
from cgloop.model import potentials
from cgloop.model.hybrid import Model
from cgloop.model.names import PRIOR_TERM_NAMES
from cgloop.model.terms import CHARGES, DIHEDRAL_FIELDS, PriorForms, PriorParams, row_of_items
from cgloop.model.topology import build_topology, separation_matrix
from cgloop.residues import RESIDUES

BOND_TABLE, PAIR_TABLE, ANGLE_TABLE, DIHEDRAL_TABLE = "bonds.table", "pairs.table", "angles.table", "dihedrals.table"
COMMANDS = "priors.in"

BOND_POINTS = 100_001
PAIR_POINTS = 20_001
ANGLE_POINTS = 18_001
DIHEDRAL_POINTS = 36_000
"""Values that LAMMPS keeps of a table: 0.001 Å apart for near pairs, 0.01° for angles and dihedrals."""

DIHEDRAL_PIECES = 24
"""Into which the circle is divided for the tables of a series of dihedrals, each with many lines."""

CONTACT_POINTS = 4_001
INNERMOST_A = 0.01
"""Where pair tables begin: LAMMPS stops at nearer pairs."""

BOND_TABLE_REACH_A = 100.0
"""Tables of near pairs go at least so far, with energy zero: LAMMPS stops at longer bonds."""


@dataclass(frozen=True, eq=False)
class NativeStyles:
    """A prior for one protein, as LAMMPS needs it.

    Attributes:
        commands: to be executed after `read_data`; table files are named relative to the working directory.
        pair_styles: the pair styles alone, as arguments of `pair_style hybrid/overlay`; "" if there are none.
        items: sections of the data file, `Bonds`, `Angles`, `Dihedrals`: int [M, 1 + 2…4], type from 1, beads from 0.
        files: table files by name.
    """

    commands: str
    pair_styles: str
    items: dict[str, np.ndarray]
    files: dict[str, list[Section]]

    def write(self, folder: Path) -> None:
        """Write the commands and the tables into a folder."""
        (folder / COMMANDS).write_text(self.commands, encoding="ascii")
        for name, sections in self.files.items():
            tables.write_sections(folder / name, f"cgloop prior: {name.removesuffix('.table')}; units real", sections)


class _Part(NamedTuple):
    """Commands, entries of a data file's section, and tables of one kind of term."""

    commands: list[str]
    items: np.ndarray
    sections: list[Section]


def native_styles(
    model: Model,
    prior: PriorParams,
    residue_type: np.ndarray,
    linked: np.ndarray,
    *,
    terms: Collection[str] = PRIOR_TERM_NAMES,
    exclusions: str = "special",
    network: str | None = None,
) -> NativeStyles:
    """The prior of a model for one protein.

    Args:
        model: its forms and its cutoff.
        prior: the parameters.
        residue_type: int [N].
        linked: bool [N-1], True where beads i and i+1 are bonded.
        terms: those that count; the others have weight 0.
        exclusions: "special" or "subtracted".
        network: the pair style of a network, as `chemtrain_deploy cuda12 0.9`, to be added to the pair styles; its
            `pair_coeff` is the caller's.

    Raises:
        ValueError: another kind of exclusions, or a network beside "special".
    """
    if exclusions not in ("special", "subtracted") or (network and exclusions == "special"):
        raise ValueError(f"exclusions {exclusions} with network {network}")
    weights = dict(zip(PRIOR_TERM_NAMES, np.asarray(prior.weights, float).tolist(), strict=False))
    weight = {name: weights.get(name, 1.0) if name in terms else 0.0 for name in PRIOR_TERM_NAMES}
    prior = PriorParams(*(np.asarray(value, float) for value in prior))
    types, linked = np.asarray(residue_type, int), np.asarray(linked, bool)
    pairs = _Pairs(model, prior, weight, types)
    bonds = _bonds(model.forms, prior, weight["bond"], types, linked, pairs, exclusions)
    angles = _angles(model.forms, prior, weight["angle"], types, linked)
    dihedrals = _dihedrals(model.forms, prior, weight["dihedral"], types, linked)
    pair_commands, pair_sections, pair_style = pairs.style(network)
    near = "0.0 1.0 1.0" if exclusions == "special" else "1.0 1.0 1.0"
    commands = [
        "# The prior as LAMMPS's own styles, made by cgloop; units real. Read after read_data or read_restart.",
        "",
        "# Pairs that share a bond are near along the chain. " + _EXCLUSION_WORDS[exclusions],
        f"special_bonds   lj/coul {near}",
    ]
    for part in (bonds, angles, dihedrals):
        commands += [""] * bool(part.commands) + part.commands
    commands += ["", *pair_commands]
    items = {"Bonds": bonds.items, "Angles": angles.items, "Dihedrals": dihedrals.items}
    files = {BOND_TABLE: bonds.sections, PAIR_TABLE: pair_sections, ANGLE_TABLE: angles.sections,
             DIHEDRAL_TABLE: dihedrals.sections}  # fmt: skip
    return NativeStyles(
        "\n".join(commands) + "\n",
        pair_style,
        {name: table for name, table in items.items() if len(table)},
        {name: sections for name, sections in files.items() if sections},
    )


_EXCLUSION_WORDS = {
    "special": "Their bonds carry all that acts between them.",
    "subtracted": "Their bonds carry all that acts between them, less what the pair styles do.",
}


def near_reach(forms: PriorForms) -> int:
    """Largest separation along the chain at which something else acts than between pairs far apart."""
    charged = forms.electrostatics_separation if forms.electrostatics else 0
    return max(forms.repulsion_separation, charged) - 1


class _Near(NamedTuple):
    """What acts between two beads: class of repulsion (None: none), product of charges, contact energy."""

    kind: int | None
    charges: float
    contact: float


NOTHING = _Near(None, 0.0, 0.0)


class _Pairs:
    """Everything that depends on a distance of beads that are not bonded."""

    def __init__(self, model: Model, prior: PriorParams, weight: dict[str, float], types: np.ndarray):
        self._forms, self._prior, self._types = model.forms, prior, types
        self._cutoff, self._weight = model.cutoff_A, weight
        energies = 0.5 * (prior.contact_energy + prior.contact_energy.T)
        self._contacts = weight["contact"] * energies if model.forms.contacts else np.zeros((20, 20))

    def between(self, first: int, second: int, separation: int | None) -> _Near:
        """What acts between two residue types at a separation; None: far apart."""
        forms = self._forms
        far = separation is None or separation >= forms.repulsion_separation
        charged = forms.electrostatics and (separation is None or separation >= forms.electrostatics_separation)
        kind = 2 if far else None if separation == 1 else int((separation or 0) >= forms.separations[1][0])
        charges = float(CHARGES[first] * CHARGES[second]) if charged else 0.0
        return _Near(kind, charges, float(self._contacts[first, second]) if far else 0.0)

    def repulsion(self, r: np.ndarray, kind: int) -> Curve:
        """Repulsion of a class of separations, weight included."""
        epsilon = self._weight["repulsion"] * self._prior.repulsion_epsilon[kind]
        r_min, form = self._prior.repulsion_r_min[kind], self._forms.repulsion
        if kind < 2 or form == "wca":
            return tables.tabulate(potentials.wca, r, epsilon, r_min)
        return tables.tabulate(tables.REACHING_REPULSIONS[form], r, epsilon, r_min, self._cutoff)

    def electrostatics(self, r: np.ndarray, charges: float) -> Curve:
        """Of two charges, weight included."""
        strength, length = self._prior.electrostatics
        strength = self._weight["electrostatics"] * strength * charges
        return tables.tabulate(tables.screened_charges, r, strength, length, self._cutoff)

    def breaks(self, kind: int | None, charged: bool, touching: bool) -> list[float]:
        """Where a sum of these potentials changes its form, and where it ends."""
        places: list[float] = []
        if kind is not None:
            r_min = float(self._prior.repulsion_r_min[kind])
            places += [potentials.LINEAR_BELOW * r_min, r_min]
        if charged or (kind == 2 and self._forms.repulsion != "wca"):
            places += [potentials.SWITCH_FROM * self._cutoff, self._cutoff]
        if charged:
            places.append(potentials.COULOMB_LINEAR_BELOW_A)
        if touching:
            places += [potentials.CONTACT_INNER_A, potentials.CONTACT_OUTER_A]
        return places

    def curve(self, r: np.ndarray, near: _Near) -> Curve:
        """The sum of all that acts, on a grid."""
        total = Curve(r, np.zeros_like(r), np.zeros_like(r))
        parts = []
        if near.kind is not None:
            parts.append(self.repulsion(r, near.kind))
        if near.charges:
            parts.append(self.electrostatics(r, near.charges))
        if near.contact:
            parts.append(tables.tabulate(potentials.contact, r).scaled(near.contact))
        for part in parts:
            total = total._replace(energy=total.energy + part.energy, force=total.force + part.force)
        return total

    def near_section(self, keyword: str, near: _Near, less: _Near) -> Section:
        """A bond table of what acts between near neighbours, less what a pair style does.

        LAMMPS's own grid, `BOND_POINTS` from 0 to the end, is chosen such that the places where the first repulsion
        changes its form lie on it: a kink of the force disturbs a spline least there.
        """
        breaks = [
            place for one in (near, less) for place in self.breaks(one.kind, bool(one.charges), bool(one.contact))
        ]
        reach = max([BOND_TABLE_REACH_A, *(2.0 * place for place in breaks)])
        kind = near.kind if near.kind is not None else less.kind
        end = reach
        if kind is not None:
            r_min = float(self._prior.repulsion_r_min[kind])
            end = r_min / (2 * max(1, int(0.5 * (BOND_POINTS - 1) * r_min / reach))) * (BOND_POINTS - 1)
        # Lines have to be dense on both sides of a kink.
        r = tables.grid([0.0, *breaks, *(place + 0.5 for place in breaks), end])
        return Section(keyword, "", self.curve(r, near) - self.curve(r, less))

    def style(self, network: str | None) -> tuple[list[str], list[Section], str]:
        """Commands, tables, and the pair styles in words, for all pairs that are far apart."""
        styles, coefficients, sections = [], [], []

        def add(points: int, entries: list[tuple[str, str, Curve]]) -> None:
            styles.append(f"table spline {points}")
            for pair, keyword, curve in entries:
                sections.append(Section(keyword, "", curve))
                coefficients.append((pair, len(styles), keyword))

        r = tables.grid([INNERMOST_A, *self.breaks(2, False, False)])
        add(PAIR_POINTS, [("* *", "REPULSION", self.repulsion(r, 2))])
        if self._forms.electrostatics:
            r = tables.grid([INNERMOST_A, *self.breaks(None, True, False)])
            like, unlike = self.electrostatics(r, 1.0), self.electrostatics(r, -1.0)
            signs = {1.0: ("LIKE_CHARGES", like), -1.0: ("UNLIKE_CHARGES", unlike)}
            charged = np.flatnonzero(CHARGES).tolist()
            entries = [(f"{i + 1} {j + 1}", *signs[float(CHARGES[i] * CHARGES[j])]) for i in charged for j in charged
                       if i <= j]  # fmt: skip
            add(PAIR_POINTS, entries)
            sections[-len(entries) :] = [Section(keyword, "", curve) for keyword, curve in signs.values()]
        present = np.unique(self._types).tolist()
        touching = [(i, j) for i in present for j in present if i <= j and self._contacts[i, j]]
        if touching:
            shape = tables.tabulate(potentials.contact, tables.grid([INNERMOST_A, *self.breaks(None, False, True)]))
            add(CONTACT_POINTS, [
                (f"{i + 1} {j + 1}", f"CONTACT_{RESIDUES[i].name}_{RESIDUES[j].name}",
                 shape.scaled(float(self._contacts[i, j]))) for i, j in touching
            ])  # fmt: skip
        numbered = len(styles) > 1
        words = " ".join(styles)
        # The plugin sets forces and does not add to them: what other styles had done before it would be lost.
        commands = [f"pair_style      hybrid/overlay {network + ' ' if network else ''}{words}"]
        commands += [
            f"pair_coeff      {pair} table {f'{number} ' if numbered else ''}{PAIR_TABLE} {keyword}"
            for pair, number, keyword in coefficients
        ]
        return commands, sections, words


def _bonds(
    forms: PriorForms, prior: PriorParams, weight: float, types: np.ndarray, linked: np.ndarray, pairs: _Pairs, how: str
) -> _Part:
    """Harmonic bonds along the chain, and those of table type between near neighbours."""
    bonds = build_topology(linked).bonds
    rows, numbers = _numbered(_rows(forms, types, bonds))
    stiffness, length = (np.atleast_1d(value) for value in (prior.bond_k, prior.bond_r0))
    coefficients, sections = [], []
    for row in rows:
        k, r0 = (value[row if len(value) > 1 else 0] for value in (stiffness, length))
        coefficients.append(f"harmonic {0.5 * weight * float(k)!r} {float(r0)!r}")
    items = [np.column_stack([numbers, bonds])] if len(bonds) else []
    separation = np.triu(separation_matrix(linked))
    known: dict[tuple[_Near, _Near], int] = {}
    first, second = np.nonzero((separation >= (2 if how == "special" else 1)) & (separation <= near_reach(forms)))
    for i, j in zip(first.tolist(), second.tolist(), strict=True):
        near = pairs.between(types[i], types[j], int(separation[i, j]))
        less = NOTHING if how == "special" else pairs.between(types[i], types[j], None)
        if (near, less) not in known:
            keyword = f"NEAR_{len(known) + 1}"
            sections.append(pairs.near_section(keyword, near, less))
            coefficients.append(f"table {BOND_TABLE} {keyword}")
            known[near, less] = len(coefficients)
        items.append(np.array([[known[near, less], i, j]]))
    styles = ["harmonic"] * bool(len(bonds)) + [f"table spline {BOND_POINTS}"] * bool(sections)
    if not items:
        return _Part([], np.zeros((0, 3), int), [])
    return _Part(
        [f"bond_style      hybrid {' '.join(styles)}", *_numbered_lines("bond_coeff ", coefficients)],
        np.concatenate(items),
        sections,
    )


def _angles(forms: PriorForms, prior: PriorParams, weight: float, types: np.ndarray, linked: np.ndarray) -> _Part:
    angles = build_topology(linked).angles
    rows, numbers = _numbered(_rows(forms, types, angles))
    if not rows:
        return _Part([], np.zeros((0, 4), int), [])
    coefficients = [_row(prior.angle_coeffs, row) for row in rows]
    items = np.column_stack([numbers, angles])
    if forms.angle == "harmonic":
        lines = [f"{0.5 * weight * float(k)!r} {float(np.degrees(theta0))!r}" for k, theta0 in coefficients]
        return _Part(["angle_style     harmonic", *_numbered_lines("angle_coeff", lines)], items, [])
    function: Callable[..., Any]
    if forms.angle == "spline":
        function, intervals = tables.spline_of_angle, len(coefficients[0]) - 3
        breaks = np.arccos(np.linspace(-1.0, 1.0, intervals + 1))
    else:
        function, breaks = tables.cosine_series_of_angle, np.linspace(0.0, np.pi, 9)
    sections = [
        Section(
            f"ANGLE_{number}", "", _full_turn(tables.tabulate(function, tables.grid(breaks), c).scaled(weight), 180.0)
        )
        for number, c in enumerate(coefficients, start=1)
    ]
    lines = [f"{ANGLE_TABLE} {section.keyword}" for section in sections]
    commands = [f"angle_style     table spline {ANGLE_POINTS}", *_numbered_lines("angle_coeff", lines)]
    return _Part(commands, items, sections)


def _full_turn(curve: Curve, end: float) -> Curve:
    """In degrees, with the last one exactly where LAMMPS wants it."""
    curve = tables.in_degrees(curve)
    curve.x[-1] = end
    return curve


def _dihedrals(forms: PriorForms, prior: PriorParams, weight: float, types: np.ndarray, linked: np.ndarray) -> _Part:
    dihedrals = build_topology(linked).dihedrals
    rows, numbers = _numbered(_rows(forms, types, dihedrals))
    if not rows:
        return _Part([], np.zeros((0, 5), int), [])
    items = np.column_stack([numbers, dihedrals])
    pieces = prior.dihedral_spline.shape[-1] if forms.dihedral == "spline" else DIHEDRAL_PIECES
    phi = tables.grid(np.linspace(-np.pi, np.pi, pieces + 1))
    sections = []
    for number, row in enumerate(rows, start=1):
        fields = (_row(getattr(prior, name), row) for name in DIHEDRAL_FIELDS)
        # Periodic: the last angle is the first one.
        curve = Curve(*(values[:-1] for values in tables.tabulate(tables.DIHEDRALS[forms.dihedral], phi, *fields)))
        sections.append(Section(f"DIHEDRAL_{number}", "DEGREES", tables.in_degrees(curve.scaled(weight))))
    damped = f"aat 1.0 {np.degrees(potentials.DAMPED_FROM):.6f} 180.0"
    lines = [f"{damped} {DIHEDRAL_TABLE} {section.keyword}" for section in sections]
    commands = [f"dihedral_style  table/cut spline {DIHEDRAL_POINTS}", *_numbered_lines("dihedral_coeff", lines)]
    return _Part(commands, items, sections)


def _rows(forms: PriorForms, types: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Row of the parameters of each bond, angle or dihedral."""
    if forms.keyed == "global" or not len(items):
        return np.zeros(len(items), int)
    return np.asarray(row_of_items(forms.keyed, types, items), int)


def _row(values: np.ndarray, row: int) -> np.ndarray:
    """Coefficients [C] of a row; those of a form that all share have no rows."""
    return values if values.ndim == 1 else values[row if len(values) > 1 else 0]


def _numbered(rows: np.ndarray) -> tuple[list[int], np.ndarray]:
    """The rows that occur, and for each item its LAMMPS type, from 1."""
    found, place = np.unique(rows, return_inverse=True)
    return found.tolist(), place.reshape(-1) + 1


def _numbered_lines(command: str, coefficients: list[str]) -> list[str]:
    return [f"{command:<15} {number} {text}" for number, text in enumerate(coefficients, start=1)]
