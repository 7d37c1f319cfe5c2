"""Scripts, jobs and refusals of `cgloop submit`; SLURM itself is in tests/integration/test_slurm.py."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from cgloop.config.executor import Resources, SlurmConfig, StageResources
from cgloop.config.load import parse_config
from cgloop.errors import UserError
from cgloop.executors import script, slurm
from cgloop.rundir import STAGES, RunDirectory, read_run, write_config
from cgloop.submit import jobs_of, read_submission, submission_lines, submit_run

CONFIG = """
run: {name: x, root: ROOT, min_free_gb: 0}
data: {sources: [{path: a.h5}], temperature_K: 320, split: {by: replica, train: [0], validation: [1], test: [2]}}
slurm:
  partition: gpu
  account: proteins
  time_limit_hours: 24
  nodes: 100
  gpus_per_node: 4
"""


@pytest.fixture
def read(tmp_path):
    """A config below tmp_path with more lines at its end (section slurm), and its run."""

    def read(more: str = ""):
        path = tmp_path / "c.yaml"
        path.write_text(CONFIG.replace("ROOT", str(tmp_path / "runs")) + more)
        return read_run(path)

    return read


def plan(config, run=Path("/runs/x")):
    return script.plan_jobs(config.slurm, run, "x", jobs_of(config), Path("/home/me"), "/venv/bin/python")


def options(text):
    """Options of the lines `#SBATCH --key=value`."""
    lines = [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH ")]
    return dict(line.partition("=")[::2] for line in lines)


def commands(text):
    """What it does up to the start of cgloop."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return lines[next(i for i, line in enumerate(lines) if line.startswith("cd ")) : lines.index("work=$!")]


def test_the_jobs_are_the_stages_and_the_verdict(read):
    refined, plain = (jobs_of(read(more)[0]) for more in ("refine: {when: always}\n", ""))
    assert (*STAGES, "gate") == refined
    assert tuple(name for name in refined if name != "refine") == plain
    fields = StageResources.model_fields
    assert tuple(field.alias or name for name, field in fields.items()) == refined


def test_five_lines_make_one_job_on_a_hundred_nodes(read):
    config, _ = read()
    (job,) = plan(config)
    assert options(job.script) == {
        "job-name": "x-cycle",
        "partition": "gpu",
        "account": "proteins",
        "time": "1440",
        "nodes": "100",
        "ntasks-per-node": "1",
        "gpus-per-node": "4",
        "signal": "B:USR1@120",
        "requeue": "",
        "open-mode": "append",
        "output": "/runs/x/slurm/cycle-%j.log",
    }
    assert commands(job.script) == [
        "cd /home/me || exit 1",
        "/venv/bin/python -m cgloop.cli cycle /runs/x &",
    ]


def test_everything_that_can_be_asked_for_is_asked_for(read):
    config, _ = read(
        "  qos: long\n  tasks_per_node: 4\n  gpu_type: a100\n  cpus_per_task: 8\n  memory_gb: 1.5\n"
        "  constraint: a&b\n  extra: [--mail-type=END, --exclusive]\n"
    )
    asked = options(plan(config)[0].script)
    wanted = {
        "qos": "long", "ntasks-per-node": "4", "gpus-per-node": "a100:4", "cpus-per-task": "8", "mem": "1500M",
        "constraint": "a&b", "mail-type": "END", "exclusive": "",
    }  # fmt: skip
    assert {key: asked[key] for key in wanted} == wanted


@pytest.mark.parametrize(("hours", "minutes"), [(0.5, "30"), (0.01, "1"), (1.001, "61"), (24, "1440"), (0.05, "3")])
def test_time_limit_is_rounded_up_to_minutes(hours, minutes):
    assert f"--time={minutes}" in script.options_of(Resources(time_limit_hours=hours))


def test_each_stage_as_a_job_with_its_own_resources(read):
    config, _ = read(
        "  jobs: stages\n  tasks_per_node: 4\n"
        "  stages:\n    prep: {partition: cpu, gpus_per_node: 0, time_limit_hours: 2}\n    md: {nodes: 3}\n"
        "    validate: {partition: cpu}\n"
    )
    asked = {job.name: options(job.script) for job in plan(config)}
    assert tuple(asked) == jobs_of(config)
    assert (asked["train"]["nodes"], asked["train"]["ntasks-per-node"]) == ("100", "4")
    assert asked["prep"]["partition"] == asked["validate"]["partition"] == "cpu"
    assert "gpus-per-node" not in asked["prep"]
    assert asked["prep"]["time"] == "120"
    # Only training uses more than one node, unless a stage asks for them itself.
    assert {name: a["nodes"] for name, a in asked.items() if a["nodes"] != "1"} == {"train": "100", "md": "3"}
    assert {a["ntasks-per-node"] for name, a in asked.items() if name != "train"} == {"1"}


def test_overrides_survive_the_resolved_config(read, tmp_path):
    config, _ = read("  jobs: stages\n  stages: {md: {nodes: 3}}\n")
    write_config(config, tmp_path / "resolved.yaml")
    again, _ = read_run(tmp_path / "resolved.yaml")
    assert plan(again) == plan(config)


def test_setup_and_command_of_the_user(read):
    config, _ = read("  setup: [module load cuda, source venv/bin/activate]\n  command: cgloop -v\n")
    lines = commands(plan(config)[0].script)
    assert lines[1:] == ["module load cuda", "source venv/bin/activate", "cgloop -v cycle /runs/x &"]


def test_a_path_with_a_space_is_quoted(read):
    config, _ = read()
    (job,) = plan(config, Path("/my runs/x"))
    assert "cycle '/my runs/x' &" in job.script
    assert "#SBATCH --output='/my runs/x/slurm/cycle-%j.log'" in job.script


@pytest.mark.parametrize("jobs", ["cycle", "stages"])
def test_scripts_are_valid_bash(read, jobs):
    config, _ = read(f"  jobs: {jobs}\n  setup: [module load cuda]\n")
    for job in plan(config):
        subprocess.run(["bash", "-n"], input=job.script, text=True, check=True)


def test_own_template_is_relative_to_the_config(read, tmp_path):
    (tmp_path / "mine.sbatch").write_text("#!/bin/sh\n{{ command }} # {{ name }} {{ options | length }}\n")
    config, _ = read("  template: mine.sbatch\n  command: cgloop\n")
    assert plan(config)[0].script == "#!/bin/sh\ncgloop cycle /runs/x # x-cycle 7\n"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, r"mine.sbatch: no such template \(`slurm.template`\) \(`cgloop submit --print-template` shows one"),
        ("a\n{{ comand }}", r"mine.sbatch: template: 'comand' is undefined \(known: command, directory"),
        ("a\n{% for %}", "mine.sbatch, line 2: not a valid template"),
    ],
)
def test_wrong_template_is_one_line(read, tmp_path, template, message):
    if template is not None:
        (tmp_path / "mine.sbatch").write_text(template)
    config, run = read("  template: mine.sbatch\n")
    with pytest.raises(UserError, match=message) as caught:
        submit_run(config, run, dry_run=True)
    assert "\n" not in str(caught.value)
    assert not run.path.exists()


def test_unknown_stage_names_line_and_nearest():
    with pytest.raises(
        UserError, match=r"c.yaml, line 10: unknown key `slurm.stages.trian` \(did you mean `train`\?\)"
    ):
        parse_config(CONFIG + "  stages: {trian: {nodes: 2}}\n", Path("c.yaml"))


def test_dry_run_writes_scripts_and_config_only(read):
    config, run = read()
    lines = submit_run(config, run, nodes=7, dry_run=True)
    assert lines[-1] == "nothing was submitted"
    assert options((run.path / "slurm" / "01-cycle.sbatch").read_text())["nodes"] == "7"
    assert sorted(path.name for path in run.path.iterdir()) == ["config.yaml", "slurm"]
    assert read_run(run.path)[0].slurm.nodes == 7
    # Scripts of another plan do not stay beside the new ones.
    config = read("  jobs: stages\n")[0]
    submit_run(config, run, dry_run=True)
    assert len(list((run.path / "slurm").iterdir())) == len(jobs_of(config))


def test_stages_as_jobs_are_one_cycle(read):
    config, run = read("  jobs: stages\ncycles: 3\n")
    with pytest.raises(UserError, match="jobs of one cycle, not of 3"):
        submit_run(config, run, dry_run=True)


def test_without_slurm_the_missing_command_is_named(read, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    config, run = read()
    with pytest.raises(UserError, match="no sbatch on the path .*login node"):
        submit_run(config, run)
    assert read_submission(run) == []
    assert not (run.path / "events.jsonl").exists()


@pytest.mark.parametrize(
    ("state", "live"),
    [
        ("RUNNING", True),
        ("PENDING (Resources)", True),
        ("COMPLETING", True),
        ("TIMEOUT", False),
        (slurm.FINISHED, False),
    ],
)
def test_which_states_are_live(state, live):
    assert slurm.is_live(state) == live


def test_status_without_slurm_still_names_the_job(read, monkeypatch, tmp_path):
    _, run = read()
    (run.path / "slurm").mkdir(parents=True)
    job = {"name": "cycle", "id": "12", "script": "s", "log": "l"}
    (run.path / "slurm" / "submission.json").write_text(json.dumps({"time": "now", "jobs": [job]}))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert submission_lines(run) == ["job      12 cycle: state unknown: no squeue on the path"]
    assert submission_lines(RunDirectory(tmp_path / "other")) == []


# What the script does with signals needs no SLURM: a program that ends as cgloop does, and a `scontrol` that is told.
WORK = {
    "stops": "trap 'exit 5' USR1; sleep 0.2; kill -{signal} $PPID; while true; do sleep 0.05; done",
    "deaf": "kill -{signal} $PPID; while true; do sleep 0.05; done",
    "passes": "exit 0",
    "fails": "exit 3",
    "limit of its own": "exit 5",
    "finishes all the same": "trap : USR1; sleep 0.2; kill -{signal} $PPID; sleep 0.3; exit 4",
}


@pytest.mark.parametrize(
    ("work", "signal", "restarts", "code", "requeued"),
    [
        ("stops", "USR1", 0, 5, True),
        ("stops", "USR1", 19, 5, True),
        ("stops", "USR1", 20, 5, False),
        ("stops", "TERM", 0, 5, False),  # cancelled
        ("deaf", "USR1", 0, 138, True),
        ("passes", "USR1", 0, 0, False),
        ("fails", "USR1", 0, 3, False),
        ("limit of its own", "USR1", 0, 5, True),
        ("finishes all the same", "USR1", 0, 4, False),
    ],
)
def test_what_the_script_does_when_it_is_told_to_stop(tmp_path, work, signal, restarts, code, requeued):
    worker = tmp_path / "work.sh"
    worker.write_text(WORK[work].format(signal=signal) + "\n")
    told = tmp_path / "told"
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f'#!/bin/bash\necho "$@" > {told}\n')
    scontrol.chmod(0o755)
    config = SlurmConfig(command=f"bash {worker}")
    (job,) = script.plan_jobs(config, tmp_path, "x", ("cycle",), tmp_path, "python")
    environment = {
        **os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "12", "SLURM_RESTART_COUNT": str(restarts),
    }  # fmt: skip
    done = subprocess.run(["bash"], input=job.script, env=environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == code, done
    assert told.exists() == requeued
    if requeued:
        assert told.read_text() == "requeue 12\n"


def test_the_manual_shows_settings_that_exist(repository, read, tmp_path):
    text = (repository / "docs" / "cluster.md").read_text()
    examples = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    assert len(examples) == 2
    for example in examples:
        SlurmConfig.model_validate(example["slurm"])
    table = text.partition("All settings:")[2].partition("## ")[0]
    named = set(re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines() if line[:2] == "| ")))
    assert named - {"setting"} == set(SlurmConfig.model_fields) - {"jobs", "stages"}
    names = text.partition("Names: ")[2].partition(". Keep")[0]
    (tmp_path / "mine.sbatch").write_text("{{ wrong }}")
    with pytest.raises(UserError, match=r"known: ") as caught:
        plan(read("  template: mine.sbatch\n")[0])
    assert sorted(re.findall(r"`(\w+)`", names)) == caught.value.remedy.removeprefix("known: ").split(", ")
