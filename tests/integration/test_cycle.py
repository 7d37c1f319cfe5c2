"""The loop as a whole, on real data: what it leaves behind, and what it repeats."""

import json
import shutil

import pytest
import yaml

from cgloop.config.validate import required_by_default
from cgloop.errors import ExitCode
from cgloop.report.gather import read_run_files
from cgloop.stages import digest_file
from tests.integration.conftest import cgloop, digests, events, short_config

pytestmark = pytest.mark.slow

STAGES = ["prep", "priors", "train", "export", "parity", "md", "control", "validate", "feedback"]


@pytest.fixture
def copied_run(finished_run, tmp_path):
    """A copy of the finished run that a test may change."""
    return shutil.copytree(finished_run, tmp_path / "runs" / "short", symlinks=True)


def stages_that_ran(run, after=0):
    return [event["stage"] for event in events(run)[after:] if event["event"] == "stage-done"]


def test_every_stage_left_its_record_and_its_files(finished_run):
    assert stages_that_ran(finished_run) == STAGES
    for stage in STAGES:
        folder = finished_run / "cycle_000" / stage
        record = json.loads((folder / "stage.json").read_text())
        assert {name: digest_file(folder / name) for name in record["outputs"]} == record["outputs"]
    hidden = list(finished_run.rglob(".*"))
    assert hidden == []


def test_the_bundle_holds_the_trained_parameters(finished_run):
    parity = json.loads((finished_run / "cycle_000" / "parity" / "parity.json").read_text())
    assert parity["same_parameters"] is True
    assert parity["verdict"] == "pass"


def test_verdict_and_exit_code_agree(finished_run):
    verdict = json.loads((finished_run / "verdict.json").read_text())
    done = cgloop("gate", finished_run)
    assert done.returncode == {"pass": 0, "fail": 3, "inconclusive": 4}[verdict["verdict"]]
    *table, blank, _, figures, _ = done.stdout.strip().splitlines()
    assert table[0].split() == ["verdict", "check", "of", "value", "limit", "reference"]
    assert len(table) == 1 + len(verdict["checks"]) + len(verdict["missing"])
    assert (blank, figures.split()[0]) == ("", "figures")
    assert verdict["verdict"].upper() in done.stdout
    assert (finished_run / "deploy").exists() == (verdict["verdict"] == "pass")


def test_gate_can_be_asked_about_single_checks_and_leaves_the_verdict(copied_run):
    before, deployed = (copied_run / "verdict.json").read_bytes(), (copied_run / "deploy").exists()
    root = f"run.root={copied_run.parent}"
    done = cgloop("gate", copied_run, "--require", "parity.forces, parity.energy", "--set", root)
    assert done.returncode == ExitCode.PASS, done.stderr
    *table, _, words = done.stdout.splitlines()
    assert words == "verdict  PASS by parity.forces, parity.energy: All 2 required checks pass."
    assert [line.split()[0] for line in table[1:3]] == ["pass", "pass"]
    assert "(not required)" in done.stdout
    assert (copied_run / "verdict.json").read_bytes() == before
    assert (copied_run / "deploy").exists() == deployed
    wrong = cgloop("gate", copied_run, "--require", "parity.force", "--set", root)
    assert wrong.returncode == ExitCode.BAD_INPUT
    assert "did you mean `parity.forces`" in wrong.stderr


def test_every_required_check_was_judged(finished_run):
    verdict = json.loads((finished_run / "verdict.json").read_text())
    config = yaml.safe_load((finished_run / "config.yaml").read_text())
    judged = {check["check"] for check in verdict["checks"]}
    assert config["gate"]["required"] is None
    assert set(required_by_default(config["model"]["energy"])) <= judged
    for check in verdict["checks"]:
        assert check["verdict"] in ("pass", "fail", "inconclusive", "reported")
        assert check["reason"]


def test_nothing_is_repeated(copied_run):
    before, count = digests(copied_run), len(events(copied_run))
    cgloop("cycle", copied_run)
    assert stages_that_ran(copied_run, after=count) == []
    assert digests(copied_run) == before


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("validate.contact_cutoff_A=7.5", ["validate"]),
        pytest.param("md.replicas=4", ["md", "control", "validate", "feedback"], marks=pytest.mark.slow),
        ("train.checkpoint_every_s=99", []),
        ("gate.required=[parity.forces]", []),
    ],
)
def test_a_changed_value_repeats_what_depends_on_it(copied_run, setting, expected):
    count = len(events(copied_run))
    done = cgloop("cycle", copied_run, "--set", setting, "--set", f"run.root={copied_run.parent}")
    assert done.returncode in (0, 3, 4), done.stderr
    assert stages_that_ran(copied_run, after=count) == expected


@pytest.mark.slow
def test_only_a_model_that_passes_is_deployed(copied_run):
    """With what its required checks happen to say: first one that passes, then one that cannot."""
    root = f"run.root={copied_run.parent}"
    done = cgloop("gate", copied_run, "--set", "gate.required=[parity.forces]", "--set", root)
    assert done.returncode == ExitCode.PASS, done.stderr
    deploy, exported = copied_run / "deploy", copied_run / "cycle_000" / "export"
    files = {path.name for path in exported.iterdir()} - {"stage.json"}
    assert {path.name for path in (deploy / "bundle").iterdir()} == files
    for name in files - {"manifest.json"}:
        assert digest_file(deploy / "bundle" / name) == digest_file(exported / name)
    manifest, plain = (json.loads((folder / "manifest.json").read_text()) for folder in (deploy / "bundle", exported))
    parity = json.loads((copied_run / "cycle_000" / "parity" / "parity.json").read_text())
    assert manifest.pop("parity")["force"] == parity["force"]
    assert manifest.pop("verdict")["verdict"] == "pass"
    assert manifest == plain
    record = json.loads((exported / "stage.json").read_text())
    assert digest_file(exported / "manifest.json") == record["outputs"]["manifest.json"]
    assert record["inputs"]["jax"] == plain["module"]["jax"]
    # The copy in the folder that is handed on is a bundle, and so is what the run points at; it tells the same.
    for place in (deploy, copied_run, exported):
        told = json.loads(cgloop("bundle", "show", place, "--json").stdout)
        assert told["verdict"]["verdict"] == "pass"
        assert told["parity"]["force"] == parity["force"]
    assert cgloop("bundle", "verify", deploy).returncode == ExitCode.PASS
    assert json.loads((deploy / "verdict.json").read_text())["verdict"] == "pass"
    assert {path.name for path in (deploy / "lammps_inputs").iterdir()} == {"minimize.in", "nvt.in", "nve.in"}

    count = len(events(copied_run))
    done = cgloop("cycle", copied_run, "--set", "parity.force_limit=1e-12", "--set", root)
    assert done.returncode == ExitCode.FAIL, done.stderr
    assert "no MD was run" in done.stdout.splitlines()[-3]
    assert stages_that_ran(copied_run, after=count) == ["parity"]
    assert not deploy.exists()
    done = cgloop("md", copied_run)
    assert done.returncode == ExitCode.FAIL
    assert "no MD is run" in done.stdout
    assert stages_that_ran(copied_run, after=count) == ["parity"]
    # What is left of the MD before is not this model's, and the page does not show it.
    shown = read_run_files(copied_run).cycles[0]
    assert shown.stopped_at_parity
    assert (shown.folder / "md" / "md.json").exists()
    assert shown.md == shown.metrics == {}


def test_status_tells_done_and_stale(copied_run):
    assert cgloop("status", copied_run).stdout.count(" done ") == len(STAGES)
    config = copied_run / "config.yaml"
    config.write_text(config.read_text().replace("replicas: 3", "replicas: 5"))
    text = cgloop("status", copied_run).stdout
    assert [line.split()[0] for line in text.splitlines() if " stale " in line] == ["md", "control", "validate"]


def test_changed_bundle_is_refused(copied_run):
    model = copied_run / "cycle_000" / "export" / "model.cpu.stablehlo"
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    shutil.rmtree(copied_run / "cycle_000" / "md")
    done = cgloop("md", copied_run)
    assert done.returncode == ExitCode.BAD_INPUT
    assert "model.cpu.stablehlo" in done.stderr.strip().splitlines()[-1]
    assert not (copied_run / "cycle_000" / "md").exists()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_cycles_go_on_until_the_limit(tmp_path, example_h5):
    """Two rounds of a model that cannot pass: the second links the data, starts from the first, and trains longer."""
    validate, feedback = {"noise_blocks": 20, "min_replicas": 4}, {"allow": ["longer-training", "smaller-time-step"]}
    config = short_config(tmp_path, example_h5, cycles=2, validate=validate, feedback=feedback)
    done = cgloop("cycle", config)
    assert done.returncode in (3, 4), done.stderr
    run = tmp_path / "runs" / "short"
    assert (run / "cycle_001" / "prep").is_symlink()
    first, second = (json.loads((run / f"cycle_00{i}" / "train" / "stage.json").read_text()) for i in (0, 1))
    assert second["inputs"]["previous_cycle"]["digest"] == first["result_digest"]
    assert stages_that_ran(run) == STAGES + STAGES[2:]

    plan = json.loads((run / "cycle_001" / "remedies.json").read_text())
    assert plan["tried"] in ("longer-training", "smaller-time-step")
    resolved = yaml.safe_load((run / "cycle_001" / "config.yaml").read_text())
    assert plan["changes"].items() <= {
        ("train.epochs", resolved["train"]["epochs"]), ("md.timestep_fs", resolved["md"]["timestep_fs"]),
    }  # fmt: skip
    assert yaml.safe_load((run / "config.yaml").read_text())["train"]["epochs"] == 3
    cycles = json.loads((run / "cycles.json").read_text())
    assert cycles["ended"] == "the limit of 2 cycles was reached"
    assert "the limit of 2 cycles was reached" in done.stdout
    assert cycles["cycles"][1]["compared"]["with"] == 0
    found = cycles["cycles"][0]["decoys"]["found"]
    assert (cycles["cycles"][1]["decoys"]["used"] > 0) == (found > 0)
    assert [event["tried"] for event in events(run) if event["event"] == "plan"] == [plan["tried"]]

    # As if it had been killed between the cycles: the same decisions, and nothing is done twice.
    kept = {path: path.read_bytes() for path in (run / "cycle_001" / "remedies.json", run / "cycles.json")}
    for path in kept:
        path.unlink()
    count, before = len(events(run)), digests(run)
    cgloop("cycle", config)
    assert {path: path.read_bytes() for path in kept} == kept
    assert stages_that_ran(run, after=count) == []
    assert digests(run) == before
