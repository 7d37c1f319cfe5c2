"""The rounds of a refinement: dynamics, updates, candidates for the result, checkpoints, and when it ends.

What happens depends on parameters, data, settings and seed alone. A refinement that is stopped anywhere, even by a
kill, goes on from its last checkpoint and ends with the same parameters to the bit.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cgloop.config.refine import RefinementConfig
from cgloop.errors import Interrupted
from cgloop.interrupt import check_stop
from cgloop.progress import Progress, progress
from cgloop.refine.candidates import Judge
from cgloop.refine.chains import JUDGING, ProteinChains
from cgloop.refine.energy import Trained
from cgloop.refine.result import Candidate, Observed, Round, from_plain
from cgloop.refine.sampler import Block
from cgloop.refine.updates import Change, State, Updater, is_finite
from cgloop.train.checkpoints import read_checkpoint, write_checkpoint

log = logging.getLogger("cgloop.refine")

CANDIDATE_ROUNDS = 4
"""Every so many rounds, and after the last, the average is judged by frames that are sampled at it."""

COLLAPSED_ESS = 0.05
"""Below it the frames of a block say nothing about the parameters after its updates."""


@dataclass
class Progressed:
    """What changes from round to round beside arrays; plain data for a checkpoint.

    Attributes:
        round: rounds done.
        seconds: of work so far.
        stopped: why it ended; empty while it has not.
        failed: whether it had to end.
        kept_round: after which round the kept parameters were averaged.
        rounds, candidates: the history.
    """

    round: int = 0
    seconds: float = 0.0
    stopped: str = ""
    failed: bool = False
    kept_round: int = 0
    rounds: list[Round] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)

    def plain(self, fingerprint: str) -> dict[str, Any]:
        """Return it as JSON data."""
        return {**asdict(self), "fingerprint": fingerprint}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Progressed":
        """Return what `plain` gave."""
        return from_plain(cls, dict(data))


@dataclass(frozen=True)
class Finished:
    """What came of the rounds.

    Attributes:
        params: trained parameters that are the result.
        progressed: the history.
        before, after: per protein, frames of the first round and of the block sampled at the result; `after` is
            `before` where no candidate was accepted.
    """

    params: Trained
    progressed: Progressed
    before: dict[str, np.ndarray]
    after: dict[str, np.ndarray]


class Refinement:
    """Refines one set of parameters; `run` does everything."""

    def __init__(
        self,
        config: RefinementConfig,
        proteins: Sequence[ProteinChains],
        updater: Updater,
        judge: Judge,
        start: Trained,
        *,
        finish: Callable[[Trained], Trained],
        folder: Path,
        fingerprint: str,
    ):
        """Continue from the newest checkpoint in `folder`, or begin with `start`.

        Args:
            config: section `refine`.
            proteins: their chains; pools hold the first frames if there are any.
            updater: moves parameters.
            judge: of candidates.
            start: trained parameters, inside their bounds.
            finish: brings parameters inside their bounds.
            folder: of checkpoints.
            fingerprint: of all inputs; other checkpoints are ignored.
        """
        self._config, self._proteins, self._updater, self._judge = config, list(proteins), updater, judge
        self._start, self._finish, self._folder, self._fingerprint = start, finish, folder, fingerprint
        self._clock = time.monotonic()
        self.progressed = Progressed()
        self.state = updater.start(start)
        self._kept = self._previous = self.state.params
        size = (len(self._proteins), self._proteins[0].lengths.chains + 1)
        self._free_energy = np.zeros(size)
        self._before = {one.name: np.zeros(_block_shape(one), np.float32) for one in self._proteins}
        self._after = dict(self._before)
        self._restored = self._restore()

    def run(self) -> Finished:
        """Refine to the end.

        Raises:
            Interrupted: somebody asked to stop; a checkpoint was written.
            UserError: the start parameters are not stable.
        """
        done = self.progressed
        if not self._restored:
            for protein in self._proteins:
                check_stop()
                protein.warm_up(self.state.params)
            self._save()
        with progress("refine", total=self._config.rounds, unit="round") as bar:
            bar.advance(done.round)
            try:
                while not done.stopped:
                    check_stop()
                    self._round(bar)
                    self._save()
            except Interrupted:
                self._save()
                raise
        return Finished(self._kept, done, self._before, self._after)

    def _round(self, bar: Progress) -> None:
        done, config = self.progressed, self._config
        number = done.round + 1
        params = self.state.params
        blocks = {one.name: self._advance(one, params, number) for one in self._proteins}
        self._previous = params
        if number == 1:
            self._before = {name: block.positions for name, block in blocks.items()}
            self._after = dict(self._before)
        broken = sum(int((block.broke > 0).sum()) for block in blocks.values())
        share = broken / sum(one.lengths.chains for one in self._proteins)
        self.state, change = self._updater.round(self.state, number)
        self.state = self.state._replace(params=self._finish(self.state.params))
        finite = is_finite(self.state.params) and math.isfinite(change.gradient_norm)
        shown = {one.name: one.show(blocks[one.name], change.ess[one.name]) for one in self._proteins}
        done.round = number
        done.rounds.append(Round(number, change.updates, change.gradient_norm, change.force_rmse, shown))
        self._tell(bar, shown, change)
        if share > config.stopping.max_restart_share:
            self._fail(f"{share:.0%} of the chains broke a limit in round {number}")
        elif not finite:
            self._fail(f"parameters were not finite after round {number}")
        elif min(change.ess.values()) < COLLAPSED_ESS:
            self._fail(f"the frames of round {number} say nothing about the parameters after its updates")
        else:
            if number % CANDIDATE_ROUNDS == 0 or number == config.rounds:
                self._candidate(number)
            if not done.stopped and number == config.rounds:
                done.stopped = "all rounds"
        if done.stopped:
            log.info("ended: %s; the result is the average after round %d", done.stopped, done.kept_round)

    def _advance(self, protein: ProteinChains, params: Trained, number: int) -> Block:
        """Sample a block, and add to the free energy what lies between its parameters and those of the one before."""
        block = protein.advance(params, number)
        before = protein.pool[-1] if protein.pool and (number > 1) else None
        protein.remember(block, params)
        if before is not None:
            row = self._proteins.index(protein)
            self._free_energy[row] += self._judge.between(protein, before, self._previous, protein.pool[-1], params)
        return block

    def _candidate(self, number: int) -> None:
        """Judge the average by frames sampled at it, and keep it if it is fit to be the result."""
        done = self.progressed
        average = self._finish(self.state.average)
        blocks = {one.name: one.sample(average, JUDGING + number)[1] for one in self._proteins}
        shown = {one.name: one.show(blocks[one.name]) for one in self._proteins}
        found = self._judge(number, average, self._previous, blocks, shown, self._free_energy, done.candidates)
        done.candidates.append(found)
        if found.accepted:
            self._kept, done.kept_round = average, number
            self._after = {name: block.positions for name, block in blocks.items()}
        else:
            self._fail(found.why)

    def _fail(self, why: str) -> None:
        done = self.progressed
        done.stopped, done.failed = why, True
        log.warning("%s: back to the average after round %d", why, done.kept_round)

    def _tell(self, bar: Progress, shown: Mapping[str, Observed], change: Change) -> None:
        worst = max(shown.values(), key=lambda one: one.training.rmsd_A)
        fields = {"ess": min(change.ess.values()), "RMSD_off": worst.training.rmsd_A}
        if worst.training.q is not None:
            fields["Q_off"] = worst.training.q
        bar.advance(1, **fields)

    def _seconds(self) -> float:
        return self.progressed.seconds + time.monotonic() - self._clock

    def _arrays(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "kept": self._kept,
            "previous": self._previous,
            "free_energy": self._free_energy.view(np.uint32),
            "before": self._before,
            "after": self._after,
            "proteins": {one.name: one.state() for one in self._proteins},
        }

    def _save(self) -> None:
        done = self.progressed
        done.seconds, self._clock = self._seconds(), time.monotonic()
        write_checkpoint(self._folder, done.round, self._arrays(), done.plain(self._fingerprint))

    def _restore(self) -> bool:
        found = read_checkpoint(self._folder, self._arrays(), self._fingerprint)
        if found is None:
            return False
        arrays, plain = found
        self.progressed = Progressed.of(plain)
        self.state = State(*arrays["state"])
        self._kept, self._previous = arrays["kept"], arrays["previous"]
        self._free_energy = np.array(np.ascontiguousarray(np.asarray(arrays["free_energy"])).view(np.float64))
        self._before, self._after = (jax.tree.map(np.asarray, arrays[name]) for name in ("before", "after"))
        for protein in self._proteins:
            protein.restore(arrays["proteins"][protein.name])
        log.info("continues after round %d", self.progressed.round)
        return True


def _block_shape(protein: ProteinChains) -> tuple[int, int, int, int]:
    lengths = protein.lengths
    return lengths.chains, lengths.frames, protein.subject.n_beads, 3
