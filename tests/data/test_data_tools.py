"""`cgloop data`: info, check, convert, plot."""

import json
import re
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest
from test_dataset import random_protein, write_dataset
from typer.testing import CliRunner

from cgloop.cli_data import app
from cgloop.config.data import DataConfig
from cgloop.data.dataset import DatasetReader, write_manifest
from cgloop.data.inspect import check, describe, find_dataset
from cgloop.data.plots import write_plots
from cgloop.data.statistics import Moments, gather
from cgloop.errors import UserError
from cgloop.prep.pipeline import prepare
from tests.report.soundness import embedded

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
SPLIT = {"by": "replica", "train": [0, 1], "validation": [2], "test": [3]}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, example_h5):
    out = tmp_path_factory.mktemp("prepared")
    config = DataConfig(sources=[{"path": example_h5}], temperature_K=320, projection="optimal", split=SPLIT)
    prepare(config, out)
    return out


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_data_set_is_found_by_itself_and_in_a_run(tmp_path, prepared):
    assert find_dataset(prepared) == prepared
    for cycle in ("cycle_000", "cycle_001"):
        (tmp_path / cycle).mkdir()
        (tmp_path / cycle / "prep").symlink_to(prepared)
    assert find_dataset(tmp_path) == tmp_path / "cycle_001" / "prep"
    with pytest.raises(UserError, match="no data set here"):
        find_dataset(tmp_path / "cycle_000")


def test_info_tells_what_the_frames_say(prepared):
    facts = describe(prepared)
    protein = DatasetReader.open(prepared).load("cln025")
    found = facts["proteins"]["cln025"]
    bonds = np.linalg.norm(np.diff(protein.positions.astype(float), axis=1), axis=2)
    assert found["bond"]["mean"] == pytest.approx(bonds.mean())
    assert found["bond"]["deviation"] == pytest.approx(bonds.std())
    assert found["rms_force"] == pytest.approx(np.sqrt((protein.forces.astype(float) ** 2).mean()))
    assert found["frames_per_split"] == {"train": 1000, "validation": 500, "test": 500, "unused": 0}
    assert 0.3 < found["explainable"] < 0.7
    assert facts["residues"]["TYR"]["beads"] == 3
    tyrosines = [i for i, letter in enumerate(protein.sequence) if letter == "Y"]
    expected = np.sqrt((protein.forces[:, tyrosines].astype(float) ** 2).mean())
    assert facts["residues"]["TYR"]["rms_force"] == pytest.approx(expected)
    shown = run("info", prepared)
    assert shown.exit_code == 0
    assert "1 proteins, 2000 frames" in shown.stdout
    assert re.search(r"cln025 +10 +2000 +5\.\d\d ± 0\.\d\d +3\.87", shown.stdout)
    assert "frames per part: train 1000 of 1 proteins, validation 500 of 1 proteins" in shown.stdout
    squares = found["mean_squared_force"]
    held_out = protein.forces[protein.split != 0].astype(float)
    assert squares["optimal"]["value"] == pytest.approx((held_out**2).mean(), rel=1e-5)
    row = r" +".join(rf"{squares[name]['value']:.1f} ± \d+\.\d" for name in ("slice", "basic", "optimal"))
    assert re.search(rf"mean squared force +slice +basic +optimal \(in use\)\ncln025 +{row}\n", shown.stdout)
    assert json.loads(run("info", prepared, "--json").stdout) == json.loads(json.dumps(facts))


def test_statistics_of_some_frames_are_close_to_those_of_all(prepared):
    reader = DatasetReader.open(prepared)
    some, every = gather(reader, at_most=500), gather(reader)
    assert some.distributions["bond"]["train"].moments.count == 250 * 9
    assert every.distributions["bond"]["train"].counts.sum() == 1000 * 9
    assert some.proteins["cln025"]["rms_force"] == pytest.approx(every.proteins["cln025"]["rms_force"], rel=0.03)


def test_moments_merge():
    values = np.random.default_rng(0).normal(3, 2, 1000)
    moments = Moments()
    for part in np.split(values, [10, 10, 500]):
        moments.add(part)
    assert (moments.mean, moments.deviation) == (pytest.approx(values.mean()), pytest.approx(values.std()))


def test_info_of_a_data_set_from_elsewhere(tmp_path):
    """Without reports of `prep` beside it, and with a protein that has no frames."""
    write_dataset(tmp_path, random_protein(4, 50, 1, "a"), random_protein(6, 0, 2, "b"))
    shown = run("info", tmp_path)
    assert shown.exit_code == 0, shown.exception
    assert "–" in shown.stdout


def test_a_sound_data_set(prepared):
    assert check(prepared) == []
    assert run("check", prepared).stdout.startswith("sound")


def unlike(protein, **changes):
    return replace(protein, **changes)


def chain(seed=0, n_frames=60, name="prot"):
    """A protein with nothing wrong."""
    random = np.random.default_rng(seed)
    protein = random_protein(5, n_frames, seed, name)
    structure = np.arange(5)[:, None] * np.array([3.8, 0.0, 0.0])
    return unlike(
        protein,
        linked=np.ones(4, bool),
        positions=(structure + random.normal(0, 0.05, (n_frames, 5, 3))).astype(np.float32),
        temperature_K=np.full(n_frames, 320, np.float32),
        replica=np.repeat([0, 1, 2], n_frames // 3).astype(np.int32),
        source_frame=np.tile(np.arange(n_frames // 3), 3).astype(np.int32),
        split=np.repeat([0, 1, 2], n_frames // 3).astype(np.int8),
    )


def findings_of(tmp_path, protein):
    write_dataset(tmp_path, protein)
    return [(one.level, one.text) for one in check(tmp_path)]


def broken(field, rows, value):
    protein = chain()
    values = getattr(protein, field).copy()
    values[rows] = value
    return unlike(protein, **{field: values})


def doubled():
    protein = chain()
    positions = protein.positions.copy()
    positions[45] = positions[3]
    return unlike(protein, positions=positions)


@pytest.mark.parametrize(("make", "words"), [
    (chain, None),
    (lambda: broken("positions", (7, 2), np.nan), "1 frames have non-finite positions, the first is source frame 7"),
    (lambda: broken("forces", (25, 0), np.inf), "non-finite forces, the first is source frame 5"),
    (lambda: broken("forces", slice(4, 6), 0.0), "2 frames have no forces"),
    (lambda: broken("positions", (8, 4), 99.0), "bond out of range"),
    (lambda: broken("replica", slice(20, 40), 0), "is there twice (train, validation)"),
    (doubled, "has the positions of another frame, in train and in test"),
])  # fmt: skip
def test_what_is_wrong_is_found(tmp_path, make, words):
    findings = findings_of(tmp_path, make())
    errors = [text for level, text in findings if level == "error"]
    if words is None:
        assert errors == []
    else:
        assert any(words in text for text in errors), findings
        assert run("check", tmp_path).exit_code == 2


def test_neighbours_in_different_parts_are_noted(tmp_path):
    protein = chain()
    split = protein.split.copy()
    split[10:20] = 1
    findings = findings_of(tmp_path, unlike(protein, split=split))
    assert findings == [
        ("note", "320 K, replica 0, frame 10 is for validation, the frame before it for train: no gap between them")
    ]
    assert run("check", tmp_path).exit_code == 0


def test_damage_and_wrong_counts_are_found(tmp_path):
    write_dataset(tmp_path, chain(), chain(1, name="other"))
    with h5py.File(tmp_path / "prot.h5", "a") as file:
        file["split"][:5] = 3
    assert "does not match its digest" in check(tmp_path)[0].text
    manifest = write_manifest(tmp_path, ["prot", "other"], temperature_K=320, mapping="ca", projection="basic")
    manifest["proteins"]["prot"]["frames_per_split"]["train"] = 99
    manifest["excluded_files"] = [{"source": "bad.h5", "reason": "broken"}]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    texts = [one.text for one in check(tmp_path)]
    assert any("the manifest says otherwise" in text for text in texts)
    assert "bad.h5 was excluded: broken" in texts


def test_residue_types_without_training_frames_are_noted(tmp_path):
    first = chain()
    first.residue_type[:] = 3
    second = chain(1, name="other")
    second.residue_type[:] = 17
    write_dataset(tmp_path, first, unlike(second, split=np.full(60, 2, np.int8)))
    assert [one.text for one in check(tmp_path)] == ["TRP occurs, but in no training frame"]


def test_convert_there_and_back(tmp_path, prepared):
    archive = tmp_path / "x.npz"
    assert "2000 frames" in run("convert", prepared, archive).stdout
    done = run("convert", archive, tmp_path / "again", "--temperature", 320)
    assert done.exit_code == 0, done.exception
    before, after = (DatasetReader.open(folder) for folder in (prepared, tmp_path / "again"))
    assert after.names == ["x"]
    assert after.temperature_K == 320
    first, second = before.load("cln025"), after.load("x")
    np.testing.assert_array_equal(first.positions, second.positions)
    np.testing.assert_array_equal(first.forces, second.forces)
    np.testing.assert_array_equal(first.residue_type, second.residue_type)
    np.testing.assert_array_equal(first.linked, second.linked)
    assert "500 frames" in run("convert", prepared, tmp_path / "v.npz", "--split", "validation").stdout


def test_mistakes_of_convert(tmp_path, prepared):
    archive = tmp_path / "x.npz"
    run("convert", prepared, archive, "--split", "test")
    for arguments, words in (
        ((archive, tmp_path / "out"), "does not say its temperature"),
        ((prepared, tmp_path / "out"), "one of the two must be an .npz archive"),
        ((prepared, tmp_path / "y.npz", "--split", "tset"), "no such part"),
        ((archive, prepared, "--temperature", 320), "exists already"),
        ((tmp_path / "none.npz", tmp_path / "out", "--temperature", 320), "no such file"),
    ):
        done = run("convert", *arguments)
        assert isinstance(done.exception, UserError)
        assert words in str(done.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.npz"]


def test_plots_are_one_file_with_every_distribution(tmp_path, prepared):
    page = tmp_path / "page.html"
    statistics = write_plots(prepared, page)
    text = page.read_text()
    assert text.count("<figure") == 8
    assert not re.findall(r'(?:src|href)="(?!data:)', re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL))
    assert len(text) < 300_000
    figures = embedded(text)
    assert len(figures) == 8
    bonds = figures["bond"].data
    assert [trace["name"] for trace in bonds] == ["train", "validation", "test"]
    step = bonds[0]["x"][1] - bonds[0]["x"][0]
    assert sum(bonds[0]["y"]) * step == pytest.approx(1.0, rel=1e-3)
    mode = bonds[0]["x"][int(np.argmax(bonds[0]["y"]))]
    assert mode == pytest.approx(statistics.proteins["cln025"]["bond"]["mean"], abs=0.05)
    assert run("plot", prepared, "--out", tmp_path / "again.html").exit_code == 0
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_the_page_draws_every_figure(tmp_path, prepared):
    from playwright.sync_api import sync_playwright

    page_file = tmp_path / "page.html"
    write_plots(prepared, page_file)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page()
        problems = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: problems.extend([request.url] if request.url.startswith("http") else []))
        page.goto(f"file://{page_file}")
        page.wait_for_timeout(1000)  # Playwright's own way to wait for more needs `eval`, which the page forbids
        assert page.locator(".plot svg.figure").count() == 8
        assert page.locator(".plot svg.figure :is(.line, .bar, .glyph)").count() >= 8
        assert problems == []
        browser.close()
