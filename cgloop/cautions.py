"""What whoever uses a model has to know beside its verdict: the one list that verdict, page, manifest and card show.

A check says whether something is good. A caution says that something was done, on request, that the checks cannot
see. A model with cautions may pass.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from cgloop.residues import N_TYPES
from cgloop.wording import listing

Kind = Literal[
    "mixed-temperatures",
    "energy-weights",
    "excluded-files",
    "untrained-types",
    "refined-model",
    "undetermined-populations",
    "untrained-protein",
    "trained-protein",
    "relaxing-reference",
    "matched-reference",
    "moved-in-minimization",
    "reduced-gate",
]
KINDS: tuple[Kind, ...] = get_args(Kind)

MOST_NAMES = 6
"""So many names are written into a sentence; `detail` has them all."""


@dataclass(frozen=True)
class Caution:
    """One thing to know.

    Attributes:
        kind: what it is about.
        text: one sentence.
        detail: names and numbers behind it, plain data.
    """

    kind: Kind
    text: str
    detail: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def model_cautions(
    *,
    dataset: Mapping[str, Any],
    mixed: bool,
    energy_weights: Mapping[str, float],
    untrained: Sequence[str],
    refined: Mapping[str, Sequence[int]] | None = None,
    undetermined: Sequence[str] = (),
) -> list[Caution]:
    """Cautions of a model, from what it was made of.

    Args:
        dataset: the data set's manifest: model's temperature, frames of each temperature, excluded files.
        mixed: whether frames of every temperature were trained on.
        energy_weights: factor on the energy of each prior term.
        untrained: names of residue types that a learned energy knows nothing about; empty if nothing is learned.
        refined: replicas of the reference that a refinement used, by protein; none if the training was not refined.
        undetermined: proteins of which a refinement could not determine the populations of basins.
    """
    return [
        *(_mixed(dataset) if mixed else []),
        *_energy_weights(energy_weights),
        *_excluded(dataset.get("excluded_files") or []),
        *_untrained(untrained),
        *_refined(refined or {}, undetermined),
    ]


def protein_cautions(proteins: Mapping[str, Mapping[str, Any]]) -> list[Caution]:
    """Cautions about proteins that were simulated.

    Args:
        proteins: their entries in `metrics.json`: `untrained_types`, frames of each part in `reference`, and how far
            the minimization moved them in `minimization`.
    """
    return [caution for name, entry in sorted(proteins.items()) for caution in _of_protein(name, entry)]


def _of_protein(name: str, entry: Mapping[str, Any]) -> Iterator[Caution]:
    if types := entry.get("untrained_types"):
        yield Caution(
            "untrained-protein",
            f"{name} has residues without training ({listing(types, MOST_NAMES)}): its structural checks are at best "
            "inconclusive.",
            {"protein": name, "residue_types": list(types)},
        )
    frames = (entry.get("reference") or {}).get("splits") or {}
    if frames.get("train") and not (frames.get("validation") or frames.get("test")):
        yield Caution(
            "trained-protein",
            f"{name} has no held-out frames: it was trained on, started from training frames, and is compared with "
            "them. That it does well says nothing about other proteins.",
            {"protein": name, "frames": dict(frames)},
        )
    if relaxing := (entry.get("reference") or {}).get("relaxing"):
        yield Caution(
            "relaxing-reference",
            f"The reference of {name} still leaves the one conformation in which all of it was begun, in "
            f"{listing(relaxing, MOST_NAMES)}: a fail of these is one against the reference as given. A longer "
            "reference, or one begun in several conformations, would decide.",
            {"protein": name, "checks": list(relaxing)},
        )
    yield from _matched(name, (entry.get("reference") or {}).get("compared") or {})
    yield from _moved(name, entry.get("minimization") or {})


def _matched(name: str, compared: Mapping[str, Any]) -> Iterator[Caution]:
    """Of a protein that is compared with what the model was refined to."""
    if compared.get("with") != "all":
        return
    yield Caution(
        "matched-reference",
        f"{name} is compared with the whole reference, what its refinement used included: {compared['why']}. That it "
        "does well is matched, not predicted.",
        {"protein": name, **compared},
    )


def _moved(name: str, minimization: Mapping[str, Any]) -> Iterator[Caution]:
    moved, limit = minimization.get("max_rmsd_A"), minimization.get("rmsd_caution_A")
    if moved is not None and limit is not None and moved > limit:
        yield Caution(
            "moved-in-minimization",
            f"Minimization moved {name} by {moved:.1f} Å RMSD from a frame of the data (more than {limit:g} Å): its "
            "nearest minimum of the model is another structure.",
            {"protein": name, "rmsd_A": moved, "limit_A": limit},
        )


def gate_cautions(required: Sequence[str], usual: Sequence[str]) -> list[Caution]:
    """Checks that usually decide a verdict, and did not decide this one."""
    left_out = [name for name in usual if name not in required]
    if not left_out:
        return []
    text = f"{len(left_out)} of the {len(usual)} checks that usually decide did not: {listing(left_out, len(usual))}."
    return [Caution("reduced-gate", text, {"checks": left_out})]


def _mixed(dataset: Mapping[str, Any]) -> list[Caution]:
    model_K = float(dataset["temperature_K"])
    proteins = dataset["proteins"].values()
    found = {float(one) for protein in proteins for one in protein.get("frames_per_temperature") or {}}
    if found <= {model_K}:
        return []
    temperatures = sorted(found)
    return [
        Caution(
            "mixed-temperatures",
            f"Fitted to frames of {listing([f'{one:g}' for one in temperatures], len(temperatures))} K, and judged at "
            f"{model_K:g} K: forces of another temperature belong to another potential of mean force.",
            {"temperatures_K": temperatures, "model_temperature_K": model_K},
        )
    ]


def _energy_weights(weights: Mapping[str, float]) -> list[Caution]:
    changed = {term: float(weight) for term, weight in weights.items() if weight != 1.0}
    if not changed:
        return []
    listed = listing([f"{term} × {weight:g}" for term, weight in changed.items()], len(changed))
    text = f"Energies of prior terms are scaled ({listed}): these are not the potentials that were fitted."
    return [Caution("energy-weights", text, {"weights": changed})]


def _excluded(files: Sequence[Mapping[str, str]]) -> list[Caution]:
    if not files:
        return []
    what = "1 source file" if len(files) == 1 else f"{len(files):,} source files"
    text = f"{what} could not be used and left out: {listing([str(one.get('source')) for one in files], MOST_NAMES)}."
    return [Caution("excluded-files", text, {"files": [dict(one) for one in files]})]


def _untrained(types: Sequence[str]) -> list[Caution]:
    if not types:
        return []
    text = (
        f"{len(types)} of {N_TYPES} residue types were not in training ({listing(types, N_TYPES)}): the network has "
        "no energy for them."
    )
    return [Caution("untrained-types", text, {"residue_types": list(types)})]


def _refined(used: Mapping[str, Sequence[int]], undetermined: Sequence[str]) -> Iterator[Caution]:
    if used:
        listed = [f"{name} (replicas {listing([str(one) for one in rows], MOST_NAMES)})" for name, rows in used.items()]
        yield Caution(
            "refined-model",
            f"Refined to the reference of {listing(listed, MOST_NAMES)}: the conformations of these proteins are "
            "matched, not predicted.",
            {"used_replicas": {name: list(rows) for name, rows in used.items()}},
        )
    if undetermined:
        yield Caution(
            "undetermined-populations",
            f"Populations of basins are not determined ({listing(undetermined, MOST_NAMES)}): the chains of the "
            "refinement hardly crossed between basins, so that their relative depth was not trained.",
            {"proteins": list(undetermined)},
        )
