"""The process that runs one job: `python -m cgloop.md.worker`, started by `cgloop.md.supervise`."""

import argparse
import fcntl
import logging
import sys
import time
from pathlib import Path

from cgloop.config import load_config
from cgloop.errors import UserError
from cgloop.executors.child import work_as_child
from cgloop.interrupt import check_stop

log = logging.getLogger("cgloop.md")

LOCK = ".lock"
_PATIENCE_S = 120.0


def main(arguments: list[str] | None = None) -> int:
    """Run a job; the exit code is for `Child`."""
    parser = argparse.ArgumentParser(prog="python -m cgloop.md.worker", description=__doc__)
    for name in ("config", "bundle", "dataset", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--protein", required=True)
    parser.add_argument("--replicas", required=True, help="ids, as 0,1,2")
    parser.add_argument("--controls-of", type=Path, help="folder of the dynamics whose controls are to be run")
    given = parser.parse_args(arguments)
    return work_as_child(lambda: _run(given))


def _run(given: argparse.Namespace) -> None:
    from cgloop.data.dataset import DatasetReader
    from cgloop.export.bundle import load_bundle
    from cgloop.md.control_job import run_control_job
    from cgloop.md.evaluate import compile_model, run_in_calling_thread
    from cgloop.md.job import Job, make_subject, run_job

    config = load_config(given.config)
    job = Job(given.protein, tuple(int(one) for one in given.replicas.split(",")))
    with open(given.out / LOCK, "w") as lock:
        _hold(lock, given.out)
        run_in_calling_thread()
        bundle = load_bundle(given.bundle)
        reader = DatasetReader.open(given.dataset)
        if given.controls_of is not None:
            run_control_job(config, bundle, reader, job, given.controls_of, given.out)
            return
        subject = make_subject(config, bundle, compile_model(bundle.function, bundle.cutoff_A), reader, job)
        run_job(config, bundle, subject, given.out)


def _hold(lock, folder: Path) -> None:
    """Wait until no other process works in the folder: one whose leader was killed needs a moment to notice."""
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            check_stop()
            if time.monotonic() > until:
                raise UserError("another process works here", where=folder, remedy="end it, then run again") from None
            time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
