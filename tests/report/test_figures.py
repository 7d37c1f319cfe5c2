"""Figures: sound, and drawing the numbers that are in the files."""

import numpy as np
import pytest
from scipy import stats

from cgloop.report import md_figures, training_figures
from cgloop.report.gather import read_run_files
from cgloop.report.rows import check_rows, seconds, short, with_error
from cgloop.report.sections import sections
from tests.report.soundness import require_sound


@pytest.fixture(scope="module")
def cycle(passing_run):
    return read_run_files(passing_run).latest


@pytest.mark.parametrize("run", ["passing_run", "crashed_run"])
def test_every_figure_is_sound(run, request):
    cycle = read_run_files(request.getfixturevalue(run)).latest
    figures = [figure for part in sections(cycle, check_rows(cycle)) for figure in part.figures]
    assert len({figure.id for figure in figures}) == len(figures) > 15
    for figure in figures:
        require_sound(figure)


def test_curves_are_those_of_the_history(cycle):
    figures = {figure.id: figure for figure in training_figures.training(cycle)}
    columns = cycle.read("train/history.json")["columns"]
    traces = {trace["name"]: trace for trace in figures["train-loss"].data}
    assert traces["validation"]["y"] == columns["validation_loss"]
    assert (traces["kept: epoch 46"]["x"], traces["kept: epoch 46"]["y"]) == ([46], [columns["validation_loss"][45]])
    assert [one["value"] for one in figures["train-rmse"].layout["levels"]] == [23.54, 24.97]


def test_exact_temperature_distribution_is_scipys():
    x = np.linspace(100, 700, 50)
    expected = stats.gamma.pdf(x, 15, scale=2 * 320 / 30)
    np.testing.assert_allclose(md_figures._gamma(x, 320, 30), expected, rtol=1e-10)


def test_exact_distribution_has_the_degrees_of_freedom_of_the_run():
    """Under CSVR 3N − 3, whatever the number of beads says."""
    replica = {"replica": 0, "time_ps": [0.1, 0.2], "temperature_K": [310.0, 330.0]}
    plots = {"temperature": {"target_K": 320.0, "degrees_of_freedom": 27, "replicas": [replica]}}
    figure = md_figures.temperature("p", plots, 10, [])[1]
    exact = next(trace for trace in figure.data if trace["name"] == "exact")
    expected = stats.gamma.pdf(np.array(exact["x"]), 13.5, scale=2 * 320 / 27)
    np.testing.assert_allclose(exact["y"], expected, rtol=1e-3)
    assert "27 degrees of freedom" in figure.caption


def test_band_holds_ninety_per_cent():
    grid = np.linspace(-5, 5, 2001)
    low, middle, high = md_figures.quantiles(grid, stats.norm.pdf(grid), (0.05, 0.5, 0.95))
    assert (low, middle, high) == pytest.approx((-1.645, 0.0, 1.645), abs=2e-3)
    assert md_figures.quantiles([], [], (0.5,)) == []


def test_running_mean_of_a_constant_and_of_gaps():
    assert md_figures.running_mean([2.0] * 100) == [2.0] * 100
    assert md_figures.running_mean([None] * 50) == [None] * 50
    assert md_figures.running_mean([1.0, None, 1.0] * 30) == [1.0] * 90


def test_survival_shows_where_replicas_broke(crashed_run):
    figure = md_figures.survival(read_run_files(crashed_run).latest, ["cln025"])[0]
    bars, crosses = figure.data
    assert dict(zip(bars["y"], bars["x"], strict=True))["NVT 0"] == pytest.approx(32.0)
    assert crosses["y"] == ["NVT 0", "NVT 2", "NVE 0", "NVE 2"]


def test_series_of_broken_replicas_end_with_a_cross(cycle):
    replicas = [
        {"replica": 0, "time_ps": [1.0, 2.0], "rmsd": [1.0, 1.5]}, {"replica": 3, "time_ps": [1.0], "rmsd": [0.9]}
    ]  # fmt: skip
    figure = md_figures.structure("p", {"rmsd": {"replicas": replicas}}, "rmsd", {3})[0]
    assert [(trace["x"], trace["y"]) for trace in figure.data if trace["mark"] == "points"] == [([1.0], [0.9])]


def test_histograms_keep_their_area_when_bins_are_joined():
    grid, density = np.linspace(0.5, 9.5, 10), np.array([0, 1, 2, 3, 4, 4, 3, 2, 1, 0]) / 20
    x, y = md_figures.coarser(grid, density)
    assert np.sum(y) * (x[1] - x[0]) == pytest.approx(np.sum(density))
    assert (x[0], y[0], y[-1]) == (-1.0, 0.0, 0.0)


def test_pairs_that_do_not_count_are_left_out_of_the_contact_map(cycle):
    figure = md_figures.contacts("cln025", cycle.plots["proteins"]["cln025"], "YYDPETGTWY", 4)[0]
    z = figure.data[0]["z"]
    assert z[3][4] is None
    assert z[0][9] == pytest.approx(0.95)
    assert z[0][4] == 0.0


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1"), (0.02, "0.02"), (4.476e-7, "4.48 × 10⁻⁷"), (-0.1234, "−0.123"), (1234.5, "1,234"), (0.0, "0"),
     (0.0499, "0.0499"), (320.0, "320"), (1e-4, "0.0001"), (2.5e9, "2.5 × 10⁹")],
)  # fmt: skip
def test_short_numbers(value, text):
    assert short(value) == text


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [(0.3421, 0.0512, "0.342 ± 0.051"), (-3.0, 12.0, "−3 ± 12"), (None, 0.0, "not measured"), (1.0, None, "1 ± ?"),
     (5.0, 0, "5"), (float("nan"), 1.0, "not measured"), (3e-7, 1e-7, "3 × 10⁻⁷ ± 1 × 10⁻⁷")],
)  # fmt: skip
def test_numbers_with_errors(value, error, text):
    assert with_error(value, error) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.04, "0.0 s"), (9.97, "10 s"), (37.2, "37 s"), (59.7, "1 min 00 s"), (7500, "2 h 05 min")]
)
def test_times(value, text):
    assert seconds(value) == text
