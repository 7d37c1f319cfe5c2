"""What a refinement did and found: the contents of `refine.json`."""

import dataclasses
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from cgloop.checks import jsonable
from cgloop.data.refined import REFINEMENT
from cgloop.stages import read_json, write_json

SCHEMA_VERSION = 1

T = TypeVar("T")


@dataclass(frozen=True)
class Distances:
    """How far an ensemble is from the reference.

    Attributes:
        rmsd_A, q, rg_A: Wasserstein-1 distances of the distributions of CA-RMSD, native contacts and radius of
            gyration; `q` is None where the protein has no native contacts.
        contacts: mean absolute deviation of contact probabilities.
    """

    rmsd_A: float
    q: float | None
    rg_A: float
    contacts: float


@dataclass(frozen=True)
class Observed:
    """What the chains of one protein show in one block of frames.

    Attributes:
        frames: sound frames of the block.
        restarts: chains that broke a limit in it and start again.
        ess: effective share of the block's frames after the last update of the round, from 0 to 1; None where nothing
            was updated.
        rmsd_A, q, rg_A: means.
        unfolded: share of the frames with less than half of the native contacts.
        training, validation: distances to these parts of the reference; None without frames of it.
    """

    frames: int
    restarts: int
    ess: float | None
    rmsd_A: float
    q: float | None
    rg_A: float
    unfolded: float
    training: Distances
    validation: Distances | None


@dataclass(frozen=True)
class Round:
    """One round: dynamics, then updates.

    Attributes:
        number: from 1.
        updates: made in this round.
        gradient_norm: of the last update, before clipping.
        force_rmse: of the force term's last batch, kcal/mol/Å; None without a force term.
        proteins: by name.
    """

    number: int
    updates: int
    gradient_norm: float
    force_rmse: float | None
    proteins: dict[str, Observed]


@dataclass(frozen=True)
class Candidate:
    """The moving average of the parameters, judged by a block of frames that was sampled at it.

    Attributes:
        round: after which.
        accepted: whether it is fit to be the result.
        why: in words, if it is not.
        force_rmse: on the validation part, kcal/mol/Å; None without forces there.
        force_rise: its relative rise over the start.
        force_rise_allowed: the rise that is allowed: the larger of the setting and the paired 95 % half-width.
        overfitting: G = β{[⟨U⟩_val − ⟨U₀⟩_val] − [⟨U⟩_train − ⟨U₀⟩_train]}, mean over the proteins; dimensionless.
        overfitting_error: its 95 % half-width.
        entropy_change: relative entropy of the validation part to the model, less that at the start; dimensionless.
        entropy_change_error: its 95 % half-width.
        proteins: by name.
    """

    round: int
    accepted: bool
    why: str
    force_rmse: float | None
    force_rise: float | None
    force_rise_allowed: float | None
    overfitting: float | None
    overfitting_error: float | None
    entropy_change: float | None
    entropy_change_error: float | None
    proteins: dict[str, Observed]


@dataclass(frozen=True)
class Histogram:
    """Densities of an observable in the same bins.

    Attributes:
        name: `rmsd`, `q` or `rg`.
        unit: "Å", or "" if dimensionless.
        edges: of the bins, one more than there are bins.
        reference, before, after: densities of the training part, of the first round's frames and of the result's.
    """

    name: str
    unit: str
    edges: list[float]
    reference: list[float]
    before: list[float]
    after: list[float]


@dataclass(frozen=True)
class ContactMaps:
    """Contact probabilities of pairs of beads.

    Attributes:
        pairs: beads of each pair, counted from 0.
        reference, before, after: as in `Histogram`.
    """

    pairs: list[list[int]]
    reference: list[float]
    before: list[float]
    after: list[float]


@dataclass(frozen=True)
class Used:
    """Replicas of the reference that a refinement has seen.

    Attributes:
        training: whose averages were matched.
        stopping: that decided when to stop.
        started_from: further ones that chains, or dynamics whose frames were samples, started from.
    """

    training: list[int]
    stopping: list[int]
    started_from: list[int]


@dataclass(frozen=True)
class RefinedProtein:
    """What became of one protein.

    Attributes:
        beads, chains: numbers of them.
        outside: chains that started outside the training frames, and from what, in words.
        used: replicas of the reference.
        folded, unfolded: how often chains crossed to these basins (Q above 0.7 and below 0.3).
        populations_determined: whether there were enough crossings.
        bead_energy_change: mean change of every bead's energy on the training frames, kcal/mol.
        histograms, contacts: before and after.
    """

    beads: int
    chains: int
    outside: str
    used: Used
    folded: int
    unfolded: int
    populations_determined: bool
    bead_energy_change: list[float]
    histograms: list[Histogram]
    contacts: ContactMaps


@dataclass(frozen=True)
class PriorCurve:
    """A term of the prior before and after.

    Attributes:
        term: `angle`, `dihedral` or `contact`.
        label: residue type or pair of types.
        unit: of `x`.
        x: where.
        before, after: potential, kcal/mol; a single number each for contacts, whose depth it is.
    """

    term: str
    label: str
    unit: str
    x: list[float]
    before: list[float]
    after: list[float]


@dataclass(frozen=True)
class RefineResult:
    """Contents of `refine.json`.

    Attributes:
        parameters: `network`, `prior` or `both`.
        temperature_K: of reference and chains.
        settings: section `refine` of the config.
        force_weight_scale: 3N/2σ² per protein, what `force_weight` multiplies, (kcal/mol/Å)⁻²; 0 without a force term.
        first_frames: frames of the failed cycle that were the first samples.
        stopped: why it ended.
        failed: whether it had to end before its time.
        kept_round: after which round the result was averaged; 0 is the start.
        rounds, candidates: the history.
        proteins: by name.
        prior_curves: what changed of the prior; empty if it did not move.
        caveats: what a reader of the verdict has to know, in words.
    """

    parameters: str
    temperature_K: float
    settings: dict[str, Any]
    force_weight_scale: dict[str, float]
    first_frames: int
    stopped: str
    failed: bool
    kept_round: int
    rounds: list[Round]
    candidates: list[Candidate]
    proteins: dict[str, RefinedProtein]
    prior_curves: list[PriorCurve] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Write `refine.json` into a folder."""
        write_json(folder / REFINEMENT, jsonable({"schema_version": SCHEMA_VERSION, **asdict(self)}))


def read_result(folder: Path) -> RefineResult | None:
    """Return what a stage `refine` wrote into its folder; None if it did not write.

    Raises:
        KeyError, TypeError, ValueError: the file is damaged.
    """
    data = read_json(folder / REFINEMENT)
    return from_plain(RefineResult, data) if data else None


def from_plain(kind: type[T], data: dict[str, Any]) -> T:
    """Return a dataclass, nested ones included, from the plain data that `dataclasses.asdict` makes of it.

    Raises:
        KeyError: a field without a default is missing.
    """
    hints = get_type_hints(kind)
    values = {}
    for one in dataclasses.fields(kind):  # type: ignore[arg-type]
        if one.name in data or (one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING):
            values[one.name] = _value(hints[one.name], data[one.name])
    return kind(**values)


def _value(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    if dataclasses.is_dataclass(hint):
        return from_plain(hint, value)  # type: ignore[arg-type]
    arguments = get_args(hint)
    if get_origin(hint) is list:
        return [_value(arguments[0], one) for one in value]
    if get_origin(hint) is dict:
        return {key: _value(arguments[1], one) for key, one in value.items()}
    for option in arguments:
        if dataclasses.is_dataclass(option):
            return from_plain(option, value)  # type: ignore[arg-type]
    return value
