"""The stage `feedback`: what the MD of a cycle has to say about the model."""

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

from cgloop.errors import UserError
from cgloop.feedback.diagnosis import diagnose
from cgloop.feedback.failures import failures
from cgloop.feedback.near_misses import near_misses
from cgloop.feedback.reference import Coverage, load_coverage
from cgloop.interrupt import check_stop
from cgloop.stages import write_json

log = logging.getLogger("cgloop.feedback")

SCHEMA_VERSION = 1
STAGES = ("minimize", "nvt", "nve")


def feedback_stage(md_dir: Path, dataset_dir: Path, out: Path) -> dict[str, Any]:
    """Explain every crash below `md_dir`, and write `feedback.json`.

    Args:
        md_dir: output of the stage `md`: `md.json` and `<protein>/<stage>/`.
        dataset_dir: output of the stage `prep`, to tell how far from the training data a crash lies.
        out: folder that exists.

    Returns:
        Contents of `feedback.json`: `crashes`, what `diagnose` says of each, with its `file`, in order of protein,
        stage and replica, and after those of a stage what ended its runs without a record; `near_misses`; `classes`,
        how many crashes of each class.

    Raises:
        UserError: `md.json`, a crash file or the data set is missing or damaged.
        Interrupted: stopped on request.
    """
    try:
        md = json.loads((md_dir / "md.json").read_text(encoding="utf-8"))
        proteins, limits = sorted(md["proteins"]), md["limits"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"no MD to learn from: {error}", where=md_dir, remedy="run `cgloop md` again") from None
    crashes, close = [], []
    for protein in proteins:
        coverage: Coverage | None = None
        for stage in STAGES:
            folder = md_dir / protein / stage
            for path in sorted(folder.glob("crash_*.h5")):
                check_stop()
                coverage = coverage or load_coverage(dataset_dir, protein)
                crash = diagnose(path, coverage)
                log.warning("%s: %s", crash["class"], crash["words"])
                crashes.append({"file": path.relative_to(md_dir).as_posix(), **crash})
            for failure in failures(md, protein, stage):
                log.warning("%s: %s", failure["class"], failure["words"])
                crashes.append(failure)
            if stage != "minimize" and (folder / "observables.h5").is_file():
                close += near_misses(folder / "observables.h5", limits)
    result = {
        "schema_version": SCHEMA_VERSION,
        "crashes": crashes,
        "near_misses": close,
        "classes": dict(Counter(crash["class"] for crash in crashes)),
    }
    write_json(out / "feedback.json", result)
    return result
