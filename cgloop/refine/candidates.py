"""Candidates for the result of a refinement, judged by frames sampled at them and by the validation part alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cgloop.config.refine import RefineStoppingConfig
from cgloop.refine.chains import Kept, ProteinChains
from cgloop.refine.energy import Trained
from cgloop.refine.result import Candidate, Observed
from cgloop.refine.sampler import Block
from cgloop.refine.statistics import entropy_change, force_rise, free_energies, overfitting
from cgloop.refine.subject import Part

JUDGED_FRAMES = 2_000
"""Frames of a part, evenly spaced, on which energies and forces are compared."""


@dataclass(frozen=True, eq=False)
class _Energies:
    """Frames of a part and the energies that the start parameters give them.

    Attributes:
        positions: float32 [F, N, 3].
        lineages: rows of each.
        start: float64 [F], kcal/mol.
    """

    positions: np.ndarray
    lineages: list[np.ndarray]
    start: np.ndarray


@dataclass(frozen=True, eq=False)
class _Forces:
    """Validation frames with what the refined terms' forces should be, and how far the start is from it.

    Attributes:
        positions, targets: float32 [F, N, 3].
        replica: int [F].
        start: float64 [F], mean squared deviation of a component.
    """

    positions: np.ndarray
    targets: np.ndarray
    replica: np.ndarray
    start: np.ndarray


class Judge:
    """Judges averaged parameters beside those of the start."""

    def __init__(self, proteins: Sequence[ProteinChains], start: Trained, stopping: RefineStoppingConfig, beta: float):
        """Args:
        proteins: their chains.
        start: trained parameters where the refinement begins.
        stopping: limits.
        beta: 1/kT in mol/kcal.
        """
        self._proteins, self._start, self._stopping, self._beta = list(proteins), start, stopping, beta
        self._training = {one.name: self._energies(one, one.subject.training) for one in proteins}
        seen = [one for one in proteins if one.subject.validation.n_frames]
        self._validation = {one.name: self._energies(one, one.subject.validation) for one in seen}
        self._forces = {
            one.name: self._force_frames(one) for one in proteins if len(one.subject.validation.force_positions)
        }

    def between(
        self, protein: ProteinChains, before: Kept, params_before: Trained, after: Kept, params_after: Trained
    ) -> np.ndarray:
        """Return β (F_after − F_before) without each chain in turn, and last with all: [R + 1]."""
        forward = self._beta * (protein.energies(params_after, before.positions) - before.energy)
        backward = self._beta * (protein.energies(params_before, after.positions) - after.energy)
        by_chain = (protein.lengths.chains, protein.lengths.frames)
        parts = (forward, before.sound, backward, after.sound)
        return free_energies(*(part.reshape(by_chain) for part in parts))

    def __call__(
        self,
        number: int,
        average: Trained,
        sampled_at: Trained,
        blocks: Mapping[str, Block],
        shown: Mapping[str, Observed],
        free_energy: np.ndarray,
        earlier: Sequence[Candidate],
    ) -> Candidate:
        """Return the judgement of averaged parameters.

        Args:
            number: of the round.
            average: the candidate.
            sampled_at: parameters with which the newest block of the pool was made.
            blocks, shown: frames sampled at the candidate, and what they show, by protein.
            free_energy: β (F − F_start) at `sampled_at`, [proteins, R + 1], see `between`.
            earlier: candidates before this one.
        """
        g, g_error = self._overfitting(average)
        rmse, rise, allowed = self._force_rise(average)
        entropy, entropy_error = self._entropy(average, sampled_at, blocks, free_energy)
        broken = sum(one.restarts for one in shown.values()) / sum(one.lengths.chains for one in self._proteins)
        lowest = min([0.0, *(one.overfitting for one in earlier if one.overfitting is not None)])
        why = ""
        if broken > self._stopping.max_restart_share:
            why = f"{broken:.0%} of the chains broke a limit at the average after round {number}"
        elif rise is not None and allowed is not None and not rise <= allowed:
            why = f"the force error on the validation part rose by {rise:.2%}, more than {allowed:.2%}"
        elif g is not None and g_error is not None and g - lowest > g_error:
            why = f"training frames are learned by heart: G rose by {g - lowest:.2g} ± {g_error:.2g}"
        return Candidate(
            number, not why, why, rmse, rise, allowed, g, g_error, entropy, entropy_error, dict(shown)
        )  # fmt: skip

    def _energies(self, protein: ProteinChains, part: Part) -> _Energies:
        stride = max(1, -(-part.n_frames // JUDGED_FRAMES))
        rows = [rows[::stride] for rows in part.lineages]
        ends = np.cumsum([0, *map(len, rows)])
        positions = part.positions[np.concatenate(rows)]
        lineages = [np.arange(ends[k], ends[k + 1]) for k in range(len(rows))]
        return _Energies(positions, lineages, protein.energies(self._start, positions))

    def _force_frames(self, protein: ProteinChains) -> _Forces:
        part = protein.subject.validation
        chosen = slice(None, None, max(1, -(-len(part.forces) // JUDGED_FRAMES)))
        positions = part.force_positions[chosen]
        targets = part.forces[chosen] - protein.frozen_forces(self._start, positions)
        start = _mean_squares(protein.moving_forces(self._start, positions), targets)
        return _Forces(positions, targets, part.force_replica[chosen], start)

    def _change(self, protein: ProteinChains, frames: _Energies, params: Trained) -> np.ndarray:
        """Return β (U − U_start) on frames."""
        return self._beta * (protein.energies(params, frames.positions) - frames.start)

    def _overfitting(self, average: Trained) -> tuple[float | None, float | None]:
        found = []
        for protein in self._proteins:
            if (validation := self._validation.get(protein.name)) is not None:
                training = self._training[protein.name]
                changes = [self._change(protein, frames, average) for frames in (training, validation)]
                found.append(overfitting(changes[0], training.lineages, changes[1], validation.lineages))
        if not found:
            return None, None
        values, errors = np.array(found).T
        return float(values.mean()), float(np.sqrt((errors**2).sum()) / len(errors))

    def _force_rise(self, average: Trained) -> tuple[float | None, float | None, float | None]:
        """Return RMSE, relative rise, and the rise that is allowed."""
        if not self._forces:
            return None, None, None
        start, now, replica = [], [], []
        for index, protein in enumerate(self._proteins):
            if (frames := self._forces.get(protein.name)) is not None:
                start.append(frames.start)
                now.append(_mean_squares(protein.moving_forces(average, frames.positions), frames.targets))
                replica.append(frames.replica + index * 1_000_000)
        rmse, rise, error = force_rise(*(np.concatenate(part) for part in (start, now, replica)))
        return rmse, rise, max(error, self._stopping.max_force_rise) if np.isfinite(error) else None

    def _entropy(
        self, average: Trained, sampled_at: Trained, blocks: Mapping[str, Block], free_energy: np.ndarray
    ) -> tuple[float | None, float | None]:
        found = []
        for row, protein in enumerate(self._proteins):
            if (frames := self._validation.get(protein.name)) is None:
                continue
            block = blocks[protein.name]
            positions = block.positions.reshape(-1, *block.positions.shape[2:])
            at_average = Kept(positions, block.sound.reshape(-1), protein.energies(average, positions))
            last = self.between(protein, protein.pool[-1], sampled_at, at_average, average)
            change = self._change(protein, frames, average)
            found.append(entropy_change(change, frames.lineages, free_energy[row] + last))
        if not found:
            return None, None
        values, errors = np.array(found).T
        return float(values.mean()), float(np.sqrt((errors**2).sum()) / len(errors))


def _mean_squares(forces: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the mean squared deviation of a component on every frame, float64 [F]."""
    return ((forces.astype(np.float64) - targets) ** 2).mean(axis=(1, 2))
