"""Trajectories of any engine: read by MDAnalysis, judged by a reference, without a record of how they were made."""

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
from typer.testing import CliRunner

from cgloop.cli import app
from cgloop.config.validate import ValidateConfig
from cgloop.errors import UserError
from cgloop.validate import foreign
from cgloop.validate.universe import read_trace
from tests.validate import builders

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import MDAnalysis

LINE = "{:6s}{:5d} {:>4s} {:>3s} {}{:4d}    {:8.3f}{:8.3f}{:8.3f}  1.00  0.00"


def write_pdb(path, rows):
    """Rows of (atom name, residue name, chain, residue number, position)."""
    lines = [LINE.format("ATOM", i + 1, *row[:4], *row[4]) for i, row in enumerate(rows)]
    path.write_text("\n".join([*lines, "END"]) + "\n")
    return path


def write_frames(pdb, path, frames, box=None):
    """Frames [F, atoms, 3] in any format, written by MDAnalysis."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        universe = MDAnalysis.Universe(str(pdb))
        with MDAnalysis.Writer(str(path), len(universe.atoms)) as writer:
            for x in frames:
                universe.atoms.positions = x
                universe.dimensions = box
                writer.write(universe.atoms)
    return path


@pytest.fixture(scope="module")
def work(chain, tmp_path_factory):
    """A data set of the analytic chain and one of real frames; a topology; trajectories by name."""
    names, native, real = chain
    root = tmp_path_factory.mktemp("foreign")
    rng = np.random.default_rng(7)
    analytic = builders.analytic_run(names, native)
    flat = np.stack([3.6 * np.arange(10), 1.2 * (-1.0) ** np.arange(10), np.zeros(10)], axis=1)
    analytic.other_reference = [builders.elastic_frames(rng, flat, 300, 0.2) for _ in range(4)]
    builders.write_run(analytic, root / "analytic")
    builders.write_run(builders.good_run(names, native, real, real), root / "real")
    pdb = write_pdb(
        root / "top.pdb", [("CA", n, "A", i + 1, x) for i, (n, x) in enumerate(zip(names, native, strict=True))]
    )
    good = [builders.elastic_frames(rng, native, 300) for _ in range(4)]
    broken = [x.copy() for x in good]
    broken[2][7, 3, 1] = np.nan
    kinds = {
        "good": (good, "dcd"),
        "xtc": (good, "xtc"),
        "mirrored": ([x * [1, 1, -1] for x in good], "dcd"),
        "stretched": ([2 * x for x in good], "dcd"),
        "frozen": ([np.repeat(x[:1], 300, axis=0) for x in good], "dcd"),
        "broken": (broken, "dcd"),
        "real": (real, "dcd"),
    }
    files = {
        kind: [write_frames(pdb, root / f"{kind}_{i}.{ending}", frames) for i, frames in enumerate(replicas)]
        for kind, (replicas, ending) in kinds.items()
    }
    return root, pdb, files


def judged(work, kind, reference, *more):
    root, pdb, files = work
    out = root / f"out_{kind}_{'_'.join(more)}".replace("/", "")
    code = foreign.main(
        ["--traj", *map(str, files[kind]), "--top", str(pdb), "--reference", *map(str, reference), "--out", str(out),
         "--set", "validate.noise_blocks=40", *more]
    )  # fmt: skip
    return code, json.loads((out / "verdict.json").read_text()), json.loads((out / "plots.json").read_text())


def verdicts(verdict):
    return {check["check"]: check["verdict"] for check in verdict["checks"]}


@pytest.mark.parametrize(
    ("kind", "code", "failed"),
    [
        ("good", 0, set()),
        ("xtc", 0, set()),
        ("mirrored", 3, {"structure.mirror", "structure.handedness"}),
        ("stretched", 3, {"structure.rmsd", "structure.contacts", "structure.q", "structure.rg", "local.bonds"}),
        ("frozen", 4, set()),
        ("broken", 3, set(foreign.REQUIRED)),
    ],
)
def test_trajectories_are_judged_as_models_are(work, capsys, kind, code, failed):
    found, verdict, plots = judged(work, kind, [work[0] / "analytic" / "prep"])
    shown = capsys.readouterr().out
    assert found == code, shown
    assert failed <= {name for name, one in verdicts(verdict).items() if one == "fail"}
    words = "Not judged, because it takes energies, forces or the model: "
    assert {"parity", "stability", "nve"} <= set(shown.split(words)[1].replace(",", "").split())
    if kind == "broken":
        assert "trajectory 3 has non-finite positions" in verdict["reasons"][0]
    else:
        assert set(plots["checks"]) == {check["check"] for check in verdict["checks"] if check["value"] is not None}
        assert len(json.dumps(plots)) < 500_000


def test_real_frames_are_inconclusive_by_themselves_and_by_a_data_set(work):
    for reference, more in (
        ([work[0] / "real" / "prep"], ()),
        (work[2]["real"], ("--temperature", "320")),
    ):
        code, verdict, _ = judged(work, "real", reference, *more)
        assert code == 4
        found = verdicts(verdict)
        assert found["structure.contacts"] == found["structure.handedness"] == "pass"
        assert "fail" not in found.values()


def test_chosen_checks_decide(work):
    code, verdict, _ = judged(work, "real", [work[0] / "real" / "prep"], "--require", "structure.contacts")
    assert (code, verdict["required"]) == (0, ["structure.contacts"])
    assert verdict["cautions"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--temperature", "300"], "no frames of `chain` at 300 K"),
        (["--protein", "other"], "no protein `other`"),
        (["--require", "structure.everything"], "unknown check"),
        (["--set", "validate.contact_cutoff=9"], "no setting of trajectories"),
        (["--set", "validate.contact_cutoff_A=-9"], "greater than 0"),
        (["--set", "validate.contact_cutoff_A=far"], "is no number"),
        (["--selection", "name XX"], "`name XX` selects no atom"),
        (["--selection", "((("], "selection `(((`"),
    ],
)
def test_mistakes_are_one_line(work, capsys, tmp_path, change, words):
    root, pdb, files = work
    base = {"--traj": [str(files["good"][0])], "--top": [str(pdb)], "--reference": [str(root / "analytic" / "prep")],
            "--out": [str(tmp_path / "out")]}  # fmt: skip
    base[change[0]] = change[1:]
    assert foreign.main([word for name, values in base.items() for word in (name, *values)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_other_residues_are_told_by_the_first_that_differs(work, chain, tmp_path):
    names = [*chain[0][:3], "ALA", *chain[0][4:]]
    pdb = write_pdb(
        tmp_path / "a.pdb", [("CA", n, "A", i + 1, x) for i, (n, x) in enumerate(zip(names, chain[1], strict=True))]
    )
    trace = read_trace(pdb, [write_frames(pdb, tmp_path / "a.dcd", chain[1][None])])
    with pytest.raises(UserError, match=r"bead 4 is ALA in it and PRO in `chain`"):
        foreign.reference_from_dataset(work[0] / "analytic" / "prep", trace, None, None, ValidateConfig())


def test_beads_are_found_in_all_atom_files_and_cut_proteins_made_whole(tmp_path):
    """Two chains with side atoms and a calcium ion, in a triclinic box that cuts them."""
    rng = np.random.default_rng(0)
    trace = np.cumsum(np.full((8, 3), 2.2) + rng.normal(size=(8, 3)) * 0.1, axis=0) + 20
    rows = []
    for i, x in enumerate(trace):
        chain, name = "AB"[i >= 5], ["HSD", "GLY", "ALA"][i % 3]
        rows += [("CA", name, chain, i + 1, x), ("CB", name, chain, i + 1, x + 1.0)]
    rows.append(("CA", "CAL", "C", 9, [5.0, 5.0, 5.0]))
    pdb = write_pdb(tmp_path / "all.pdb", rows)
    positions = np.array([row[4] for row in rows])
    box = [25.0, 27.0, 30.0, 80.0, 85.0, 75.0]
    vectors = MDAnalysis.lib.mdamath.triclinic_vectors(box)
    fraction = positions @ np.linalg.inv(vectors)
    wrapped = (fraction - np.floor(fraction)) @ vectors
    assert np.abs(np.diff(wrapped[:-1:2], axis=0)).max() > 10
    found = read_trace(pdb, [write_frames(pdb, tmp_path / "all.xtc", wrapped[None].repeat(3, 0), box)])
    assert found.replicas[0].shape == (3, 8, 3)
    assert np.diff(found.replicas[0][0], axis=0) == pytest.approx(np.diff(trace, axis=0), abs=0.02)
    assert found.chain.tolist() == [0] * 5 + [1] * 3
    assert found.linked.tolist() == [True] * 4 + [False] + [True] * 2
    assert found.native == pytest.approx(trace, abs=2e-3)
    # Nothing is left beside the trajectory.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.pdb", "all.xtc"]


def two_chains(tmp_path):
    """A dimer of parallel chains in a box with padding: from the end of A to the start of B it is 40 Å."""
    x = np.stack([3.7 * np.arange(12), 1.2 * (-1.0) ** np.arange(12), np.cos(np.arange(12))], axis=1)
    trace = np.concatenate([x, x + np.array([0.0, 12.0, 0.0])]) + 12.0
    rows = [("CA", "GLY", "AB"[i // 12], i % 12 + 1, one) for i, one in enumerate(trace)]
    return trace, write_pdb(tmp_path / "two.pdb", rows), [62.0, 36.0, 26.0, 90.0, 90.0, 90.0]


def test_whole_chains_keep_every_bit_and_cut_ones_are_restored(tmp_path):
    trace, pdb, box = two_chains(tmp_path)
    frames = trace + np.random.default_rng(1).normal(0, 0.1, (30, *trace.shape))
    whole = write_frames(pdb, tmp_path / "whole.dcd", frames, box)
    wrapped = frames.copy()
    wrapped[12:] = (wrapped[12:] + 20.0) % np.array(box[:3])
    cut = write_frames(pdb, tmp_path / "cut.dcd", wrapped, box)
    found = read_trace(pdb, [whole, cut])
    np.testing.assert_array_equal(found.replicas[0], frames.astype(np.float32))
    np.testing.assert_array_equal(found.native, np.round(trace, 3).astype(np.float32))
    np.testing.assert_allclose(found.replicas[1] - found.replicas[1][:, :1], frames - frames[:, :1], atol=2e-5)
    assert [one.text for one in found.images] == ["", "cut.dcd: periodic images of beads changed in 18 of 30 frames"]


def test_what_was_done_about_images_is_said(work, chain, tmp_path, capsys):
    root, pdb, _ = work
    rng = np.random.default_rng(3)
    frames = np.array(builders.elastic_frames(rng, chain[1], 40)) - chain[1].mean(axis=0) + 20.0
    box = [40.0, 40.0, 40.0, 90.0, 90.0, 90.0]
    cut = write_frames(pdb, tmp_path / "cut.dcd", (frames + 20.0) % 40.0, box)
    bounding = write_frames(pdb, tmp_path / "tiny.dcd", frames, [3.0, 3.0, 3.0, 90.0, 90.0, 90.0])
    foreign.main(
        ["--traj", str(cut), str(bounding), "--top", str(pdb), "--reference", str(root / "analytic" / "prep"),
         "--out", str(tmp_path / "out")]
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert "- cut.dcd: periodic images of beads changed in 40 of 40 frames" in printed
    assert "- tiny.dcd: its cell is 3 Å wide, too little for a simulation: taken as not periodic" in printed
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    (protein,) = metrics["proteins"].values()
    assert [one["frames_moved"] for one in protein["periodic_images"]] == [40, 0]


def test_one_bead_a_residue_needs_no_name(tmp_path):
    x = np.stack([3.8 * np.arange(5.0), np.zeros(5), np.zeros(5)], axis=1)
    pdb = write_pdb(tmp_path / "cg.pdb", [("BB", "GLY", "A", i + 1, row) for i, row in enumerate(x)])
    dcd = write_frames(pdb, tmp_path / "cg.dcd", x[None])
    assert len(read_trace(pdb, [dcd]).residue_type) == 5
    strange = write_pdb(tmp_path / "x.pdb", [("CA", "XYZ", "A", i + 1, row) for i, row in enumerate(x)])
    with pytest.raises(UserError, match=r"x.pdb: unknown residue `XYZ` \(number 1, index 0\)"):
        read_trace(strange, [dcd])
    twice = write_pdb(tmp_path / "t.pdb", [("CA", "GLY", "A", i // 2 + 1, row) for i, row in enumerate(x)])
    with pytest.raises(UserError, match="several beads in residue 1"):
        read_trace(twice, [dcd])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing to validate"),
        (["a.yaml", "b.yaml"], "one config or run is needed"),
        (["a.yaml", "--top", "t.pdb"], "--top needs --traj"),
        (["--traj", "a.dcd", "--reference", "r"], "--traj needs --top"),
        (["--traj", "a.dcd", "--top", "t.pdb"], "--traj needs --reference"),
        (["--traj", "a.dcd", "--top", "t.pdb", "--reference", "r", "config.yaml"], "config.yaml is no trajectory"),
        (["--traj", "a.dcd", "--top", "t.pdb", "--reference", "r.h5"], "several temperatures"),
    ],
)
def test_runs_and_trajectories_do_not_mix(arguments, words):
    result = CliRunner().invoke(app, ["validate", *arguments])
    assert isinstance(result.exception, UserError)
    assert words in str(result.exception)


def test_command_line_from_an_mdcath_file(work, example_h5, tmp_path):
    _, pdb, files = work
    command = ["validate", "--traj", *map(str, files["real"]), "--top", str(pdb), "--reference", str(example_h5)]
    more = ["--temperature", "320", "--require", "structure.contacts", "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-m", "cgloop.cli", *command, *more], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "pass: The one required check passes." in done.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["metrics.json", "plots.json", "verdict.json"]
    assert "/tmp/" not in (tmp_path / "out" / "metrics.json").read_text()
