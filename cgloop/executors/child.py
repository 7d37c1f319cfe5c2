"""A process of our own that does a piece of work, watched by the process that leads: whatever happens to it is known.

`Child` is the side of the process that leads, `work_as_child` the side of the child:

    child = Child("cgloop.md.worker", arguments, folder)        def main() -> int:
    while (ended := child.poll()) is None: ...                      return work_as_child(lambda: run(…))

A child that is killed, aborts or runs out of memory takes nobody with it: `Ended` says what is known. A child whose
leader is gone stops by itself, and is ended by a thread of its own where it does not come to that.
"""

import ctypes
import faulthandler
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cgloop.allocator import share_memory
from cgloop.console import log_to_file, setup_logging, verbosity
from cgloop.errors import ExitCode, Interrupted, UserError
from cgloop.interrupt import request_stop, stop_on_signals
from cgloop.progress import PLAIN

log = logging.getLogger("cgloop.executors")

OUTCOME, LOG, VERBOSITY = "CGLOOP_OUTCOME_FILE", "CGLOOP_LOG_FILE", "CGLOOP_VERBOSITY"
"""Variables that tell a process where to write how it ended, if not well, and its log, and how much to say."""

LEADER = "CGLOOP_LEADER_PID"
"""Variable that tells a process who leads it."""

LONELY_S = 60.0
"""Time that a child without a leader has to come to a safe point; then it ends where it is."""

_MPI_PREFIXES = ("PMI_", "PMIX_", "OMPI_", "MPI_LOCAL", "HYDI_", "HYDRA_", "MPIR_")
_LAST_WORDS = 2000
_READ_BYTES = 2**18
_NO_LAST_WORDS = "cpu_aot_loader.cc"
"""XLA says there, at length, which features of the CPU a program of the compilation cache was not compiled for."""
_ALONE = "the process that led is gone"
_PR_SET_PDEATHSIG = 1
_STDERR = "CGLOOP_STDERR_FILE"


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Attributes:
        how: `done`, `interrupted` (asked to stop, and it did), `refused` (a mistake of the user), `broken` (an error
            that it could still tell), or `dead`.
        code: exit code, negative for the signal that killed it.
        words: what it said last.
        error: of a mistake of the user.
    """

    how: Literal["done", "interrupted", "refused", "broken", "dead"]
    code: int
    words: str = ""
    error: UserError | None = None

    @property
    def describe(self) -> str:
        """In words, for a record."""
        if self.code < 0:
            name = signal.Signals(-self.code).name if -self.code in set(signal.Signals) else f"signal {-self.code}"
            return f"its process was ended by {name}" + (f": {self.words}" if self.words else "")
        return self.words or f"its process ended with exit code {self.code}"


class Child:
    """A running process `python -m module arguments`, whose body is `work_as_child`."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        folder: Path,
        *,
        log_file: Path | None = None,
        environment: dict[str, str] | None = None,
        plain: bool = False,
    ):
        """Start it.

        Args:
            module, arguments: what runs.
            folder: that exists, for what the child says at its end.
            log_file: that it appends to.
            environment: variables that are set beside ours. It does not inherit our place in an MPI job.
            plain: it shows progress as lines, since other children are shown, too.
        """
        self._outcome = folder / f".outcome-{os.getpid()}.json"
        self._stderr = folder / "log.stderr"
        self._outcome.unlink(missing_ok=True)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_MPI_PREFIXES)}
        inherited |= {OUTCOME: str(self._outcome.resolve()), VERBOSITY: str(verbosity()), LEADER: str(os.getpid())}
        if log_file is not None:
            inherited[LOG] = str(log_file.resolve())
        if plain:
            inherited[PLAIN] = "1"
        inherited[_STDERR] = str(self._stderr.resolve())
        self.started = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            env={**inherited, **(environment or {})},
            # A signal from the terminal reaches us alone; we pass it on, once.
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        """Ask it to stop at its next safe point."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGUSR1)

    def kill(self) -> None:
        """End it at once, and wait until it is gone."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def poll(self) -> Ended | None:
        """How it ended; None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        said = json.loads(self._outcome.read_text(encoding="utf-8")) if self._outcome.exists() else {}
        self._outcome.unlink(missing_ok=True)
        words = self._last_words()
        if not words:
            self._stderr.unlink(missing_ok=True)
        error = told(said)
        if isinstance(error, Interrupted):
            return Ended("interrupted", code, str(error))
        if isinstance(error, UserError):
            return Ended("refused", code, str(error), error)
        if "broken" in said:
            return Ended("broken", code, said["broken"])
        return Ended("done", code) if code == 0 else Ended("dead", code, words)

    def _last_words(self) -> str:
        with suppress(OSError):
            lines = self._stderr.read_bytes()[-_READ_BYTES:].decode(errors="replace").splitlines()
            text = "\n".join(line for line in lines if _NO_LAST_WORDS not in line)[-_LAST_WORDS:]
            return " ".join(text.split()[-60:])
        return ""


def told(said: Mapping[str, str | None]) -> UserError | Interrupted | None:
    """The exception that a process told the one that leads of; None for others than these."""
    if "interrupted" in said:
        return Interrupted(said["interrupted"] or "")
    if "message" in said:
        return UserError(said["message"] or "", where=said["where"] or None, remedy=said["remedy"])
    return None


def mistake(error: UserError) -> dict[str, str | None]:
    """What a process tells of a mistake of the user; for `told`."""
    return {"message": error.message, "where": str(error.where or ""), "remedy": error.remedy}


def work_as_child(work: Callable[[], object]) -> int:
    """Body of a program that a `Child` runs: signals ask for a stop, every ending is told to the process that leads.

    Without one (started by hand) it behaves as a command.

    Returns:
        The exit code of the process.
    """
    _keep_native_stderr()
    share_memory()
    setup_logging(int(os.environ.get(VERBOSITY, "0")))
    if LOG in os.environ:
        log_to_file(Path(os.environ[LOG]))
    with stop_on_signals():
        try:
            _follow_leader()
            work()
            return ExitCode.PASS
        except (Interrupted, KeyboardInterrupt) as error:
            _tell({"interrupted": str(error)}, f"interrupted: {error}")
            return ExitCode.INTERRUPTED
        except UserError as error:
            _tell(mistake(error), f"error: {error}")
            return ExitCode.BAD_INPUT
        except Exception as error:
            log.debug("what broke", exc_info=error)
            text = f"{type(error).__name__}: {' '.join(str(error).split())}"
            _tell({"broken": text}, f"error: {text}")
            return ExitCode.DEFECT


def _keep_native_stderr() -> None:
    """Let what C code writes to stderr go into a file, where the leader finds a dying process's last words; Python's
    own stderr stays the terminal."""
    if _STDERR not in os.environ:
        return
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    file = os.open(os.environ[_STDERR], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(file, 2)
    os.close(file)


def _follow_leader() -> None:
    """Ask for a stop as soon as the process that leads is gone, or if it is gone already.

    On Linux the kernel sends us SIGUSR1 then. A thread looks after it as well: elsewhere it is all there is.
    """
    if LEADER not in os.environ:
        return
    leader = int(os.environ[LEADER])
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGUSR1)
    try:
        threading.Thread(target=_stop_when_alone, args=(leader,), daemon=True).start()
    except RuntimeError as error:  # no thread left for us
        log.debug("nobody looks whether the process that leads is there: %s", error)
        if os.getppid() != leader:
            request_stop(_ALONE)


def _stop_when_alone(leader: int) -> None:
    """A child that hangs would otherwise keep its folder, its memory and the terminal's pipes for ever."""
    while os.getppid() == leader:
        time.sleep(0.5)
    request_stop(_ALONE)
    time.sleep(LONELY_S)
    faulthandler.dump_traceback(2)
    os._exit(ExitCode.INTERRUPTED)


def _tell(outcome: dict[str, str | None], line: str) -> None:
    if OUTCOME not in os.environ:
        print(line, file=sys.stderr)
        return
    path = Path(os.environ[OUTCOME])
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(outcome), encoding="utf-8")
    os.replace(draft, path)
