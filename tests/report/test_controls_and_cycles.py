"""Controls, cycles, ablation and the plots that checks bring along."""

import json

import pytest

from cgloop.report import check_figures, controls_section, cycles_section
from cgloop.report.gather import read_run_files
from cgloop.report.page import MAX_FIGURE_BYTES, write_report
from cgloop.report.rows import Gauge, check_rows
from cgloop.report.summary import headline
from tests.report import builders
from tests.report.soundness import require_sound
from tests.report.test_page import page_of


@pytest.fixture(scope="module")
def cycle(passing_run):
    return read_run_files(passing_run).latest


def test_known_bad_trajectories_that_were_let_pass_come_first(cycle):
    section = controls_section.make(cycle)
    known_bad, alone = section.tables
    assert [row[0] for row in known_bad.rows] == ["The mirror image", "10 % too hot", "Nothing moves"]
    assert known_bad.verdicts == ["fail", "inconclusive", "pass"]
    assert "1 of 3 were caught" in known_bad.caption
    assert alone.rows == [
        ["Fraction of native contacts of cln025", "0.44 ± 0.10", "fail", "0.31 ± 0.10", "pass", "≤ 0.1"]
    ]
    reference, power = section.lists
    assert reference.rows == [("pass", "CA-RMSD to native of cln025", "0.17 ± 0.18")]
    assert power.rows == [
        ("reported", "Fraction of native contacts of cln025", "cannot tell the reference from that at 450 K")
    ]


def test_every_kind_of_plot_is_drawn_with_the_numbers_that_a_check_brought(cycle):
    found = check_figures.check_figures(cycle, check_rows(cycle))["cln025"]
    figures = {row.name: figures for row, figures in found}
    plots = builders.check_plots()
    assert set(figures) == set(plots)
    for one in (one for group in figures.values() for one in group):
        require_sound(one)
    (lines,) = figures["structure.rg"]
    assert lines.data[0]["y"] == pytest.approx(list(plots["structure.rg"].curves[0].y), abs=1e-4)
    assert [one["role"] for one in lines.data] == ["model", "reference", "control"]
    assert [one["value"] for one in lines.layout["levels"]] == [0.5]
    assert figures["structure.rmsd"][0].layout["y"]["label"] == "density, 1/Å"
    (bars,) = figures["nvt.temperature"]
    assert bars.layout["x"]["names"] == ["GLY", "PRO", "TYR"]
    model, reference, difference = figures["structure.q"]
    assert model.data[0]["ends"] == reference.data[0]["ends"]
    assert model.data[0]["z"][0][0] is None
    assert {v for row in difference.data[0]["z"] for v in row} == {0.0, None}


@pytest.mark.parametrize("kind", ["", "spiral"])
def test_a_plot_of_an_unknown_kind_or_without_curves_is_left_out(kind, tmp_path):
    run = builders.write_run(tmp_path / "r", "pass")
    path = run / "cycle_000" / "validate" / "plots.json"
    plots = json.loads(path.read_text())
    plots["checks"] = {"structure.rg": {"cln025": {"kind": kind, "curves": [{"x": [1], "y": [2]}]}},
                       "structure.q": {"cln025": {"kind": "lines"}}}  # fmt: skip
    builders.write_json(path, plots)
    assert page_of(run).problems == []


def row(cycle: int, **more):
    empty = {"remedies": [], "tried": None, "undone": [], "start": None, "compared": None, "force_rise": None}
    return {"cycle": cycle, "decoys": {"used": 0, "found": 0}, **empty, **more}


CYCLES = [
    row(0, decoys={"used": 0, "found": 12}),
    row(1, remedies=["stronger-repulsion"], tried="stronger-repulsion", start=0, decoys={"used": 12, "found": 3},
        force_rise={"value": 0.12, "error": 0.05, "against": 0},
        compared={"with": 0, "result": "worse", "why": "survival 50% → 40%"}),
    row(2, undone=[{"what": "stronger-repulsion", "cycle": 1, "reason": "no better"}], start=0,
        compared={"with": 0, "result": "better", "why": "survival 50% → 90%"}),
]  # fmt: skip


def test_remedies_what_was_undone_decoys_and_outbox_are_told(tmp_path):
    run = builders.write_run(tmp_path / "r", "fail", "fail", "pass")
    builders.write_json(run / "cycles.json", {"ended": "a cycle passed", "cycles": CYCLES})
    feedback = run / "cycle_000" / "feedback"
    builders.write_json(feedback / "feedback.json", {"crashes": [], "decoys": 12, "classes": {"clash": 3}})
    builders.write_json(feedback / "outbox" / "index.json", {"candidates": [{}, {}]})
    section = cycles_section.make(read_run_files(run))
    changes, learned = section.tables
    assert changes.verdicts == ["none", "fail", "pass"]
    assert changes.rows[1][1:4] == ["stronger-repulsion", "–", "–"]
    assert changes.rows[1][4] == "rose by 0.120 ± 0.050 against cycle 0"
    assert changes.rows[1][5] == "worse than cycle 0: survival 50% → 40%"
    assert changes.rows[2][3] == "stronger-repulsion of cycle 1 (no better)"
    assert learned.rows == [["0", "new parameters", "3 × clash", "12", "0", "2"]]
    for one in section.figures:
        require_sound(one)
    survival = next(one for one in section.figures if one.id == "cycles-survival")
    assert survival.data[0]["y"] == [100.0, 100.0, 100.0]
    assert "The loop ended because a cycle passed." in page_of(run).text


def test_plots_of_old_cycles_are_left_out_where_there_is_no_room(tmp_path, monkeypatch):
    run = builders.write_run(tmp_path / "r", "fail", "pass")
    whole = write_report(run).stat().st_size
    assert "were left out" not in page_of(run).text
    monkeypatch.setattr("cgloop.report.page.MAX_FIGURE_BYTES", 220_000)
    assert write_report(run).stat().st_size < whole - 50_000
    assert page_of(run).text.count("plots of this cycle were left out") == 1
    assert MAX_FIGURE_BYTES > 2 * 2_000_000  # two cycles as large as they can be


def test_an_ablation_is_on_the_pages_of_the_run_and_of_its_parts(tmp_path):
    arm = {"verdict": "fail", "survival": 0.4, "crashes": {"clash": 2}, "force": {"rmse": 9.1234}, "convergence": None,
           "drift": {}, "structure": {"structure.q": {"a": {"value": 0.4, "error": 0.1}}}}  # fmt: skip
    trained = {"initial_loss": 100.0, "best_loss": 80.0, "epochs": 3}
    root = tmp_path / "demo-ablation"
    builders.write_json(
        root / "ablation.json",
        {"arms": {"prior-only": arm, "hybrid": {**arm, "verdict": "pass", "survival": 1.0, "convergence": trained}}},
    )
    for run in (tmp_path / "demo", root / "hybrid"):
        words = page_of(builders.write_run(run, "pass")).text
        assert "prior and network pass 100 → 80, 3 epochs 9.123 100 % not measured not measured 0.40 ± 0.10" in words
        assert "2 × clash" in words
    assert "Ablation" not in page_of(builders.write_run(tmp_path / "other", "pass")).text


def test_alike_bars_are_points_and_many_curves_of_a_role_are_named_once(tmp_path):
    run = builders.write_run(tmp_path / "r", "pass")
    path = run / "cycle_000" / "validate" / "plots.json"
    plots = json.loads(path.read_text())
    types = {"name": "model", "role": "model", "x": [0, 1], "y": [318.0, 323.0], "error": [2.0, 3.0]}
    point = {"name": "set point", "role": "reference", "x": [0, 1], "y": [320.0, 320.0]}
    replicas = [{"name": f"replica {k}", "role": "model", "x": [1, 2], "y": [k, k + 1]} for k in range(4)]
    plots["checks"] = {
        "structure.rg": {"cln025": {"kind": "bars", "ticks": ["GLY", "PRO"], "curves": [types, point]}},
        "structure.q": {"cln025": {"kind": "points", "curves": replicas}},
    }
    builders.write_json(path, plots)
    cycle = read_run_files(run).latest
    found = {row.name: figures for row, figures in check_figures.check_figures(cycle, check_rows(cycle))["cln025"]}
    (alike,), (many,) = found["structure.rg"], found["structure.q"]
    for one in (alike, many):
        require_sound(one)
    assert [mark["mark"] for mark in alike.data] == ["points", "line"]
    assert [mark["name"] for mark in many.data if mark.get("legend", True)] == ["model"]
    assert [mark["y"] for mark in many.data[1:]] == [[0, 1], [1, 2], [2, 3], [3, 4]]


def changed(run, name: str, **changes) -> None:
    path = run / "cycle_000" / name
    builders.write_json(path, {**json.loads(path.read_text()), **changes})


def test_extensions_optional_fails_blind_spots_and_sources_are_told(tmp_path):
    run = builders.write_run(tmp_path / "r", "inconclusive")
    verdict = json.loads((run / "cycle_000" / "verdict.json").read_text())
    optional = {"required": False, "optional": True, "verdict": "fail"}
    checks = [{**one, **optional} if one["check"] == "structure.rg" else one for one in verdict["checks"]]
    step = {"lengths": [500.0, 100.0], "because": ["structure.q", "nve.drift"]}
    blind = {"structure.q": "Blind to handedness."}
    changed(run, "verdict.json", checks=checks, extensions=[step], power_notes=blind)
    modes = {"full": {"rmse": 9.876}, "prior-only": {"rmse": 10.5}}
    source = {"frames": 20, "modes": modes, "training": {"frames": 300, "weight": 0.25}}
    changed(run, "train/forces.json", per_source={"unfolded": source})
    words = page_of(run).text
    assert "Of 9 required checks 5 pass and 4 cannot be decided. Besides, 1 optional check fails." in words
    assert (
        "The dynamics went on once: to NVT 500 ps and NVE 100 ps a replica, to decide fraction of native contacts and "
        "energy drift in NVE." in words.replace("\u00a0", " ")
    )
    assert words.count("Blind to handedness.") == 2
    assert "unfolded 300 0.25 20 9.88 10.50" in words


def test_bars_with_long_names_lie_on_their_side(tmp_path):
    run = builders.write_run(tmp_path / "r", "pass")
    path = run / "cycle_000" / "validate" / "plots.json"
    plots = json.loads(path.read_text())
    names = ["TYR1 TYR2 ASP3", "PRO4 GLU5 THR6"]
    curves = [{"name": "model", "role": "model", "x": [0, 1], "y": [0.25, 0.5]},
              {"name": "limit", "role": "limit", "x": [0, 1], "y": [0.9, 0.9]}]  # fmt: skip
    bars = {"kind": "bars", "x_label": "angle", "y_label": "fraction", "ticks": names, "curves": curves}
    plots["checks"] = {"structure.rg": {"cln025": bars}}
    builders.write_json(path, plots)
    cycle = read_run_files(run).latest
    ((_, (figure,)),) = check_figures.check_figures(cycle, check_rows(cycle))["cln025"]
    require_sound(figure)
    assert (figure.data[0]["x"], figure.data[0]["y"]) == ([0.25, 0.5], names)
    assert figure.layout["levels"][0]["axis"] == "x"


@pytest.mark.parametrize(
    ("value", "error", "limit", "direction", "expected"),
    [
        (0.5, 0.25, 1.0, "at most", Gauge(25.0, 12.5, 37.5, False, 0.0)),
        (-0.5, 0.25, 1.0, "at most", Gauge(25.0, 12.5, 37.5, False, 0.0)),
        (1.0, 0.0, 1.0, "at least", Gauge(50.0, 50.0, 50.0, False, 50.0)),
        (7.0, None, 1.0, "at most", Gauge(100.0, 100.0, 100.0, True, 0.0)),
        (1.0, float("nan"), 1.0, "at most", Gauge(50.0, 0.0, 100.0, False, 0.0)),
        (None, 0.0, 1.0, "at most", None),
        (float("nan"), 0.0, 1.0, "at most", None),
        (1.0, 0.0, 0.0, "at most", None),
        (1.0, 0.0, 1.0, "reported", None),
    ],
)
def test_gauges(value, error, limit, direction, expected):
    assert Gauge.of(value, error, limit, direction) == expected


def test_reasons_come_from_data_and_what_is_alike_is_said_once(tmp_path):
    """A reason may hold the very words that a sentence is put together with."""
    run = builders.write_run(tmp_path / "r", "fail")
    advice = {"what_decides": "a longer reference", "needs": {"longer_reference": True}}
    odd = "wide (what would decide: nothing), but true"
    open_ = [
        {"check": name, "title": title, "subject": "x", "verdict": "inconclusive", "reason": odd, **advice}
        for name, title in (("structure.q", "Q"), ("structure.rg", "Rg"))
    ]
    gone = {"check": "nve.drift", "title": "energy drift", "subject": "x", "verdict": "fail", "reason": "not measured",
            "needs": {}, "what_decides": ""}  # fmt: skip
    changed(run, "verdict.json", not_passed=[*open_, gone], reasons=["parsed by nobody"] * 3)
    found = headline(read_run_files(run), read_run_files(run).latest, [])["reasons"]
    assert found == [
        {"about": "energy drift of x", "text": "not measured.", "advice": "", "verdict": "fail"},
        {
            "about": "Q and Rg of x",
            "text": f"{odd}.",
            "advice": "What would decide: a longer reference.",
            "verdict": "inconclusive",
        },
    ]


def test_a_verdict_of_an_older_version_has_sentences(tmp_path):
    run = builders.write_run(tmp_path / "r", "fail")
    path = run / "cycle_000" / "verdict.json"
    verdict = json.loads(path.read_text())
    del verdict["not_passed"]
    builders.write_json(path, {**verdict, "reasons": ["Q of x: too small"]})
    (found,) = headline(read_run_files(run), read_run_files(run).latest, [])["reasons"]
    assert (found["about"], found["verdict"]) == ("Q of x: too small", "fail")
