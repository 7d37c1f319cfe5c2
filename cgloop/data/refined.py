"""What a refinement used of the reference: read by every later stage, without the room that refines."""

from dataclasses import dataclass
from pathlib import Path

from cgloop.errors import UserError
from cgloop.stages import read_json

REFINEMENT = "refine.json"
"""Written by the stage `refine` beside the refined parameters."""


@dataclass(frozen=True)
class Refined:
    """A protein that was refined.

    Attributes:
        training: replicas of the reference whose averages were matched.
        stopping: replicas that decided when to stop.
        started_from: further replicas that chains, or dynamics whose frames were samples, started from.
        populations_determined: whether the chains crossed between basins often enough to determine populations.
    """

    training: tuple[int, ...]
    stopping: tuple[int, ...]
    started_from: tuple[int, ...]
    populations_determined: bool

    @property
    def used(self) -> frozenset[int]:
        """All replicas that are not unseen."""
        return frozenset((*self.training, *self.stopping, *self.started_from))


def read_refined(trained: Path) -> dict[str, Refined]:
    """Return the proteins that a model was refined on, by name; empty where its training was not refined.

    Args:
        trained: folder of the parameters.

    Raises:
        UserError: the record of the refinement is damaged.
    """
    path = trained / REFINEMENT
    try:
        return {name: _of(entry) for name, entry in (read_json(path).get("proteins") or {}).items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"damaged: {error!r}", where=path, remedy="run `cgloop refine` again") from None


def _of(entry: dict) -> Refined:
    used = entry["used"]
    training, stopping, begun = (
        tuple(int(number) for number in used[name]) for name in ("training", "stopping", "started_from")
    )
    return Refined(training, stopping, begun, bool(entry["populations_determined"]))
