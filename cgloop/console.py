"""What the person at the terminal sees: log lines `[room] …`, and the log file of the run."""

import logging
import os
import sys
from pathlib import Path


class RoomFormatter(logging.Formatter):
    """`[train] text` for the logger `cgloop.train`; warnings and errors say so."""

    def format(self, record: logging.LogRecord) -> str:
        room = record.name.removeprefix("cgloop.").split(".")[0]
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        text = f"[{room}] {level}{record.getMessage()}"
        if record.exc_info and record.levelno < logging.ERROR:
            return text
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def process_rank() -> int:
    """Rank of this process in a job of several; 0 otherwise."""
    for name in ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return 0


_verbosity = 0


def verbosity() -> int:
    """What `setup_logging` was last told."""
    return _verbosity


def setup_logging(verbosity: int = 0) -> None:
    """Log lines of `cgloop` to stderr: warnings (-1), what happens (0), details (1)."""
    global _verbosity
    _verbosity = verbosity
    root = logging.getLogger("cgloop")
    root.setLevel(logging.DEBUG)
    root.propagate = False
    root.handlers.clear()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RoomFormatter())
    levels = {-1: logging.WARNING, 0: logging.INFO}
    handler.setLevel(levels.get(verbosity, logging.DEBUG) if process_rank() == 0 else logging.ERROR)
    root.addHandler(handler)


def log_to_file(path: Path) -> logging.Handler:
    """Also append everything, details included, to a file; returns the handler for its removal."""
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    logging.getLogger("cgloop").addHandler(handler)
    return handler
