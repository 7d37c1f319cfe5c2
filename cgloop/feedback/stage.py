"""The stage `feedback`: what the MD of a cycle says about the model, and what the next may learn from it."""

import json
import logging
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cgloop.checks import jsonable
from cgloop.config.root import Config
from cgloop.data.dataset import DatasetReader
from cgloop.data.decoys import Decoys, write_decoys
from cgloop.errors import UserError
from cgloop.feedback.crash import Crash, read_crash
from cgloop.feedback.decoys import Candidates, select_decoys
from cgloop.feedback.diagnosis import diagnose
from cgloop.feedback.distribution import Distribution, in_words, load_distribution
from cgloop.feedback.failures import failures
from cgloop.feedback.near_misses import near_misses
from cgloop.feedback.outbox import Candidate, write_outbox
from cgloop.feedback.unusual import Disagreement, unusual_frames
from cgloop.interrupt import check_stop
from cgloop.md.observables import SERIES
from cgloop.md.system import System
from cgloop.stages import write_json
from cgloop.validate.trajectory import frame_interval, read_dcd

log = logging.getLogger("cgloop.feedback")

SCHEMA_VERSION = 2
STAGES = ("minimize", "nvt", "nve")
MOST_LOOKED_AT = 200
"""Frames of a replica's trajectory, at most, evenly spaced: more are hardly independent, and all of them are held."""


def feedback_stage(
    config: Config,
    md_dir: Path,
    dataset_dir: Path,
    out: Path,
    *,
    priors_yaml: Path | None = None,
    train_dir: Path | None = None,
    cycle: int = 0,
) -> dict[str, Any]:
    """Explain every crash below `md_dir`; write `feedback.json`, decoys and an outbox.

    Args:
        config: sections `feedback`, `data`, `md`, and the cutoff of `model`.
        md_dir: output of the stage `md`: `md.json` and `<protein>/<stage>/`.
        dataset_dir: output of the stage `prep`, to tell how far from the training data a frame lies.
        out: folder that exists.
        priors_yaml: the prior of the model, to run it alone; None to leave that out.
        train_dir: of an ensemble, to ask its members; None if there is none.
        cycle: recorded with decoys.

    Returns:
        Contents of `feedback.json`: `crashes`, what `diagnose` says of each, with its `file`, `sound_frame`,
        `distribution` (see `Distribution.place`), `committee` and `prior_alone`, in order of protein, stage and
        replica, and after those of a stage what ended its runs without a record; `near_misses`; `unusual_frames`;
        `classes`, how many crashes of each class; `decoys`, how many were found.
        Further files: `decoys.h5` and `decoys.json` if there are any; `outbox/` if there are candidates.

    Raises:
        UserError: `md.json`, a crash file or the data set is missing or damaged.
        Interrupted: stopped on request.
    """
    try:
        md = json.loads((md_dir / "md.json").read_text(encoding="utf-8"))
        proteins, limits = sorted(md["proteins"]), md["limits"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"no MD to learn from: {error}", where=md_dir, remedy="run `cgloop md` again") from None
    work = _Work(config, md, limits, md_dir, dataset_dir, priors_yaml, train_dir)
    found = _Found([], [], [], [], [])
    for protein in proteins:
        _one_protein(work, protein, found, cycle)
    result = {
        "schema_version": SCHEMA_VERSION,
        "crashes": found.crashes,
        "near_misses": found.close,
        "unusual_frames": found.unusual,
        "classes": dict(Counter(crash["class"] for crash in found.crashes)),
        "decoys": sum(map(len, found.decoys)),
    }
    result = jsonable(result)
    write_json(out / "feedback.json", result)
    if found.decoys:
        write_decoys(out / "decoys.h5", found.decoys)
        write_json(out / "decoys.json", {"decoys": [entry for one in found.decoys for entry in one.describe()]})
    if found.candidates and config.feedback.outbox:
        entries = DatasetReader.open(dataset_dir).manifest["proteins"]
        source_of = {name: entry.get("source", "") for name, entry in entries.items()}
        write_outbox(out / "outbox", found.candidates[: config.feedback.outbox], source_of, config.data)
    return result


@dataclass
class _Found:
    """What the stage collects."""

    crashes: list[dict[str, Any]]
    close: list[dict[str, Any]]
    unusual: list[dict[str, Any]]
    decoys: list[Decoys]
    candidates: list[Candidate]


@dataclass(frozen=True)
class _Work:
    """What the stage works on."""

    config: Config
    md: dict[str, Any]
    limits: dict[str, float]
    md_dir: Path
    dataset_dir: Path
    priors_yaml: Path | None
    train_dir: Path | None

    @cached_property
    def prior_alone(self) -> Any:
        """The prior ready to run, a `PriorAlone`; None if there is none. Loads JAX."""
        if self.priors_yaml is None:
            return None
        from cgloop.feedback.prior_rerun import PriorAlone

        return PriorAlone.read(self.priors_yaml, self.config.model.cutoff_A)

    def disagreement(self, system: System) -> Disagreement | None:
        """See `Disagreement`; None without an ensemble."""
        if self.train_dir is None:
            return None
        from cgloop.md.uncertainty import relative_disagreement

        return relative_disagreement(self.train_dir, system)


def _one_protein(work: _Work, protein: str, found: _Found, cycle: int) -> None:
    known = load_distribution(work.dataset_dir, protein)
    system = None if known is None else System.of(known.frames)
    disagreement = None if system is None else work.disagreement(system)
    decoys: list[Candidates] = []
    survivors: list[Candidates] = []
    for stage in STAGES:
        folder = work.md_dir / protein / stage
        for path in sorted(folder.glob("crash_*.h5")):
            check_stop()
            entry = _one_crash(work, path, known, system, disagreement, found)
            decoys += _of_crash(read_crash(path), entry["class"], known)
            found.crashes.append(entry)
        for failure in failures(work.md, protein, stage):
            log.warning("%s: %s", failure["class"], failure["words"])
            found.crashes.append(failure)
        if stage != "minimize" and (folder / SERIES).is_file():
            found.close += near_misses(folder / SERIES, work.limits, work.config.feedback.near_misses.limit_share)
            if known is not None:
                check_stop()
                ran = _trajectories(folder, stage, known)
                decoys += [one for one, _ in ran]
                survivors += [one for one, survived in ran if survived]
    if known is None or system is None:
        return
    _unusual(work, survivors, known, system, disagreement, found)
    if work.config.feedback.decoys.enabled and known.coverage.what == "training":
        chosen = select_decoys(
            protein, known.frames.linked, known.coverage, decoys, known.frames.n_frames, work.config.feedback.decoys,
            cutoff_A=work.config.model.cutoff_A, min_distance_A=work.limits["min_distance_A"], cycle=cycle,
        )  # fmt: skip
        if len(chosen):
            found.decoys.append(chosen)
            log.info("%s: %d frames outside the training data are kept as decoys", protein, len(chosen))


def _one_crash(
    work: _Work,
    path: Path,
    known: Distribution | None,
    system: System | None,
    disagreement: Disagreement | None,
    found: _Found,
) -> dict[str, Any]:
    """What is said of a crash, and its last sound frame for the outbox."""
    entry = {
        "file": path.relative_to(work.md_dir).as_posix(),
        **diagnose(path, None if known is None else known.coverage),
    }
    log.warning("%s: %s", entry["class"], entry["words"])
    crash = read_crash(path)
    if known is None or system is None or known.coverage.n_beads != crash.n_beads:
        return entry
    finite = np.flatnonzero(
        np.isfinite(crash.positions).all(axis=(1, 2)) & np.isfinite(crash.velocities).all(axis=(1, 2))
    )
    if not len(finite):
        return entry
    outside = known.coverage.outside(crash.positions[finite])
    inside = np.flatnonzero(outside <= work.config.feedback.decoys.margin_A)
    start = int(finite[inside[-1]]) if len(inside) else int(finite[0])
    entry["sound_frame"] = {
        "row": start,
        "step": int(crash.steps[start]),
        "time_fs": float(crash.time_fs[start]),
        "inside": bool(len(inside)),
    }
    last = crash.positions[finite[-1]]
    place = known.place(last)
    entry["distribution"] = place
    if place is not None:
        entry["distribution_words"] = in_words(place, known.coverage.what, crash.residues)
    if disagreement is not None:
        at_start, at_end = disagreement(crash.positions[[start, finite[-1]]])
        entry["committee"] = {
            "sound_frame": float(at_start),
            "last_frame": float(at_end),
            "unit": "of validation frames",
        }
    if not len(inside) and start == len(crash.positions) - 1:
        # There is no frame before the crash to go on from.
        return entry
    if crash.stage != "minimize" and work.prior_alone is not None:
        length_ps = work.config.feedback.prior_rerun_ps
        entry["prior_alone"] = work.prior_alone.rerun(crash, start, system.bond_mean_A, work.limits, length_ps)
    what = "the last frame inside the training data" if len(inside) else "the first frame recorded"
    found.candidates.append(
        Candidate(
            system, crash.positions[start], f"{what} before a crash ({entry['class']})",
            {"stage": crash.stage, "replica": crash.replica, "step": int(crash.steps[start])},
            known.nearest(crash.positions[start]),
        )
    )  # fmt: skip
    return entry


def _of_crash(crash: Crash, kind: str, known: Distribution | None) -> list[Candidates]:
    """The recorded frames as candidates for decoys, those that are finite."""
    if known is None or known.coverage.n_beads != crash.n_beads:
        return []
    finite = np.isfinite(crash.positions).all(axis=(1, 2))
    return [Candidates(crash.stage, crash.replica, crash.steps[finite], crash.positions[finite], f"crash: {kind}")]


def _trajectories(folder: Path, stage: str, known: Distribution) -> list[tuple[Candidates, bool]]:
    """Return the trajectories of a stage, and whether each replica survived.

    Steps of the frames follow from what the run recorded, not from the present config.
    """
    ran = []
    try:
        with h5py.File(folder / SERIES) as file:
            equilibration_steps = int(file.attrs["equilibration_steps"])
            survived = {
                int(name.removeprefix("replica_")): bool(group.attrs.get("survived", False))
                for name, group in file.items()
                if name.startswith("replica_")
            }
        for replica, well in sorted(survived.items()):
            path = folder / f"replica_{replica:03d}.dcd"
            if not path.is_file():
                continue
            positions = read_dcd(path, known.coverage.n_beads)
            rows = np.unique(np.linspace(0, len(positions) - 1, MOST_LOOKED_AT).astype(int))[: len(positions)]
            steps = equilibration_steps + frame_interval(path) * (rows + 1)
            ran.append((Candidates(stage, replica, steps, positions[rows], "outside the training data"), well))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"damaged: {error}", where=folder, remedy="run `cgloop md` again") from None
    return ran


def _unusual(
    work: _Work,
    survivors: list[Candidates],
    known: Distribution,
    system: System,
    disagreement: Disagreement | None,
    found: _Found,
) -> None:
    listed = unusual_frames(survivors, known.coverage, work.config.feedback.near_misses, disagreement)
    where = {
        (one.stage, one.replica, int(step)): one.positions[k] for one in survivors for k, step in enumerate(one.steps)
    }
    for entry in listed:
        frame = where[entry["stage"], entry["replica"], entry["step"]].astype(float)
        found.unusual.append({"protein": system.name, **entry})
        if np.isfinite(frame).all():
            origin = {key: entry[key] for key in ("stage", "replica", "step")}
            found.candidates.append(Candidate(system, frame, entry["reason"], origin, known.nearest(frame)))
