"""The part of the page about refinement: what the model's own dynamics showed, and what that changed."""

from cgloop.refine.result import Distances, RefineResult, read_result
from cgloop.report import refine_figures
from cgloop.report.gather import CycleFiles
from cgloop.report.rows import decimals
from cgloop.report.section import Section, Table, ungrouped

MOVED = {"network": "the network", "prior": "the prior's terms", "both": "network and prior"}


def make(cycle: CycleFiles, proteins: list[str]) -> Section | None:
    """The section, from what `refine` left; None where nothing was refined.

    Args:
        cycle: the files.
        proteins: those that have plots.
    """
    if "refine" not in cycle.stages:
        return None
    title, intro = "Refinement", "Averages of the model's own dynamics moved towards those of the reference."
    try:
        result = read_result(cycle.folder / "refine")
    except (KeyError, TypeError, ValueError):
        return Section("refine", title, intro, "refine", notes=["refine.json is damaged: run `cgloop refine` again."])
    if result is None:
        return Section("refine", title, intro, "refine")
    shown = [name for name in proteins if name in result.proteins] or list(result.proteins)[:1]
    groups = ungrouped([*refine_figures.judged(result.candidates), *refine_figures.prior_changes(result.prior_curves)])
    for name in shown:
        figures = refine_figures.over_rounds(result, name)
        figures += refine_figures.before_and_after(name, result.proteins[name])
        groups.append((name, figures))
    return Section(
        "refine", title, _intro(result), "refine", groups=groups,
        notes=[f"{one[0].upper()}{one[1:]}." for one in result.caveats], tables=[_used(result), _distances(result)],
    )  # fmt: skip


def _intro(result: RefineResult) -> str:
    kept = f"the average after round {result.kept_round}" if result.kept_round else "the start, unchanged"
    first = f" The first samples were {result.first_frames:,} LAMMPS frames." if result.first_frames else ""
    return (
        f"Relative entropy at {result.temperature_K:g} K moved {MOVED.get(result.parameters, result.parameters)} in "
        f"{len(result.rounds)} round{'' if len(result.rounds) == 1 else 's'}. Ended with: {result.stopped}. "
        f"Kept: {kept}.{first}"
    )


def _used(result: RefineResult) -> Table:
    rows = [
        [name, ", ".join(map(str, one.used.training)), ", ".join(map(str, one.used.stopping)) or "–",
         f"{one.chains} ({one.outside} outside)", f"{one.folded} / {one.unfolded}",
         "yes" if one.populations_determined else "no"]
        for name, one in result.proteins.items()
    ]  # fmt: skip
    head = [
        "protein",
        "matched replicas",
        "stopping replicas",
        "chains",
        "crossings in / out",
        "populations determined",
    ]
    caption = "What was used, and how often chains crossed between the folded and the unfolded basin"
    return Table(caption, head, rows, words=frozenset({0, 1, 2, 3, 5}), wide=True)


def _distances(result: RefineResult) -> Table:
    rows = []
    for name in result.proteins:
        for label, observed in (
            ("first round", result.rounds[0].proteins[name] if result.rounds else None),
            ("result", next((c.proteins[name] for c in result.candidates if c.round == result.kept_round), None)),
        ):
            if observed is not None:
                rows.append([f"{name}, {label}", *_cells(observed.training), *_cells(observed.validation)])
    head = ["", "RMSD, Å", "Q", "Rg, Å", "contacts"]
    head += [f"{one} (validation)" for one in head[1:]]
    caption = "Distances of the chains to the training part, and to the validation part, of the reference"
    return Table(caption, head, rows, wide=True)


def _cells(distances: Distances | None) -> list[str]:
    if distances is None:
        return ["–"] * 4
    return [
        decimals(value, 3) if value is not None else "–"
        for value in (distances.rmsd_A, distances.q, distances.rg_A, distances.contacts)
    ]
