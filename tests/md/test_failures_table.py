"""Every failure ends in the right record, in one table: `python -m pytest -s -m slow tests/md/test_failures_table.py`.

Two replicas on springs in LAMMPS with the coupling of the stage; replica 1 is made to fail at its 120th evaluation, or
something ends the run of both. Then what only happens to processes, with the stage itself, and an external `lmp`.
"""

import re
import signal
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from cgloop.errors import Interrupted, UserError
from cgloop.interrupt import clear_stop, request_stop
from cgloop.md import crash_files
from cgloop.md.checkpoint import NAME
from cgloop.md.dynamics import run_dynamics
from cgloop.md.evaluation import Evaluation
from cgloop.md.inputs import HALF_BOX_A
from cgloop.md.plan import plan_nve, plan_nvt
from cgloop.md.run import md_stage
from tests.md.model_worlds import config
from tests.md.test_restart import N_BEADS, SHORT, own_script, raise_, start, subject
from tests.md.test_supervise import LONG, Meanwhile
from tests.md.worlds import evaluation, springs

pytestmark = pytest.mark.slow

FAILS_AT = 120


class Ill:
    """Springs, of which something is changed from the n-th call on."""

    def __init__(self, change):
        self.change, self.calls, self.springs = change, 0, springs(120.0, 3.8)

    def __call__(self, positions):
        self.calls += 1
        sound = self.springs(positions)
        return self.change(sound) if self.calls >= FAILS_AT else sound


def second(field, value):
    """The evaluation with another value of replica 1."""

    def change(sound: Evaluation) -> Evaluation:
        values = np.array(getattr(sound, field), copy=True)
        values[1] = value
        changed = sound._replace(**{field: values})
        return changed._replace(finite=changed.finite & np.isfinite(changed.forces).all(axis=(1, 2)))

    return change


def jump(sound):
    terms = sound.terms.copy()
    terms[1, 0] += 5.0
    return sound._replace(terms=terms)


def free(positions):
    return evaluation(np.zeros_like(positions), np.zeros(len(positions)))


def dynamics(folder, evaluate, make_plan=plan_nvt, hot=1.0, edge=False, **md):
    """The outcomes of two replicas; replica 1 starts with velocities that are larger, or at the edge of the box."""
    one = subject(evaluate)
    begin = start(one)
    begin.velocities[1] *= hot
    if edge:
        begin.positions[1, 0, 0], begin.velocities[1, 0, 0] = HALF_BOX_A - 0.01, 1e-3
    folder.mkdir()
    plan = make_plan(config(**{**SHORT, **md}).md, 320.0, N_BEADS, seed=11)
    return run_dynamics(plan, one, begin, folder).outcomes


def in_process(tmp_path):
    """(what was done, outcome expected, keywords of `dynamics`)."""
    broken = own_script(
        tmp_path / "a", lambda text: text.replace("run             ${steps}", "run 20\nfix x all nonsense")
    )
    fixed = own_script(tmp_path / "b", lambda text: text.replace("boundary        p p p", "boundary        f f f"))
    ill = [
        ("a force is not a number", "non-finite", second("forces", np.nan)),
        ("an energy is not a number", "non-finite", lambda sound: second("finite", False)(sound)),
        ("two beads 1.5 Å apart", "min_distance", second("min_distance_A", 1.5)),
        ("a bond 30 % too long", "bond", second("bond_deviation", 0.3)),
        ("a force of 5000 kcal/mol/Å", "max_force", second("max_force", 5000.0)),
        ("the energy jumps by 5 kcal/mol", "energy_jump", jump),
        ("a Python error in the model", "engine_error", lambda _sound: raise_(ZeroDivisionError("in the model"))),
        ("no memory (Python)", "out_of_memory", lambda _sound: raise_(MemoryError())),
        ("no memory (accelerator)", "out_of_memory",
         lambda _sound: raise_(RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"))),
    ]  # fmt: skip
    yield from ((what, limit, {"evaluate": Ill(change)}) for what, limit, change in ill)
    yield "25 times as hot", "temperature_instant", {"evaluate": springs(120.0, 3.8), "hot": 5.0}
    mean = {"evaluate": free, "hot": 2.45, "make_plan": plan_nve, "nve": {"length_ps": 2.0}}
    yield "6 times as hot for 1 ps", "temperature_mean", mean
    yield "LAMMPS refuses a command in the middle", "engine_error", {
        "evaluate": springs(120.0, 3.8), "lammps_inputs": broken,
    }  # fmt: skip
    yield "a bead leaves a box that is not periodic", "lost_atoms", {
        "evaluate": free, "edge": True, "lammps_inputs": fixed,
    }  # fmt: skip


class Table:
    """Rows of Markdown; shown when all is done."""

    def __init__(self):
        self.rows = ["| what was done | outcome | steps on record | others | left behind |", "|---|---|---|---|---|"]

    def add(self, what, outcome, others, folder=None):
        left = [] if folder is None else sorted(path.name for path in folder.glob("crash_*"))
        missing = [f"`record_missing`: {outcome['record_missing']}"] if "record_missing" in outcome else []
        words = re.sub(r"\S*/", "", outcome.get("message") or "")
        message = [f"“{words[:80]}”"] if words else []
        steps = f"{outcome['steps_done']} of {outcome['steps_asked']}" if "steps_done" in outcome else "–"
        self.rows.append(
            f"| {what} | `{outcome['limit']}` | {steps} | {others} | {', '.join(left + missing + message)} |"
        )


def test_every_failure_has_its_record(prior_world, world, tmp_path, monkeypatch, capsys):
    table = Table()
    for number, (what, limit, given) in enumerate(in_process(tmp_path)):
        folder = tmp_path / f"case-{number}"
        outcomes = dynamics(folder, **given)
        assert (outcomes[1]["survived"], outcomes[1]["limit"]) == (False, limit), what
        alone = limit not in ("engine_error", "out_of_memory", "lost_atoms")
        assert outcomes[0]["survived"] == alone, what
        assert (folder / "crash_001.h5").is_file() == alone
        table.add(what, outcomes[1], "survived" if alone else "the same", folder)
        with h5py.File(folder / "observables.h5") as file:
            assert file["replica_001"].attrs["limit"] == limit
    with monkeypatch.context() as patched:
        patched.setattr(crash_files, "write_datasets", lambda *_: raise_(OSError(28, "No space left on device")))
        outcomes = dynamics(tmp_path / "full", Ill(second("max_force", 5000.0)))
    assert "No space left" in outcomes[1]["record_missing"]
    assert outcomes[0]["survived"]
    table.add("the disk is full when a crash is recorded", outcomes[1], "survived", tmp_path / "full")
    of_processes(table, prior_world, tmp_path)
    of_programs(table, prior_world, world, tmp_path)
    with capsys.disabled():
        print("", *table.rows, sep="\n")


def of_processes(table, prior_world, tmp_path):
    """A worker is killed, aborts as MPI does, runs out of time, or is asked to stop."""
    paths = prior_world["export"], prior_world["prep"]
    for name, number, limit in (
        ("SIGKILL", signal.SIGKILL, "killed"),
        ("SIGABRT (as MPI aborts)", signal.SIGABRT, "engine_error"),
    ):
        out = tmp_path / name.split()[0]
        out.mkdir()
        with Meanwhile(out, lambda worker, number=number: worker.send_signal(number)):
            result = md_stage(config(**LONG), *paths, out)
        outcome = result["proteins"]["helix"]["stages"]["nvt"]["replicas"][1]
        assert (outcome["survived"], outcome["limit"]) == (False, limit)
        table.add(f"{name} to the process of the dynamics", outcome, "the same")
    (tmp_path / "late").mkdir()
    result = md_stage(config(**LONG, time_limit_minutes=0.5), *paths, tmp_path / "late")
    outcome = result["proteins"]["helix"]["stages"]["nvt"]["replicas"][1]
    assert (outcome["survived"], outcome["limit"]) == (False, "timeout")
    table.add("`md.time_limit_minutes` are over", outcome, "the same")
    out = tmp_path / "stopped"
    out.mkdir()
    try:
        with Meanwhile(out, lambda _worker: request_stop("SIGTERM received")), pytest.raises(Interrupted) as caught:
            md_stage(config(**LONG), *paths, out)
    finally:
        clear_stop()
    (kept,) = out.glob(f".jobs/*/nvt/{NAME}")
    table.add("SIGTERM", {"limit": f"exit code 5: {caught.value}"}, "the same", None)
    table.rows[-1] = table.rows[-1].removesuffix("|  |") + f"| `{kept.name}`: the same command goes on |"


def of_programs(table, prior_world, world, tmp_path):
    """An external `lmp`: too long a time step, and a network without the plugin."""
    given = {"engine": "lmp", "lmp": str(Path(sys.executable).parent / "lmp"), "replicas": 1}
    long = {"length_ps": 30.0, "equilibration_ps": 0.0}
    (tmp_path / "lmp").mkdir()
    result = md_stage(
        config(
            **given, timestep_fs=60.0, nvt=long, nve={"length_ps": 30.0}, observe_every_ps=0.6, dump_every_ps=0.6
        ),
        prior_world["export"], prior_world["prep"], tmp_path / "lmp",
    )  # fmt: skip
    (outcome,) = result["proteins"]["helix"]["stages"]["nvt"]["replicas"]
    assert not outcome["survived"]
    table.add("external `lmp`, a time step of 60 fs", outcome, "–", tmp_path / "lmp" / "helix" / "nvt")
    (tmp_path / "plugin").mkdir()
    with pytest.raises(UserError, match="missing_plugin") as caught:
        md_stage(config(**given), world["export"], world["prep"], tmp_path / "plugin")
    table.add("external `lmp` without the plugin", {"limit": "exit code 2", "message": caught.value.message}, "–")
