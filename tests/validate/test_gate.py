"""The gate on results made by hand."""

import json
import subprocess
import sys

import pytest

from cgloop.checks import CheckResult
from cgloop.config.validate import REQUIRED
from cgloop.errors import UserError
from cgloop.validate.controls import CONTROLLED
from cgloop.validate.gate import judge, parity_metrics
from cgloop.validate.gate_words import what_decides
from cgloop.validate.registry import CHECKS, OF_THE_MODEL


def result(name, subject, verdict="pass", value=1.0, **detail):
    return CheckResult(
        check=name, subject=subject, value=value, error=0.1, threshold=2.0, verdict=verdict, reason="because",
        detail=detail,
    ).to_json()  # fmt: skip


@pytest.fixture
def metrics():
    """Two proteins, everything passes."""
    checks = [result(name, "model") for name in REQUIRED if name in OF_THE_MODEL]
    checks += [result(name, p) for name in REQUIRED if name not in OF_THE_MODEL for p in ("a", "b")]
    fine = {name: {"verdict": "pass", "reason": "fine"} for name in CONTROLLED}
    return {
        "proteins": {"a": {"gated": True}, "b": {"gated": True}},
        "checks": checks,
        "controls": {"reference": {"a": dict(fine), "b": dict(fine)}, "known_bad": {"a": {}, "b": {}}},
        "temperature": {"gated": True, "md_K": 320.0, "model_K": 320.0},
    }


def change(metrics, name, subject, **changes):
    check = next(c for c in metrics["checks"] if (c["check"], c["subject"]) == (name, subject))
    check.update(changes)


def test_every_required_check_exists():
    assert set(REQUIRED) <= set(CHECKS)
    assert all(check.name == name and check.definition for name, check in CHECKS.items())


def test_nothing_passes_that_lammps_has_not_run(metrics):
    verdict = judge({**metrics, "engine": "jax_md"}, REQUIRED)
    assert verdict["verdict"] == "inconclusive"
    assert "jax_md" in verdict["summary"]
    change(metrics, REQUIRED[0], metrics["checks"][0]["subject"], verdict="fail")
    assert judge({**metrics, "engine": "jax_md"}, REQUIRED)["verdict"] == "fail"


def test_everything_passes(metrics):
    verdict = judge(metrics, REQUIRED)
    assert verdict["verdict"] == "pass"
    assert verdict["summary"] == "All 33 required checks pass."
    assert verdict["reasons"] == []
    assert json.dumps(verdict)
    assert all(check["required"] and check["title"] for check in verdict["checks"])


@pytest.mark.parametrize("name", REQUIRED)
def test_each_required_check_can_fail_the_run(metrics, name):
    subject = "model" if name in OF_THE_MODEL else "b"
    change(metrics, name, subject, verdict="fail", reason="it broke")
    verdict = judge(metrics, REQUIRED)
    assert verdict["verdict"] == "fail"
    assert "it broke" in verdict["summary"]
    assert verdict["reasons"] == [f"{CHECKS[name].title} of {subject}: it broke"]


@pytest.mark.parametrize("name", REQUIRED)
def test_each_required_check_can_leave_the_run_undecided(metrics, name):
    subject = "model" if name in OF_THE_MODEL else "b"
    change(metrics, name, subject, verdict="inconclusive", detail={"needs": {"run_factor": 2.34}})
    verdict = judge(metrics, REQUIRED)
    assert verdict["verdict"] == "inconclusive"
    assert "a run about 2.4 times as long" in verdict["summary"]


def test_summary_takes_words_from_data_and_cuts_no_sentence(metrics):
    change(metrics, "nve.drift", "a", verdict="inconclusive", reason="slow, but steady")
    assert "slow, but steady." in judge(metrics, REQUIRED)["summary"]
    change(metrics, "nve.drift", "a", measured="0.1 kcal/mol/ns", reason="0.1 kcal/mol/ns, but 2 replicas")
    verdict = judge(metrics, REQUIRED)
    assert verdict["summary"].endswith("0.1 kcal/mol/ns.")
    (told,) = verdict["not_passed"]
    assert (told["check"], told["subject"], told["reason"]) == ("nve.drift", "a", "0.1 kcal/mol/ns, but 2 replicas")


@pytest.mark.parametrize("name", REQUIRED)
def test_missing_result_fails(metrics, name):
    metrics["checks"] = [
        c for c in metrics["checks"] if (c["check"], c["subject"]) not in [(name, "a"), (name, "model")]
    ]
    verdict = judge(metrics, REQUIRED)
    assert verdict["verdict"] == "fail"
    assert verdict["missing"] == [{"check": name, "subject": "model" if name in OF_THE_MODEL else "a"}]
    assert "not measured" in verdict["reasons"][0]


@pytest.mark.parametrize("value", [None, float("nan"), "1.0"])
def test_pass_without_a_number_is_no_pass(metrics, value):
    change(metrics, "nve.drift", "a", value=value)
    assert judge(metrics, REQUIRED)["verdict"] == "inconclusive"


def test_fail_beats_inconclusive(metrics):
    change(metrics, "nve.drift", "a", verdict="inconclusive")
    change(metrics, "nvt.temperature", "b", verdict="fail")
    assert judge(metrics, REQUIRED)["verdict"] == "fail"


def test_check_that_is_not_required_does_not_decide(metrics):
    change(metrics, "nve.drift", "a", verdict="fail")
    required = [name for name in REQUIRED if name != "nve.drift"]
    verdict = judge(metrics, required)
    assert verdict["verdict"] == "pass"
    assert not next(c for c in verdict["checks"] if c["check"] == "nve.drift")["required"]


def test_required_check_that_is_only_reported_leaves_it_undecided(metrics):
    metrics["checks"].append(result("forces.error", "model", "reported"))
    assert judge(metrics, [*REQUIRED, "forces.error"])["verdict"] == "inconclusive"


def test_unknown_name_is_a_mistake_of_the_user(metrics):
    with pytest.raises(UserError, match=r"gate.required: unknown check `nve.drfit` \(did you mean `nve.drift`\?\)"):
        judge(metrics, ["nve.drfit"])
    with pytest.raises(UserError, match="known: "):
        judge(metrics, ["xxxxxxxxx"])


@pytest.mark.parametrize("measured", ["pass", "fail"])
@pytest.mark.parametrize("control", ["inconclusive", "fail", None])
def test_reference_that_does_not_pass_takes_the_verdict_back(metrics, measured, control):
    change(metrics, "structure.q", "a", verdict=measured)
    if control is None:
        del metrics["controls"]["reference"]["a"]["structure.q"]
    else:
        metrics["controls"]["reference"]["a"]["structure.q"] = {"verdict": control, "reason": "too short"}
    verdict = judge(metrics, REQUIRED)
    assert verdict["verdict"] == "inconclusive"
    check = next(c for c in verdict["checks"] if (c["check"], c["subject"]) == ("structure.q", "a"))
    assert (check["verdict"], check["measured_verdict"]) == ("inconclusive", measured)
    # Results that were handed in stay as they were.
    assert metrics["checks"][-2]["verdict"] == measured or "measured_verdict" not in metrics["checks"][-2]


def test_missing_data_fails_whatever_the_reference_is_like(metrics):
    change(metrics, "structure.q", "a", verdict="fail", value=None, detail={"incomplete": True})
    metrics["controls"]["reference"]["a"]["structure.q"] = {"verdict": "inconclusive", "reason": "too short"}
    assert judge(metrics, REQUIRED)["verdict"] == "fail"


BLIND = {"able": False, "other_temperature_K": 450.0}


@pytest.mark.parametrize("measured", ["pass", "fail", "inconclusive"])
def test_check_without_power_is_reported_and_does_not_decide(metrics, measured):
    change(metrics, "structure.rmsd", "a", verdict=measured)
    metrics["controls"]["power"] = {"a": {"structure.rmsd": BLIND}}
    verdict = judge(metrics, REQUIRED)
    assert verdict["verdict"] == "pass"
    assert verdict["summary"].startswith("All 32 required checks that can tell pass. Not gated, because it cannot tell")
    assert len(verdict["not_gated"]) == 1
    assert "cannot tell the reference from that at 450 K" in verdict["not_gated"][0]
    assert verdict["reasons"] == []
    change(metrics, "structure.rmsd", "b", verdict="fail")
    assert judge(metrics, REQUIRED)["verdict"] == "fail", "of the other protein it decides"


def test_missing_data_and_a_poor_reference_are_no_lack_of_power(metrics):
    metrics["controls"]["power"] = {"a": {"structure.rmsd": BLIND}}
    metrics["controls"]["reference"]["a"]["structure.rmsd"] = {"verdict": "inconclusive", "reason": "too short"}
    for measured in ("pass", "fail", "inconclusive"):
        change(metrics, "structure.rmsd", "a", verdict=measured)
        assert judge(metrics, REQUIRED)["verdict"] == "inconclusive"
    change(metrics, "structure.rmsd", "a", verdict="fail", value=None, detail={"incomplete": True})
    assert judge(metrics, REQUIRED)["verdict"] == "fail"


def test_nothing_passes_whose_structure_no_check_can_judge(metrics):
    """The mirror check alone, which has no power control, does not stand for the ensemble."""
    compared = [name for name in REQUIRED if name.startswith("structure.") and name != "structure.mirror"]
    metrics["controls"]["power"] = {"a": dict.fromkeys(compared[1:], BLIND)}
    assert judge(metrics, REQUIRED)["verdict"] == "pass"
    metrics["controls"]["power"] = {"a": dict.fromkeys(compared, BLIND)}
    verdict = judge(metrics, REQUIRED)
    assert verdict["verdict"] == "inconclusive"
    assert "nothing was decided about the structure of a" in verdict["summary"]
    change(metrics, "nve.drift", "b", verdict="fail")
    assert judge(metrics, REQUIRED)["verdict"] == "fail"


def test_check_with_nothing_to_compare_in_a_protein_does_not_decide(metrics):
    nothing = {
        "verdict": "inconclusive",
        "value": None,
        "reason": "no dihedral has one sign",
        "detail": {"not_applicable": True},
    }
    change(metrics, "structure.handedness", "a", **nothing)
    metrics["controls"]["reference"]["a"]["structure.handedness"] = {"verdict": "inconclusive", "reason": "none"}
    verdict = judge(metrics, REQUIRED)
    assert verdict["verdict"] == "pass"
    assert "no dihedral has one sign" in verdict["not_gated"][0]


def test_other_temperature_is_not_gated(metrics):
    metrics["temperature"] = {"gated": False, "md_K": 300.0, "model_K": 320.0}
    metrics["proteins"] = {"a": {"gated": False}, "b": {"gated": False}}
    verdict = judge(metrics, REQUIRED)
    assert verdict["verdict"] == "inconclusive"
    assert "300 K" in verdict["summary"]


def test_cautions_are_passed_on_and_do_not_judge(metrics):
    metrics["proteins"]["b"]["untrained_types"] = ["ALA"]
    of_the_model = {"kind": "mixed-temperatures", "text": "Two temperatures.", "detail": {}}
    verdict = judge(metrics, REQUIRED, [of_the_model])
    assert verdict["verdict"] == "pass"
    assert [caution["kind"] for caution in verdict["cautions"]] == ["mixed-temperatures", "untrained-protein"]
    assert "b has residues without training (ALA)" in verdict["cautions"][1]["text"]
    assert judge({}, REQUIRED)["cautions"] == []


def test_a_gate_with_fewer_checks_than_usual_says_so(metrics):
    metrics["checks"] = [check for check in metrics["checks"] if check["check"] == "parity.forces"]
    verdict = judge(metrics, ["parity.forces"])
    assert verdict["verdict"] == "pass"
    assert verdict["summary"] == "The one required check passes."
    (caution,) = verdict["cautions"]
    assert caution["detail"]["checks"] == [name for name in REQUIRED if name != "parity.forces"]
    assert judge(metrics, [*REQUIRED, "forces.error"])["cautions"] == []


@pytest.mark.parametrize(
    ("frames", "told"),
    [
        ({"train": 100, "validation": 0, "test": 0, "unused": 5}, True),
        ({"train": 100, "validation": 0, "test": 20}, False),
        ({"train": 0, "validation": 30, "test": 0}, False),
    ],
)
def test_a_protein_without_held_out_frames_is_told(metrics, frames, told):
    metrics["proteins"]["a"]["reference"] = {"splits": frames}
    verdict = judge(metrics, REQUIRED)
    assert [caution["detail"]["protein"] for caution in verdict["cautions"]] == ["a"] * told
    assert verdict["verdict"] == "pass"
    assert all("no held-out frames" in caution["text"] for caution in verdict["cautions"])


@pytest.mark.parametrize("empty", [{}, {"checks": [], "proteins": {}}, {"checks": None, "controls": None}])
def test_nothing_measured_fails(empty):
    verdict = judge(empty, REQUIRED)
    assert verdict["verdict"] == "fail"
    assert len(verdict["missing"]) == len(REQUIRED)


def test_run_that_stopped_at_parity_fails_and_says_why(tmp_path):
    file = tmp_path / "parity.json"
    file.write_text(json.dumps({"force": {"value": 1e-2, "limit": 1e-4}, "energy": {"value": 1e-9, "limit": 1e-5},
                                "verdict": "fail"}))  # fmt: skip
    verdict = judge(parity_metrics(file), REQUIRED)
    assert verdict["verdict"] == "fail"
    assert "no MD was run" in verdict["summary"]
    assert "forces in LAMMPS against JAX" in verdict["summary"]
    with pytest.raises(UserError, match="cannot be read"):
        parity_metrics(tmp_path / "none.json")


def test_what_decides_in_words():
    assert what_decides([{"run_factor": 1.02}]) == "a run about 1.1 times as long"
    assert what_decides([{"run_factor": 3.01}, {"run_factor": 2.0}]) == "a run about 3.1 times as long"
    assert what_decides([{"run_factor": None}]).startswith("a run more than 100 times as long")
    assert what_decides([{"replicas": 3}, {"longer_reference": True}]) == "at least 3 replicas and a longer reference"
    assert what_decides([{}]) == ""


def test_gate_is_light():
    """It runs in the process of the loop, where pymbar must not switch JAX to float64."""
    script = (
        "import sys, cgloop.validate.gate;"
        "print([m for m in ('jax', 'pymbar', 'MDAnalysis', 'lammps') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
