"""One process per run directory: a lock that names host, process, job and heartbeat."""

import json
import logging
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cgloop.errors import UserError

HEARTBEAT_S = 10.0
log = logging.getLogger("cgloop.lock")


@contextmanager
def locked(folder: Path, *, take_over: bool = False) -> Iterator[None]:
    """Hold the lock of a run directory while the body runs.

    A lock whose process on this host is gone is explained and taken over. A lock of another host
    cannot be judged from here: it is refused, with the age of its heartbeat, unless `take_over`.

    Raises:
        UserError: somebody else holds it.
    """
    path = folder / "lock.json"
    token = uuid.uuid4().hex
    _acquire(path, token, take_over)
    stop = threading.Event()
    beat = threading.Thread(target=_heartbeat, args=(path, token, stop), daemon=True)
    beat.start()
    try:
        yield
    finally:
        stop.set()
        beat.join()
        if _read(path).get("token") == token:
            path.unlink(missing_ok=True)


def _acquire(path: Path, token: str, take_over: bool) -> None:
    for _ in range(10):
        if _create(path, token):
            return
        holder = _read(path)
        reason = _stale(holder, path)
        if reason is None and not take_over:
            raise UserError(_refusal(holder, path), where=path.parent, remedy=_remedy(holder))
        log.warning("taking over the lock of %s: %s", _name(holder), reason or "asked for by --take-over")
        # Renaming to a name of our own lets only one of several processes take it.
        with suppress(FileNotFoundError):
            aside = path.with_name(f".lock.{token}")
            os.rename(path, aside)
            aside.unlink()
    raise UserError("the lock changes hands too fast", where=path)


def _create(path: Path, token: str) -> bool:
    """Create the lock with its content in one step (a hard link), so that no reader finds it empty."""
    draft = path.with_name(f".lock.{token}.new")
    draft.write_text(json.dumps(_content(token), indent=1) + "\n")
    try:
        os.link(draft, path)
        return True
    except FileExistsError:
        return False
    finally:
        draft.unlink()


def _content(token: str) -> dict[str, Any]:
    pid = os.getpid()
    return {
        "host": platform.node(),
        "pid": pid,
        "process_started": _process_start(pid),
        "job": os.environ.get("SLURM_JOB_ID"),
        "restart": os.environ.get("SLURM_RESTART_COUNT", "0"),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "heartbeat_s": HEARTBEAT_S,
        "token": token,
    }


def _heartbeat(path: Path, token: str, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_S):
        with suppress(OSError):
            if _read(path).get("token") == token:
                os.utime(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def _process_start(pid: int) -> float | None:
    import psutil

    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None


def _stale(holder: dict[str, Any], path: Path) -> str | None:
    """Why the lock no longer counts; None if it does."""
    if not holder:
        return None if path.exists() else "it is gone already"
    if holder.get("host") != platform.node():
        return _earlier_start(holder)
    started = _process_start(int(holder["pid"]))
    # A process id may have been given to another process since: compare the time it was started, too.
    if started is None or abs(started - (holder.get("process_started") or 0.0)) > 2.0:
        return f"that process is gone (last heartbeat {_age(path):.0f} s ago)"
    return None


def _earlier_start(holder: dict[str, Any]) -> str | None:
    """A job that SLURM queues again, after an interruption or because its node died, never runs twice at once."""
    job, restart = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_RESTART_COUNT", "0")
    if job is not None and holder.get("job") == job and holder.get("restart") not in (None, restart):
        return "that was an earlier start of this job"
    return None


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return float("nan")


def _name(holder: dict[str, Any]) -> str:
    job = f", job {holder['job']}" if holder.get("job") else ""
    return f"process {holder.get('pid')} on {holder.get('host')}{job}, since {holder.get('since')}"


def _refusal(holder: dict[str, Any], path: Path) -> str:
    if not holder:
        return "its lock is not readable"
    return f"in use by {_name(holder)}, last heartbeat {_age(path):.0f} s ago"


def _remedy(holder: dict[str, Any]) -> str:
    if holder and holder.get("host") == platform.node():
        return "wait for it, or stop it"
    return "if that process is really gone, use --take-over"
