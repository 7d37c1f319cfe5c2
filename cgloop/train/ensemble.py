"""Several trainings of one model, and how much they disagree: where data decide little, members differ.

Members have seeds of their own, for the random network and the order of frames. With `bootstrap` each also has frames
of its own: blocks of consecutive frames of each trajectory are drawn with replacement (Künsch 1989,
doi:10.1214/aos/1176347265), a block that was drawn twice weighing twice. The first member is the model and sees all
frames.

They are trained one after the other, or at the same time in one compiled step on one device or several (`lanes`).
"""

import copy
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cgloop.config.train import EnsembleConfig
from cgloop.errors import UserError
from cgloop.model.hybrid import init_params
from cgloop.residues import RESIDUES
from cgloop.train.devices import Devices
from cgloop.train.evaluate import predictions, trajectory_blocks
from cgloop.train.lanes import can_share_steps, is_small, run_in_lanes
from cgloop.train.loader import FrameSet
from cgloop.train.phases import Member, run_phases
from cgloop.train.position import TrainResult
from cgloop.train.task import Task

OnEpoch = Callable[[dict[str, float]], None]

log = logging.getLogger("cgloop.train")

STRIDE = 1_000_003
"""Between the seeds of members, so that they do not meet those of the cycles that follow."""

BOOTSTRAP_STREAM = 2**41


def train_members(task: Task, folder: Path) -> list[dict[str, Any]]:
    """Trained parameters of all members but the first, one after the other; one that is finished is not repeated."""
    members = []
    for number in range(1, task.config.train.ensemble.members):
        log.info("member %d of %d", number + 1, task.config.train.ensemble.members)
        (result,) = run_phases([_member(member_task(task, number), folder, number)], task.config.train)
        members.append(result.params)
    return members


def train_in_lanes(task: Task, folder: Path, devices: Sequence[jax.Device], on_epoch: OnEpoch) -> list[TrainResult]:
    """All members at the same time, in the steps of one compiled function (`lanes`); the model's is the first."""
    n_members = task.config.train.ensemble.members
    on = f" on {len(devices)} devices" if len(devices) > 1 else ""
    log.info("%d members in lanes of one step%s", n_members, on)
    alone = {"devices": Devices(devices[:1])}
    own = [member_task(task, number) for number in range(1, n_members)]
    first = Member(partial(task.make_trainer, on_epoch=on_epoch, **alone), task.trained, folder, task.fingerprint)
    others = [_member(one, folder, number, **alone) for number, one in enumerate(own, start=1)]
    return run_phases([first, *others], task.config.train, partial(run_in_lanes, devices=devices))


def _member(task: Task, folder: Path, number: int, **more: Any) -> Member:
    make = partial(task.make_trainer, **more)
    return Member(make, task.trained, folder / f"member_{number}", task.fingerprint)


def lane_devices(task: Task, folder: Path) -> list[jax.Device] | None:
    """Devices on which members are trained at the same time; None if they come one after the other.

    Raises:
        UserError: `how: vmapped` or `how: devices`, but something stands against it.
    """
    config, how = task.config.train, task.config.train.ensemble.how
    if config.ensemble.members == 1 or how == "sequential":
        return None
    devices = jax.devices() if how == "devices" else jax.devices()[:1]
    alone = {"devices": Devices(devices[:1])} if how == "devices" else {}
    make = partial(task.make_trainer, **alone)
    trainer = Member(make, task.trained, folder, task.fingerprint).trainer(config.phases[0], [])
    reason = can_share_steps(trainer) if jax.process_count() == 1 else "several processes share the work"
    if how == "auto":
        return devices if reason is None and is_small(trainer, config.ensemble.members) else None
    if reason is not None:
        raise UserError(f"`train.ensemble.how: {how}` is not possible because {reason}", remedy="use `how: auto`")
    return devices[: config.ensemble.members]


def member_task(task: Task, number: int) -> Task:
    """The task of a member; it shares frames and compiled steps with the others."""
    config = task.config
    seed = (config.run.seed + STRIDE * number) % 2**32
    config = config.model_copy(update={"run": config.run.model_copy(update={"seed": seed})})
    params = task.params
    if not task.started:
        params = init_params(task.model, params["prior"], jax.random.key(seed))
    sets = task.sets
    if config.train.ensemble.kind == "bootstrap":
        sets = replace(sets, training=resampled(sets.training, seed))
    return replace(task, config=config, params=params, sets=sets, fingerprint=f"{task.fingerprint}, member {number}")


def resampled(frames: FrameSet, seed: int) -> FrameSet:
    """The same frames, each with the weight of how often its block was drawn; those never drawn weigh nothing."""
    block = trajectory_blocks(frames)
    n = int(block.max()) + 1
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, BOOTSTRAP_STREAM], np.uint64)))
    times = np.bincount(generator.integers(n, size=n), minlength=n)[block]
    drawn = copy.copy(frames)
    drawn.weight = (times * (1.0 if frames.weight is None else frames.weight)).astype(np.float32)
    return drawn


def disagreement(task: Task, members: list[dict[str, Any]]) -> dict[str, Any]:
    """The contents of `ensemble.json`: how members differ on validation frames.

    Args:
        task: its model, and its validation frames.
        members: trained parameters, the model's first.
    """
    predictors = [partial(task.forces, one) for one in members]
    return describe(
        task.sets.validation,
        ((frames, np.stack(forces)) for frames, forces in predictions(predictors, task.sets.validation, task.shape)),
        task.config.train.ensemble,
    )


def variance_over_members(forces: np.ndarray) -> np.ndarray:
    """Square of the disagreement at each bead: the variance (n − 1) of a force component, mean over the three.

    Args:
        forces: [members, B, 3], kcal/mol/Å.

    Returns:
        float64 [B].
    """
    return forces.astype(np.float64).var(axis=0, ddof=1).mean(axis=-1)


def describe(
    frames: FrameSet, forces: Iterable[tuple[np.ndarray, np.ndarray]], config: EnsembleConfig
) -> dict[str, Any]:
    """As `disagreement`, from frames and forces [members, B, 3] of the trained part on their beads, again and again.

    The disagreement at a bead is the standard deviation of a force component over members (n − 1), kcal/mol/Å; over
    several beads its root mean square. Of one member more, the force would differ from that of another by √2 of it.
    """
    per_frame = np.zeros(frames.n_frames)
    count, variance = np.zeros((2, len(frames.chain_types)))
    squares: Any = 0.0
    for chosen, given in forces:
        members = given.astype(np.float64)
        target = frames.store.target(chosen).astype(np.float64)
        spread = variance_over_members(members)
        own = np.repeat(np.arange(len(chosen)), frames.beads.counts[chosen])
        per_frame[chosen] = np.sqrt(np.bincount(own, weights=spread) / frames.beads.counts[chosen])
        bead, _ = frames.chain_beads.take(frames.protein[chosen])
        np.add.at(count, bead, 1.0)
        np.add.at(variance, bead, spread)
        squares = squares + np.sum((np.stack([*members, members.mean(axis=0)]) - target) ** 2, axis=(1, 2))
    *rmse_members, rmse_mean = np.sqrt(squares / (3 * frames.n_beads)).tolist()
    worst = np.argsort(per_frame)[::-1][:10]
    protein = np.repeat(np.arange(len(frames.names)), frames.chain_beads.counts)

    def rms(chosen: np.ndarray) -> dict[str, Any]:
        n = count[chosen].sum()
        return {"count": int(n), "disagreement": float(np.sqrt(variance[chosen].sum() / n))}

    return {
        "members": len(rmse_members),
        "kind": config.kind,
        "split": "validation",
        "n_frames": frames.n_frames,
        "unit": "kcal/mol/Å",
        "disagreement": float(np.sqrt(variance.sum() / count.sum())),
        "rmse_members": rmse_members,
        "rmse_mean": rmse_mean,
        "per_frame": {f"{q:g}": float(np.quantile(per_frame, q)) for q in (0.0, 0.05, 0.5, 0.95, 0.99, 1.0)},
        "per_protein": {name: rms(protein == i) for i, name in enumerate(frames.names)},
        "per_residue_type": {
            RESIDUES[kind].name: rms(frames.chain_types == kind) for kind in np.unique(frames.chain_types).tolist()
        },
        "largest": [
            {
                "protein": frames.names[frames.protein[i]],
                "replica": int(frames.replica[i]),
                "frame": int(i - np.flatnonzero(frames.protein == frames.protein[i])[0]),
                "disagreement": float(per_frame[i]),
            }
            for i in worst.tolist()
        ],
        "about": "`frame` counts the validation frames of the protein, from 0, in the order of the data set",
    }
