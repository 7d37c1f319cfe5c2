"""A stage that was stopped goes on and ends as if nothing had happened; what ends it before its time is an outcome."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

from cgloop.data.dataset import DatasetReader
from cgloop.errors import Interrupted, UserError
from cgloop.export.bundle import load_bundle
from cgloop.interrupt import clear_stop, request_stop
from cgloop.md.checkpoint import NAME, Checkpoint
from cgloop.md.dynamics import run_dynamics
from cgloop.md.ending import State
from cgloop.md.evaluate import compile_model
from cgloop.md.evaluation import N_TERMS
from cgloop.md.inputs import HALF_BOX_A, find_template
from cgloop.md.job import Job, make_subject
from cgloop.md.noise import Noise
from cgloop.md.plan import plan_nve, plan_nvt
from cgloop.md.session import Moment
from cgloop.md.system import StartFrames, Subject
from cgloop.md.thermostat import maxwell_velocities
from cgloop.stages import digest_files
from tests.md.model_worlds import config, protein, system, write_world
from tests.md.worlds import evaluation, springs

N_BEADS = 6
SHORT = {"nvt": {"length_ps": 0.6, "equilibration_ps": 0.1}, "nve": {"length_ps": 0.4}, "restart_every_ps": 0.1}
WALL_CLOCK = ("timing.json", "log.lammps")


class At:
    """Springs that do something when they are asked the n-th time."""

    def __init__(self, call, action):
        self.call, self.action, self.calls = call, action, 0
        self.springs = springs(120.0, 3.8)

    def __call__(self, positions):
        self.calls += 1
        if self.calls == self.call:
            self.action()
        return self.springs(positions)


def subject(evaluate, n_replicas=2):
    calm = protein(N_BEADS)
    frames = calm.native + 0.25 * (calm.positions[:n_replicas].astype(float) - calm.native)
    starts = StartFrames(frames, "test", np.zeros(n_replicas, int), np.arange(n_replicas))

    def split(_positions):
        return np.zeros((N_TERMS, N_BEADS, 3))

    return Subject(system(N_BEADS), starts, lambda: evaluate, split, list(range(n_replicas)))


def start(one):
    noise = Noise(5, one.replicas, one.system.n_beads, "velocities")
    return State(one.replicas, one.starts.positions, maxwell_velocities(noise, one.system.masses, 320.0))


def run(folder, one, make_plan=plan_nvt, **md):
    plan = make_plan(config(**{**SHORT, **md}).md, 320.0, one.system.n_beads, seed=11)
    folder.mkdir(exist_ok=True)
    return run_dynamics(plan, one, start(one), folder)


def files(folder):
    return {name: digest for name, digest in digest_files(folder).items() if name not in WALL_CLOCK}


@pytest.mark.parametrize(("make_plan", "calls"), [(plan_nvt, (60, 180)), (plan_nve, (30,))])
def test_a_stopped_stage_ends_the_same(tmp_path, make_plan, calls):
    whole = run(tmp_path / "whole", subject(springs(120.0, 3.8)), make_plan)
    for call in calls:
        with pytest.raises(Interrupted):
            run(tmp_path / "parts", subject(At(call, lambda: request_stop("test"))), make_plan)
        clear_stop()
        assert (tmp_path / "parts" / NAME).is_file()
    ended = run(tmp_path / "parts", subject(springs(120.0, 3.8)), make_plan)
    np.testing.assert_array_equal(ended.end.positions, whole.end.positions)
    np.testing.assert_array_equal(ended.end.velocities, whole.end.velocities)
    assert ended.outcomes == whole.outcomes
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


def test_a_stop_is_obeyed_at_once_and_its_step_is_saved(tmp_path):
    with pytest.raises(Interrupted):
        run(tmp_path / "nvt", subject(At(120, lambda: request_stop("test"))))
    clear_stop()
    checkpoint = Checkpoint.read(tmp_path / "nvt")
    assert checkpoint is not None
    assert checkpoint.moment.step == 200  # the next step at which somebody asks
    assert checkpoint.facts["rows"] == (200 - 50) // 10


def test_pair_lists_go_on_to_the_bit(tmp_path):
    """40 beads have a list of pairs within reach, whose order and age decide the rounding."""
    world = write_world(tmp_path / "world", "prior-only", [protein(40, 12)])
    bundle = load_bundle(world["export"])
    # A smooth helix at 900 K: lists are made anew several times.
    made = config(**SHORT, temperature_K=900.0, replicas=2, skin_A=0.6)
    one = make_subject(
        made,
        bundle,
        compile_model(bundle.function, bundle.cutoff_A),
        DatasetReader.open(world["prep"]),
        Job("helix", (0, 1)),
    )
    plan = plan_nvt(made.md, 900.0, 40, seed=3)
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    begin = start(one)
    whole = run_dynamics(plan, one, begin, tmp_path / "whole")
    assert all(outcome["survived"] for outcome in whole.outcomes.values())

    class Stopping:
        """The same model, which asks for a stop when it is called the 150th time."""

        def __init__(self):
            self.model, self.calls = one.new_evaluator(), 0
            self.state, self.restore = self.model.state, self.model.restore

        def __call__(self, positions):
            self.calls += 1
            if self.calls == 150:
                request_stop("test")
            return self.model(positions)

    with pytest.raises(Interrupted):
        run_dynamics(plan, replace(one, new_evaluator=Stopping), begin, tmp_path / "parts")
    clear_stop()
    ended = run_dynamics(plan, one, begin, tmp_path / "parts")
    np.testing.assert_array_equal(ended.end.positions, whole.end.positions)
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


def test_a_frozen_replica_stays_frozen(tmp_path):
    """Replica 1 breaks before the stop: the record of that is not lost, and it does not come to life again."""

    def breaks(positions):
        sound = springs(120.0, 3.8)(positions)
        breaks.calls += 1
        return sound._replace(max_force=np.array([1.0, 1e9 if breaks.calls > 120 else 1.0]))

    outcomes = {}
    for name, stops in (("whole", ()), ("parts", (250,))):
        breaks.calls = 0

        def stopping(positions, stops=stops):
            if breaks.calls + 1 in stops:
                request_stop("test")
            return breaks(positions)

        if stops:
            with pytest.raises(Interrupted):
                run(tmp_path / name, subject(stopping))
            clear_stop()
        outcomes[name] = run(tmp_path / name, subject(breaks)).outcomes
    assert outcomes["parts"] == outcomes["whole"]
    assert [outcomes["whole"][i]["survived"] for i in (0, 1)] == [True, False]
    assert (tmp_path / "parts" / "crash_001.h5").is_file()


def test_a_damaged_restart_file_is_refused(tmp_path):
    moment = Moment(5, np.zeros((2, 3)), np.zeros((2, 3)), np.zeros(2, np.int32))
    Checkpoint(moment, {"monitor": {"sum": np.ones(2)}}, {"rows": 3}).write(tmp_path)
    read = Checkpoint.read(tmp_path)
    assert read is not None
    assert (read.moment.step, read.facts, read.parts["monitor"]["sum"].tolist()) == (5, {"rows": 3}, [1.0, 1.0])
    whole = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"restart\.npz.*remove it"):
        Checkpoint.read(tmp_path)


def raise_(error):
    raise error


@pytest.mark.parametrize(
    ("error", "limit"),
    [
        (ZeroDivisionError("in the model"), "engine_error"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"), "out_of_memory"),
    ],
)
def test_an_error_in_the_callback_is_an_outcome(tmp_path, error, limit):
    result = run(tmp_path / "nvt", subject(At(101, lambda: raise_(error))))
    assert len(result.end.replicas) == 0
    for outcome in result.outcomes.values():
        assert (outcome["survived"], outcome["limit"]) == (False, limit)
        # The first call compiles, the second is step 0, and step 50, where the state was saved, is done twice.
        assert outcome["steps_done"] == 97 - 50
        assert (str(error) or "too little memory") in outcome["message"]
    with h5py.File(tmp_path / "nvt" / "observables.h5") as file:
        assert file["replica_000"].attrs["limit"] == limit
        assert len(file["replica_000/time_ps"]) == 4


def own_script(folder, change):
    """A folder with a changed nvt.in."""
    folder.mkdir()
    text = find_template("nvt.in").read_text()
    changed = change(text)
    assert changed != text
    (folder / "nvt.in").write_text(changed)
    return folder


def test_lost_atoms_are_an_outcome(tmp_path):
    """With fixed boundaries a bead that leaves the box is lost; LAMMPS says so at its next output."""
    scripts = own_script(tmp_path / "own", lambda text: text.replace("boundary        p p p", "boundary        f f f"))

    def free(positions):
        return evaluation(np.zeros_like(positions), np.zeros(len(positions)))

    one = subject(free)
    frames = one.starts.positions
    frames[1, 0, 0] = HALF_BOX_A - 0.01
    begin = start(one)
    begin.velocities[1, 0, 0] = 1e-3
    (tmp_path / "nvt").mkdir()
    plan = plan_nvt(config(**SHORT, lammps_inputs=scripts).md, 320.0, N_BEADS, seed=11)
    result = run_dynamics(plan, one, begin, tmp_path / "nvt")
    assert {outcome["limit"] for outcome in result.outcomes.values()} == {"lost_atoms"}
    assert "Lost atoms" in result.outcomes[0]["message"]


def test_lammps_that_gives_up_is_an_outcome(tmp_path):
    scripts = own_script(
        tmp_path / "own", lambda text: text.replace("run             ${steps}", "run 20\nfix broken all nonsense")
    )
    result = run(tmp_path / "nvt", subject(springs(120.0, 3.8)), lammps_inputs=scripts)
    assert {outcome["limit"] for outcome in result.outcomes.values()} == {"engine_error"}
    assert "nonsense" in result.outcomes[0]["message"]
    assert result.outcomes[0]["steps_done"] == 20


def test_a_script_that_never_ran_is_a_mistake_of_its_author(tmp_path):
    scripts = own_script(tmp_path / "own", lambda text: text.replace("timestep ", "timestop "))
    with pytest.raises(UserError, match=r"nvt\.in.*timestop"):
        run(tmp_path / "nvt", subject(springs(120.0, 3.8)), lammps_inputs=scripts)


@pytest.mark.parametrize("thermostat", ["lammps-langevin", "csvr", "nose-hoover"])
def test_thermostats_of_lammps_hold_the_temperature(tmp_path, thermostat):
    """One replica of 6 beads on springs, 20 ps: the mean is within 5 standard errors or so, 20 %, of the target."""
    bath = {"length_ps": 20.0, "equilibration_ps": 2.0, "thermostat": thermostat, "friction_per_ps": 10.0}
    one = subject(springs(120.0, 3.8), 1)
    result = run(tmp_path / "nvt", one, nvt=bath, replicas=1)
    assert result.outcomes[0]["survived"]
    with h5py.File(tmp_path / "nvt" / "observables.h5") as file:
        assert file.attrs["dof"] == (18 if thermostat == "lammps-langevin" else 15)
        assert file["replica_000/temperature_K"][:].mean() == pytest.approx(320.0, rel=0.2)


def test_thermostats_of_lammps_are_for_one_replica():
    with pytest.raises(ValueError, match="replicas: 1"):
        config(nvt={"thermostat": "csvr"}, replicas=2)
