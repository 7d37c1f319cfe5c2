"""The two ways a command ends early on purpose, and the exit codes of the command line."""

from enum import IntEnum
from pathlib import Path


class ExitCode(IntEnum):
    """Exit codes of `cgloop cycle`; a script may rely on them."""

    PASS = 0
    DEFECT = 1
    BAD_INPUT = 2
    FAIL = 3
    INCONCLUSIVE = 4
    INTERRUPTED = 5


class UserError(Exception):
    """A mistake that the user can mend: shown as one line, never as a traceback.

    Args:
        message: what is wrong, in words of the user's world.
        where: file, and the place in it (key, dataset, frame) if there is one.
        remedy: what to do about it.
    """

    def __init__(self, message: str, *, where: str | Path | None = None, remedy: str | None = None):
        self.message, self.where, self.remedy = message, where, remedy
        super().__init__(str(self))

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where is not None else ""
        advice = f" ({self.remedy})" if self.remedy else ""
        return f"{place}{self.message}{advice}"


class Unfinished(UserError):
    """A mistake that stopped a resumable stage after part of its work: what is finished serves the next call."""

    @classmethod
    def after(cls, error: UserError) -> "Unfinished":
        """The same mistake, with finished work beside it."""
        return cls(error.message, where=error.where, remedy=error.remedy)


class Interrupted(Exception):
    """Work stopped by a signal or a time limit; the same command continues it."""
