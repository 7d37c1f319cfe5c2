"""Dynamics that were too short to decide go on: how much longer, how often, and the record of it.

A trajectory does not depend on how long it was asked to become, so that an extended run is the run that would have been
asked for from the start; it goes on where it ended (`md/continuation.py`). The record lies in the folder of the cycle
and counts as long as what the dynamics are made from is what it was.
"""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from cgloop.config import Config
from cgloop.config.md import MDConfig
from cgloop.errors import UserError
from cgloop.pipeline import BY_NAME, Context, stage_inputs
from cgloop.stages import digest_of, write_json

log = logging.getLogger("cgloop.md")

RECORD = "extension.json"

MARGIN = 1.2
"""What would decide is an estimate from an error bar that is itself uncertain."""

SHORTEST = 1.25
"""An extension by less is not worth another verdict."""


class Lengths(NamedTuple):
    """Of both dynamic stages, ps a replica."""

    nvt_ps: float
    nve_ps: float

    @classmethod
    def of(cls, config: MDConfig) -> "Lengths":
        return cls(config.nvt.length_ps, config.nve.length_ps)


def longer(config: MDConfig, now: Lengths, done: int, verdict: Mapping[str, Any]) -> Lengths | None:
    """What lengths would decide an inconclusive verdict; None if none would, or none is allowed.

    A verdict is worth a longer run only if that would settle every check that is open: not one that waits for a longer
    reference or for more replicas.

    Args:
        config: what was asked for, and the limits of extensions.
        now: the lengths that were judged.
        done: extensions so far.
        verdict: of the gate.
    """
    if verdict["verdict"] != "inconclusive" or verdict.get("refused") or not config.extend:
        return None
    open_ = [check for check in verdict["checks"] if check["required"] and check["verdict"] != "pass"]
    if not open_ or done >= config.max_extensions or not all(_run_decides(check) for check in open_):
        return None
    asked = Lengths.of(config)
    nvt_ps = _extended(now.nvt_ps, asked.nvt_ps, config, [c for c in open_ if not _of_nve(c)])
    nve_ps = _extended(now.nve_ps, asked.nve_ps, config, [c for c in open_ if _of_nve(c)])
    return None if (nvt_ps, nve_ps) == now else Lengths(nvt_ps, nve_ps)


def _run_decides(check: Mapping[str, Any]) -> bool:
    needs = check["detail"].get("needs") or {}
    factor = needs.get("run_factor")
    return set(needs) == {"run_factor"} and isinstance(factor, int | float) and math.isfinite(factor)


def _of_nve(check: Mapping[str, Any]) -> bool:
    return str(check["check"]).startswith("nve.")


def _extended(now_ps: float, asked_ps: float, config: MDConfig, checks: Sequence[Mapping[str, Any]]) -> float:
    """At least by `SHORTEST`, in whole ps, and not beyond the limit."""
    if not checks:
        return now_ps
    factor = max(SHORTEST, MARGIN * max(check["detail"]["needs"]["run_factor"] for check in checks))
    wanted = math.ceil(now_ps * factor) if math.isfinite(now_ps * factor) else math.inf
    return max(now_ps, float(min(wanted, asked_ps * config.max_length_factor)))


def lengthened(context: Context) -> Context:
    """The context with the lengths that the dynamics of its cycle were extended to, if they were.

    Args:
        context: as the config says; what comes before the stage `md` has to be up to date.
    """
    steps = _steps(context)
    return _with(context, Lengths(*steps[-1]["lengths"])) if steps else context


def extend(context: Context, verdict: Mapping[str, Any]) -> bool:
    """Whether the dynamics of a cycle that was just judged shall go on; the record then says how far.

    Args:
        context: as the config says, without extensions.
        verdict: of the gate on it.
    """
    md, steps = context.config.md, _steps(context)
    now = Lengths.of(lengthened(context).config.md)
    then = longer(md, now, len(steps), verdict)
    if then is None:
        return False
    because = [check["check"] for check in verdict["checks"] if check["required"] and check["verdict"] != "pass"]
    entry = {"lengths": list(then), "because": sorted(set(because))}
    write_json(_record(context), {"inputs": _inputs(context), "steps": [*steps, entry]})
    log.info("extended, to decide %s: %s", ", ".join(entry["because"]), _in_words(now, then))
    context.run.event("extended", cycle=context.cycle, nvt_ps=then.nvt_ps, nve_ps=then.nve_ps, because=entry["because"])
    return True


def told(context: Context, verdict: dict[str, Any]) -> dict[str, Any]:
    """The verdict with `extensions` (one entry each: `lengths`, `because`) and a sentence about them in its summary."""
    verdict["extensions"] = steps = _steps(context) if context.config.md.extend else []
    if steps:
        times = "once" if len(steps) == 1 else f"{len(steps)} times"
        words = _in_words(Lengths.of(context.config.md), Lengths(*steps[-1]["lengths"]))
        verdict["summary"] += f" The dynamics were extended {times}: {words}."
    return verdict


def significance(config: Config) -> float:
    """Of one look: a run that is judged again after each extension has several chances to fail by chance."""
    looks = 1 + config.md.max_extensions if config.md.extend else 1
    return config.gate.significance / looks


def _in_words(before: Lengths, after: Lengths) -> str:
    parts = [
        f"{stage} from {old:g} to {new:g} ps"
        for stage, old, new in zip(("NVT", "NVE"), before, after, strict=True)
        if old != new
    ]
    return ", ".join(parts)


def _with(context: Context, lengths: Lengths) -> Context:
    md = context.config.md
    update = {
        "nvt": md.nvt.model_copy(update={"length_ps": lengths.nvt_ps}),
        "nve": md.nve.model_copy(update={"length_ps": lengths.nve_ps}),
    }
    config = context.config.model_copy(update={"md": md.model_copy(update=update)})
    return replace(context, config=config)


def _record(context: Context) -> Path:
    return context.run.cycle(context.cycle) / RECORD


def _inputs(context: Context) -> str:
    return digest_of(stage_inputs(context, BY_NAME["md"]))


def _steps(context: Context) -> list[dict[str, Any]]:
    """Extensions so far; none if there are none, or what they were made for has changed."""
    if not context.config.md.extend:
        return []
    try:
        record = json.loads(_record(context).read_text(encoding="utf-8"))
        return list(record["steps"]) if record["inputs"] == _inputs(context) else []
    except (OSError, ValueError, KeyError, TypeError, UserError):
        return []
