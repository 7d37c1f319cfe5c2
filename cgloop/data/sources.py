"""The reference files that a config names: patterns expanded, contents digested once.

A digest is sha256 of a file's bytes. Those of large files are remembered in `$XDG_CACHE_HOME/cgloop/digests` (default
`~/.cache/cgloop/digests`), one small file each, by path, size and time of last change: reading terabytes to find out
that nothing has changed would take hours. The folder may be deleted at any time.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from cgloop.config.data import DataConfig, SourceConfig
from cgloop.errors import UserError
from cgloop.interrupt import check_stop
from cgloop.stages import digest_file, write_json

log = logging.getLogger("cgloop.data")

REMEMBERED_BYTES = 64 * 1024 * 1024
"""Smaller files are read again: that takes a tenth of a second."""

DIGEST_THREADS = 4

SETTLED_S = 2.0
"""A file that changed so recently may change again within the resolution of its time stamp: not remembered."""

WILDCARDS = frozenset("*?[")


def expand_sources(config: DataConfig) -> list[SourceConfig]:
    """The sources with every pattern replaced by the files that match, sorted.

    Raises:
        UserError: a file that is not there, or a pattern without match.
    """
    found = []
    for source in config.sources:
        paths = _matches(source.path)
        found += [source.model_copy(update={"path": path}) for path in paths]
        if source.topology is not None and not source.topology.is_file():
            raise UserError("no such file", where=source.topology, remedy="check `data.sources` in the config")
    return found


def _matches(path: Path) -> Sequence[Path]:
    if path.exists() or not WILDCARDS & set(str(path)):
        if not path.is_file():
            state = "not a file" if path.exists() else "no such file"
            raise UserError(state, where=path, remedy="check `data.sources` in the config")
        return [path]
    # The fixed part of the path, and the pattern below it.
    fixed = Path(*path.parts[: _first_pattern(path)])
    found = sorted(p for p in fixed.glob(str(path.relative_to(fixed))) if p.is_file())
    if not found:
        raise UserError("no file matches this pattern", where=path, remedy="check `data.sources` in the config")
    return found


def _first_pattern(path: Path) -> int:
    return next(i for i, part in enumerate(path.parts) if WILDCARDS & set(part))


def describe_sources(config: DataConfig) -> list[dict[str, Any]]:
    """Every source as plain data, named by its content: a moved file is the same file.

    Raises:
        UserError: a file that is not there.
        Interrupted: a stop was requested.
    """
    sources = expand_sources(config)
    described = []
    # Threads: computing a digest leaves Python's lock, and the disk is the limit.
    with ThreadPoolExecutor(DIGEST_THREADS) as pool:
        try:
            for one in pool.map(describe_source, sources):
                check_stop()
                described.append(one)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return described


def describe_source(source: SourceConfig) -> dict[str, Any]:
    """One source as plain data; a file that cannot be read is told of when its frames are wanted."""
    plain = source.read_from
    for key in ("path", "topology"):
        path: Path | None = getattr(source, key)
        if path is not None:
            try:
                digest = digest_source(path)
            except UserError:
                digest = "unreadable"
            plain.update({key: path.name, f"{key}_digest": digest})
    return plain


def digest_source(path: Path) -> str:
    """sha256 of a file, remembered if it is large.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        status = path.stat()
        if status.st_size < REMEMBERED_BYTES:
            return digest_file(path)
        place = _cache_folder() / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()}.json"
        entry = {"path": str(path.resolve()), "size": status.st_size, "mtime_ns": status.st_mtime_ns}
        known = _read(place)
        if all(known.get(key) == value for key, value in entry.items()) and isinstance(known.get("sha256"), str):
            return known["sha256"]
        log.info("digest of %s (%.1f GB)", path.name, status.st_size / 1e9)
        digest = digest_file(path)
    except OSError as error:
        raise UserError(f"cannot be read: {os.strerror(error.errno or 0)}", where=path) from None
    if time.time() - status.st_mtime > SETTLED_S and path.stat().st_mtime_ns == status.st_mtime_ns:
        # A cache that cannot be written costs time, nothing else.
        with suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            write_json(place, {**entry, "sha256": digest})
    return digest


def _cache_folder() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "cgloop" / "digests"


def _read(place: Path) -> dict:
    try:
        known = json.loads(place.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
