"""Runs that ended for all their replicas at once, in words: LAMMPS gave up, memory or time ran out, a process died."""

from itertools import groupby
from typing import Any

from cgloop.feedback.taxonomy import BY_LIMIT, MEANING
from cgloop.feedback.words import number
from cgloop.md.failure import FAILURES, span
from cgloop.units import FS_PER_PS

STAGE_WORDS = {"minimize": "minimisation", "nvt": "NVT", "nve": "NVE"}


def failures(md: dict[str, Any], protein: str, stage: str) -> list[dict[str, Any]]:
    """What ended runs of a stage from outside; one entry for all replicas of which the same is to be said.

    Args:
        md: contents of `md.json`.
        protein, stage: which of them.

    Returns:
        Entries with the keys of `diagnose`, without frames, and `replicas`, ids of those that were stopped.
    """
    outcomes = ((md["proteins"].get(protein) or {}).get("stages") or {}).get(stage, {}).get("replicas", [])
    stopped = [(replica, one) for replica, one in enumerate(outcomes) if one.get("limit") in FAILURES]

    def same(entry: tuple[int, dict[str, Any]]) -> tuple[str, str, int]:
        return entry[1]["limit"], entry[1].get("message", ""), entry[1].get("steps_done", 0)

    return [
        _entry(md, protein, stage, key, [replica for replica, _ in group])
        for key, group in groupby(sorted(stopped, key=lambda entry: (same(entry), entry[0])), key=same)
    ]


def _entry(
    md: dict[str, Any], protein: str, stage: str, key: tuple[str, str, int], replicas: list[int]
) -> dict[str, Any]:
    limit, message, steps = key
    kind = BY_LIMIT[limit]
    time_ps = steps * float(md.get("timestep_fs") or 0.0) / FS_PER_PS
    what = f"Replica {replicas[0]}" if len(replicas) == 1 else f"Replicas {span(replicas)}"
    was = "was" if len(replicas) == 1 else "were"
    when = "" if stage == "minimize" else f" after {number(time_ps, 4)} ps that are on record"
    words = f"{what} of {protein} {was} stopped in {STAGE_WORDS[stage]}{when}: {message or FAILURES[limit]}."
    return {
        "class": kind.value,
        "words": words,
        "sentences": [words],
        "meaning": MEANING[kind],
        "protein": protein,
        "stage": stage,
        "replica": replicas[0],
        "replicas": replicas,
        "step": steps,
        "time_ps": time_ps,
        "limit": limit,
        "beads": [],
        "residues": [],
        "dominant_term": None,
        "numbers": {},
        "frames": None,
        "file": None,
    }
