"""Remedies and the decisions between cycles."""

import json

import pytest

from cgloop.config.root import Config
from cgloop.feedback.plan import Plan, compare, plan_next, read_plan, same_model, why_to_stop, write_plan
from cgloop.feedback.remedies import AGAINST, NO_CRASH, NOTHING_AGAINST, REMEDIES, changed, choose
from cgloop.feedback.taxonomy import CrashClass

ALL = list(REMEDIES)


def config_of(energy="hybrid", allow=ALL, cycles=5, **feedback):
    return Config.model_validate(
        {
            "run": {"name": "x"},
            "cycles": cycles,
            "data": {
                "sources": [{"path": "/x.h5"}], "temperature_K": 300,
                "split": {"by": "replica", "train": [0], "validation": [1], "test": [2]},
            },
            "model": {"preset": "nano", "energy": energy},
            "feedback": {"allow": allow, **feedback},
        }
    )  # fmt: skip


def row(
    cycle,
    survival,
    failed=3,
    crashes=None,
    rise=None,
    used=0,
    base=None,
    rows=(),
    verdict="fail",
    comparable=True,
    wrong_structure=False,
):
    one = {
        "cycle": cycle, "verdict": verdict, "survival": survival, "failed": failed, "undecided": 0,
        "crashes": {"clash": 2} if crashes is None else crashes, "decoys": {"used": used, "found": 4},
        "force_rise": None, "compared": None, "wrong_structure": wrong_structure,
    }  # fmt: skip
    if rise is not None:
        one["force_rise"] = {"value": rise[0], "error": rise[1], "against": base, "comparable": comparable}
    if base is not None:
        result, why = compare(one, rows[base], 0.02)
        one["compared"] = {"with": base, "result": result, "why": why}
    return one


def history(config, *outcomes):
    """Plans and rows of cycles with these survivals (or keywords of `row`), one after the other."""
    plans, rows = [Plan(0)], []
    for outcome in outcomes:
        given = outcome if isinstance(outcome, dict) else {"survival": outcome}
        used = len(plans[-1].decoys)
        rows.append(row(plans[-1].cycle, used=used, base=plans[-1].base, rows=rows, **given))
        plans.append(plan_next(config, plans, rows))
    return plans, rows


@pytest.mark.parametrize("kind", [*CrashClass, NO_CRASH])
def test_every_class_has_a_remedy_or_a_reason(kind):
    assert (kind in AGAINST) != (kind in NOTHING_AGAINST)
    config = config_of()
    choice = choose(config, {} if kind == NO_CRASH else {kind: 1}, frozenset())
    if kind in AGAINST:
        assert choice.remedy in AGAINST[kind]
        assert changed(config, choice.changes) != config
        assert choice.reason.startswith("against")
    else:
        assert choice.remedy is None
        assert NOTHING_AGAINST[kind] in choice.reason


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("energy", ["hybrid", "ml-only", "prior-only"])
def test_a_remedy_changes_the_config_until_its_bound(name, energy):
    config = config_of(energy)
    for _ in range(40):
        changes = REMEDIES[name].change(config)
        if isinstance(changes, str):
            assert len(changes) > 10
            return
        new = changed(config, changes)
        assert new != config
        config = new
    # Only what is bounded by the time people have goes on for ever.
    assert name in ("longer-training", "lower-learning-rate")


def test_the_commonest_class_is_treated_first():
    config = config_of()
    assert choose(config, {"clash": 1, "broken bond": 3}, frozenset()).remedy == "bound-network"
    assert choose(config, {"clash": 3, "broken bond": 1}, frozenset()).remedy == "stronger-repulsion"
    assert choose(config, {"engine failure": 9, "clash": 1}, frozenset()).remedy == "stronger-repulsion"


def test_only_what_is_allowed():
    plans, _ = history(config_of(allow=[]), 0.1)
    assert plans[1].tried is None
    assert plans[1].changes == {}
    assert "not in `feedback.allow`" in plans[1].reason
    plans, _ = history(config_of(allow=["longer-training"]), 0.1)
    assert plans[1].changes == {"train.epochs": 2 * config_of().train.epochs}


def test_a_remedy_that_helped_stays_and_the_next_is_added():
    plans, _ = history(config_of(), 0.1, 0.5)
    assert plans[1].tried == "stronger-repulsion"
    assert plans[2].base == 1
    assert [one["remedy"] for one in plans[2].active] == ["stronger-repulsion", "stronger-repulsion"]
    assert plans[2].changes == {"priors.repulsion_epsilon_kT": 16.0}
    assert plans[2].undone == []


@pytest.mark.parametrize("after", [0.1, 0.11, 0.0, float("nan")])
def test_a_remedy_that_did_not_help_is_undone_and_not_tried_again(after):
    plans, _ = history(config_of(allow=["stronger-repulsion", "longer-training"]), 0.1, after)
    assert plans[2].base == 0
    assert plans[2].start == 0
    assert [entry["what"] for entry in plans[2].undone] == ["stronger-repulsion"]
    assert plans[2].tried == "longer-training"
    assert plans[2].changes.keys() == {"train.epochs"}
    assert plans[2].rejected == ["stronger-repulsion"]


def test_another_model_starts_anew():
    plans, _ = history(config_of("ml-only"), 0.0)
    assert plans[1].tried == "add-prior"
    assert plans[1].start is None
    assert "the model is another" in plans[1].start_reason
    # From there it goes on; decoys are used when there is an error without them to compare with.
    assert plans[1].decoys == []
    assert "the model is another" in plans[1].decoys_wait
    plans, _ = history(config_of("ml-only", allow=["add-prior", "longer-training"]), 0.0, 0.9)
    assert plans[2].start == 1
    assert plans[2].decoys == [0, 1]
    assert plans[2].decoys_wait == ""
    plans, _ = history(config_of("ml-only", allow=[]), 0.0)
    assert plans[1].decoys == []
    plans, _ = history(config_of(start="anew"), 0.0)
    assert plans[1].start is None


@pytest.mark.parametrize(("rise", "dropped"), [((0.3, 0.1), True), ((0.05, 0.1), False), ((-0.3, 0.1), False)])
def test_decoys_are_dropped_when_the_force_error_rises_beyond_its_error(rise, dropped):
    config = config_of(allow=["longer-training"])
    plans, _ = history(config, 0.1, {"survival": 0.9, "rise": rise}, 0.95)
    assert (plans[2].decoys == []) == dropped
    assert (plans[3].decoys == []) == dropped
    assert bool(plans[2].decoys_dropped) == dropped
    # The remedy helped and stays; the parameters that decoys trained do not.
    assert plans[2].active[0]["remedy"] == "longer-training"
    assert plans[2].start == (0 if dropped else 1)
    assert any("rose by" in entry["reason"] for entry in plans[2].undone) == dropped


def test_another_model_says_nothing_about_decoys():
    config = config_of(allow=["longer-training"])
    plans, _ = history(config, 0.1, {"survival": 0.9, "rise": (0.3, 0.1), "comparable": False})
    assert plans[2].decoys == [0, 1]
    config = config_of("ml-only", allow=["add-prior", "longer-training"])
    plans, _ = history(config, 0.0, 0.9)
    assert not same_model(config, plans[1], plans[0])
    assert same_model(config, plans[2], plans[1])


def test_compare_is_by_survival_then_by_checks():
    assert compare(row(1, 0.5), row(0, 0.4), 0.02)[0] == "better"
    assert compare(row(1, 0.41), row(0, 0.4), 0.02)[0] == "same"
    assert compare(row(1, 0.41, failed=2), row(0, 0.4), 0.02)[0] == "better"
    assert compare(row(1, 0.3, failed=0), row(0, 0.4), 0.02)[0] == "worse"
    better = {**row(1, 0.4), "undecided": 0}
    assert compare(better, {**row(0, 0.4), "undecided": 2}, 0.02)[0] == "better"


def test_the_loop_ends_and_says_why():
    config = config_of(cycles=6, patience=2)
    _, rows = history(config, 0.1, 0.5, 0.5)
    assert why_to_stop(config, rows) == ""
    _, rows = history(config, 0.1, 0.5, 0.5, 0.5)
    assert "nothing improved in the last 2 cycles" in why_to_stop(config, rows)
    _, rows = history(config, 0.1, {"survival": 1.0, "failed": 0, "verdict": "pass"})
    assert why_to_stop(config, rows) == "cycle 1 passed"
    _, rows = history(config_of(cycles=2), 0.1, 0.2)
    assert why_to_stop(config_of(cycles=2), rows) == "the limit of 2 cycles was reached"


def test_decisions_are_those_of_the_files(tmp_path):
    """However often it is asked, and from what was written in between."""
    config = config_of()
    plans, rows = history(config, 0.1, 0.05, 0.5)
    for plan in plans:
        (tmp_path / str(plan.cycle)).mkdir()
        write_plan(tmp_path / str(plan.cycle), plan)
    read = [read_plan(tmp_path / str(plan.cycle), plan.cycle) for plan in plans]
    assert read == plans
    assert plan_next(config, read[:3], json.loads(json.dumps(rows))) == plans[3]
    assert read_plan(tmp_path / "none", 2) == Plan(2, base=1, start=1)


def test_a_wrong_structure_without_a_crash_is_answered_with_a_refinement_first():
    allowed = config_of(allow=["refine", "longer-training", "stronger-regularisation"])
    choice = choose(allowed, {}, frozenset(), wrong_structure=True)
    assert (choice.remedy, choice.changes) == ("refine", {"refine.when": "always"})
    assert choice.reason.startswith("against wrong structure without a crash")
    assert choose(allowed, {}, frozenset(), wrong_structure=True, too_little_data=True).remedy == "refine"
    # Then what there is against any cycle that falls short.
    assert choose(allowed, {}, frozenset({"refine"}), wrong_structure=True).remedy == "longer-training"
    both = choose(allowed, {}, frozenset({"refine"}), wrong_structure=True, too_little_data=True)
    assert both.remedy == "stronger-regularisation"
    # Not against crashes, nor where structure was right or not decided.
    assert choose(allowed, {"clash": 1}, frozenset(), wrong_structure=True).remedy == "stronger-regularisation"
    assert choose(allowed, {}, frozenset()).remedy == "longer-training"


@pytest.mark.parametrize(("when", "why"), [("never", "`refine.when: never`"), ("always", "refined already")])
def test_a_refinement_is_no_remedy_where_it_is_forbidden_or_done(when, why):
    config = changed(config_of(allow=["refine"]), {"refine.when": when})
    choice = choose(config, {}, frozenset(), wrong_structure=True)
    assert choice.remedy is None
    assert why in choice.reason


def test_a_refinement_takes_the_training_of_the_failed_cycle_and_is_undone_if_it_does_not_help():
    config = config_of(allow=["refine", "longer-training"])
    wrong = {"survival": 1.0, "crashes": {}, "wrong_structure": True}
    plans, _ = history(config, {**wrong, "failed": 3}, {**wrong, "failed": 3}, {**wrong, "failed": 2})
    tried = plans[1]
    assert (tried.tried, tried.training, tried.start, tried.decoys) == ("refine", 0, 0, [])
    assert tried.apply(config).refine.when == "always"
    after = plans[2]
    assert after.undone[0]["what"] == "refine"
    assert (after.base, after.training, after.start) == (0, None, 0)
    assert after.apply(config).refine.when == "remedy"
    assert after.tried == "longer-training"

    kept, _ = history(config, {**wrong, "failed": 3}, {**wrong, "failed": 1})
    assert kept[2].undone == []
    assert (kept[2].base, kept[2].training, kept[2].start) == (1, None, 1)
    assert kept[2].apply(config).refine.when == "always"


def test_too_little_data_is_answered_with_what_needs_less_and_points_to_data():
    """A longer training, first against anything else that fell short, would only fit the same frames further."""
    allowed = config_of(allow=["longer-training", "stronger-regularisation"])
    assert choose(allowed, {}, frozenset()).remedy == "longer-training"
    assert choose(allowed, {}, frozenset(), too_little_data=True).remedy == "stronger-regularisation"
    none = choose(allowed, {}, frozenset({"stronger-regularisation"}), too_little_data=True)
    assert none.remedy is None
    assert "add reference frames" in none.reason
    crashed = choose(allowed, {"clash": 1}, frozenset({"stronger-regularisation"}), too_little_data=True)
    assert crashed.remedy == "longer-training"
