"""One protein: all-atom trajectories in, its file of the data set out, a block of frames at a time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cgloop.config.data import DataConfig
from cgloop.data.dataset import SPLITS, ProteinWriter
from cgloop.data.noise import METHOD, choose_frames, estimate_noise
from cgloop.data.protein import TEMPERATURE_TOLERANCE_K, TrajectoryFacts
from cgloop.data.splits import assign_splits, fit_window, part_of
from cgloop.interrupt import check_stop
from cgloop.prep.fitting import Maps, fit_maps, fit_notes, read_sample
from cgloop.prep.mapping import Beads, map_to_ca
from cgloop.prep.quarantine import GOOD, UNUSUAL_FORCE, Limits, Screen, TrajectoryRecord, table_row
from cgloop.prep.reference import Frames, Reference, Trajectory
from cgloop.prep.tally import Tally, summarise

Advance = Callable[[int, int], None]
"""Told how many frames were read, and how many of them were kept."""

FITTED = ("optimal", "aggforce")
"""Projections whose map depends on frames."""

CAUTION = 0.8
"""Of the frames that train if none is quarantined, the first part that serves the fit of time blocks."""


@dataclass(frozen=True)
class ProteinResult:
    """What became of one protein: entries for `quarantine.json` and `projection.json`, warnings, and its part.

    `part` is that of all its frames with `by: protein`, None otherwise.
    """

    name: str
    quarantine: dict[str, Any]
    projection: dict[str, Any]
    notes: list[str]
    part: str | None = None


def prepare_protein(
    reference: Reference,
    trajectories: Sequence[Trajectory],
    frames: Frames,
    config: DataConfig,
    out: Path,
    attributes: Mapping[str, Any],
    advance: Advance = lambda read, kept: None,
) -> ProteinResult:
    """Write the file of one protein.

    Args:
        reference: an open source.
        trajectories: of it, those that are wanted.
        frames: which of their frames.
        config: the section `data`.
        out: file to write.
        attributes: stored on it.
        advance: called after each block.

    Raises:
        UserError: an unknown residue, too many bad frames, too few for the split, no map of the wanted kind.
    """
    beads = map_to_ca(reference.atoms, reference.path)
    job = _Job(reference, trajectories, frames, config, beads, out, attributes, advance)
    result, kept = job.run(_first_windows(job))
    if kept is not None:
        # Frames of the fit were not for training after all: many frames at an end are bad. Now their number is known.
        result, _ = job.run({key: fit_window(count, key[1], config.split) for key, count in kept.items()})
    return result


def _first_windows(job: "_Job") -> dict[tuple[float, int], int]:
    """Of each trajectory, how many of the first wanted frames are surely for training unless very many are bad."""
    windows = {}
    for trajectory in job.trajectories:
        if not trajectory.has_forces:
            windows[trajectory.key] = 0
            continue
        count = fit_window(len(job.frames.of(trajectory.n_frames)), trajectory.replica, job.config.split)
        windows[trajectory.key] = int(CAUTION * count) if job.config.split.by == "time_block" else count
    return windows


@dataclass(frozen=True, eq=False)
class _Job:
    reference: Reference
    trajectories: Sequence[Trajectory]
    frames: Frames
    config: DataConfig
    beads: Beads
    out: Path
    attributes: Mapping[str, Any]
    advance: Advance

    def run(
        self, windows: Mapping[tuple[float, int], int]
    ) -> tuple[ProteinResult, dict[tuple[float, int], int] | None]:
        """Fit and write; and the number of kept frames of each trajectory if the fit has to be repeated."""
        limits = Limits()
        maps = self._maps(windows, limits)
        beads = {name: getattr(self.beads, name) for name in ("residue_type", "chain", "resid", "native", "linked")}
        screen, tally = Screen(self.reference.is_hydrogen(), self.beads.linked, limits), Tally()
        with ProteinWriter(self.out, beads, self.attributes) as writer:
            records = [self._stream(trajectory, maps, screen, writer, tally) for trajectory in self.trajectories]
            kept = ~screen.unusual(writer.rows("temperature_K"))
            self._set_aside(records, ~kept, limits)
            kept_with_forces = kept[self._with_forces(writer.rows("temperature_K"), writer.rows("replica"))]
            writer.keep(kept)
            split = assign_splits(
                writer.rows("replica"),
                writer.rows("temperature_K"),
                self.config.split,
                protein=self.reference.name,
                model_temperature_K=self.config.temperature_K,
                where=self.reference.path,
            )
            writer.finish(split)
            leaked = 0 if maps is None else self._outside_training(maps, writer, split)
            if leaked and maps is not None and maps.chosen in FITTED:
                return ProteinResult(self.reference.name, {}, {}, []), self._count(writer)
            projection = self._report(maps, writer, split, tally, kept_with_forces)
            writer.describe(_noise_attributes(projection))
            writer.describe_trajectories(
                [TrajectoryFacts(*t.key, t.frame_ps, t.started_from, t.relaxation_frames) for t in self.trajectories]
            )
            if maps is not None and maps.chosen in FITTED:
                weights = maps.by_name[maps.chosen].weights(len(self.reference.atoms))
                writer.attach("force_map", weights.astype(np.float32))
        quarantine = {
            **table_row(records),
            "trajectories": [record.to_json() for record in records],
            "beads": len(self.beads.atom),
            "notes": [*self.reference.notes, *self._without_forces()],
        }
        notes = [*self.reference.notes, *([] if maps is None else fit_notes(maps))]
        part = part_of(self.reference.name, self.config.split) if self.config.split.by == "protein" else None
        return ProteinResult(self.reference.name, quarantine, projection, notes, part), None

    def _without_forces(self) -> list[str]:
        """What the user should know of trajectories without forces."""
        absent = sorted({t.replica for t in self.trajectories if not t.has_forces})
        if not absent:
            return []
        named = f"replica{'s' if len(absent) > 1 else ''} {', '.join(map(str, absent))}"
        return [f"{named}: positions without forces, for reference, priors and refinement, not for force matching"]

    def _maps(self, windows: Mapping[tuple[float, int], int], limits: Limits) -> Maps | None:
        """The force maps; None where no trajectory has forces."""
        if not any(t.has_forces for t in self.trajectories):
            return None
        fitted_to = [
            t for t in self.trajectories if t.has_forces and self._at_model_temperature(np.array(t.temperature_K))
        ]
        hydrogen = self.reference.is_hydrogen()
        screen = Screen(hydrogen, self.beads.linked, limits)
        sample = read_sample(
            fitted_to, self.frames, lambda t: windows[t.key], self.beads.atom, screen, self.config.force_map.frames
        )
        structure = np.array([atom.position for atom in self.reference.atoms])
        return fit_maps(self.config.projection, sample, self.beads, hydrogen, structure, self.config.force_map)

    def _at_model_temperature(self, temperature_K: np.ndarray) -> np.ndarray:
        return np.abs(temperature_K - self.config.temperature_K) < TEMPERATURE_TOLERANCE_K

    def _stream(
        self, trajectory: Trajectory, maps: Maps | None, screen: Screen, writer: ProteinWriter, tally: Tally
    ) -> TrajectoryRecord:
        """Copy the good frames of one trajectory, block by block, as beads."""
        record = TrajectoryRecord(trajectory.temperature_K, trajectory.replica)
        for block in trajectory.blocks(self.frames):
            check_stop()
            same_atoms = trajectory.bead_atoms is None
            positions = block.positions[:, self.beads.atom if same_atoms else trajectory.bead_atoms]
            mapped: dict[str, np.ndarray] = {}
            if maps is None or block.forces is None:
                stored = np.full_like(positions, np.nan)
                reasons = screen.look_without_forces(block.positions, positions, same_atoms=same_atoms)
            else:
                with np.errstate(over="ignore", invalid="ignore"):
                    stored, mapped = maps.project(trajectory, block)
                reasons = screen.look(block.positions, block.forces, positions, stored)
            record.add(block.source_frame, reasons, block.moved)
            good = reasons == GOOD
            n_good = int(good.sum())
            writer.append(
                positions[good],
                stored[good],
                np.full(n_good, trajectory.temperature_K),
                np.full(n_good, trajectory.replica),
                block.source_frame[good],
            )
            if mapped:
                tally.add(positions[good], {name: forces[good] for name, forces in mapped.items()})
            self.advance(len(good), n_good)
        return record

    def _set_aside(self, records: Sequence[TrajectoryRecord], unusual: np.ndarray, limits: Limits) -> None:
        """Note which frames have unusual forces, and refuse trajectories with too many bad frames."""
        first = 0
        for record, trajectory in zip(records, self.trajectories, strict=True):
            last = first + record.n_good
            record.set_aside(unusual[first:last], UNUSUAL_FORCE)
            record.require_mostly_good(limits, trajectory.where)
            first = last

    def _outside_training(self, maps: Maps, writer: ProteinWriter, split: np.ndarray) -> int:
        """Frames of the fit that ended in another part than training; 0 where whole proteins are divided."""
        if self.config.split.by == "protein":
            return 0
        return int((self._of_the_fit(maps, writer) & (split != SPLITS["train"])).sum())

    def _not_fitted_to(self, maps: Maps, writer: ProteinWriter, split: np.ndarray) -> np.ndarray:
        """bool [F], frames on which the maps can be compared: none was fitted to them, or only in other folds."""
        if self.config.split.by != "protein":
            return np.isin(split, (SPLITS["validation"], SPLITS["test"]))
        # Cross-fitting makes every frame a held-out one; the map of aggforce has no folds.
        return ~self._of_the_fit(maps, writer) if maps.chosen == "aggforce" else np.ones(len(split), bool)

    def _of_the_fit(self, maps: Maps, writer: ProteinWriter) -> np.ndarray:
        """bool [F], frames that the maps were fitted to."""
        temperature, replica, frame = (writer.rows(f) for f in ("temperature_K", "replica", "source_frame"))
        found = np.zeros(len(frame), bool)
        for key, (frames, _) in maps.fold_of.items():
            here = (np.abs(temperature - key[0]) < TEMPERATURE_TOLERANCE_K) & (replica == key[1])
            found |= here & np.isin(frame, frames)
        return found

    def _with_forces(self, temperature: np.ndarray, replica: np.ndarray) -> np.ndarray:
        """bool, which of these frames have forces."""
        found = np.zeros(len(replica), bool)
        for one in self.trajectories:
            if one.has_forces:
                found |= (np.abs(temperature - one.temperature_K) < TEMPERATURE_TOLERANCE_K) & (replica == one.replica)
        return found

    def _count(self, writer: ProteinWriter) -> dict[tuple[float, int], int]:
        """Kept frames of each trajectory; zero for those without forces."""
        counts: dict[tuple[float, int], int] = {}
        for key in zip(writer.rows("temperature_K").tolist(), writer.rows("replica").tolist(), strict=True):
            counts[key] = counts.get(key, 0) + 1
        return {**counts, **{one.key: 0 for one in self.trajectories if not one.has_forces}}

    def _report(
        self, maps: Maps | None, writer: ProteinWriter, split: np.ndarray, tally: Tally, kept: np.ndarray
    ) -> dict[str, Any]:
        temperature, replica = writer.rows("temperature_K"), writer.rows("replica")
        if maps is None:
            return {"method": None, "fit": {}, "mean_squared_force": {}, "held_out_frames": 0, "virial": [],
                    "keeps_rigid_bonds": {}, "noise": None}  # fmt: skip
        known = self._with_forces(temperature, replica)
        at_model = self._at_model_temperature(temperature) & known
        held_out = at_model & self._not_fitted_to(maps, writer, split)
        rows = np.flatnonzero(at_model)
        rows = rows[choose_frames(len(rows))]
        noise = estimate_noise(*writer.frames(rows), self.beads.linked, replica[rows])
        n_atoms = len(self.reference.atoms)
        return {
            "method": maps.chosen,
            "fit": dict(maps.facts),
            **summarise(tally, kept, temperature[known], replica[known], held_out[known], len(self.beads.atom)),
            "keeps_rigid_bonds": {
                name: maps.groups.hold(one.weights(n_atoms)) if maps.groups else None
                for name, one in maps.by_name.items()
            },
            "noise": None if noise is None else {**vars(noise), "method": METHOD},
        }


def _noise_attributes(projection: Mapping[str, Any]) -> dict[str, Any]:
    noise = projection["noise"]
    if noise is None:
        return {}
    return {
        "force_noise": noise["rms"],
        "force_noise_error": noise["error"],
        "force_noise_unit": "kcal/mol/angstrom, root mean square of a component",
        "force_noise_method": noise["method"],
    }
