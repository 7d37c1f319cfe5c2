"""Trajectories through MDAnalysis: units, selections, periodic boundaries, damage."""

import numpy as np
import pytest
from mda_files import opened, source, write_trajectory
from synthetic_mdcath import Residue, build, chain_of, frames_of, write_mdcath

from cgloop.config.data import DataConfig, SourceConfig
from cgloop.data.dataset import DatasetReader
from cgloop.errors import UserError
from cgloop.prep import trajectory
from cgloop.prep.pipeline import prepare
from cgloop.prep.reference import Frames

SPLIT = {"by": "replica", "train": [0], "validation": [1], "test": [2], "min_frames": 5}


@pytest.fixture
def molecule():
    return build(chain_of(5))


@pytest.fixture
def topology(tmp_path, molecule):
    path = tmp_path / "pept.pdb"
    path.write_text(molecule.text)
    return path


@pytest.mark.parametrize("suffix", [".trr", ".h5md"])
def test_units_are_converted_by_declaration(tmp_path, molecule, topology, suffix):
    positions, forces = frames_of(molecule, 9)
    path = write_trajectory(tmp_path / f"t{suffix}", topology, positions, forces)
    with opened(tmp_path, source(path, topology, replica=2)) as reference:
        (one,) = reference.trajectories
        assert one.key == (320.0, 2)
        blocks = list(one.blocks(Frames(1, 8, 3)))
        np.testing.assert_array_equal(np.concatenate([b.source_frame for b in blocks]), [1, 4, 7])
        np.testing.assert_allclose(np.concatenate([b.positions for b in blocks]), positions[1:8:3], atol=2e-5)
        np.testing.assert_allclose(np.concatenate([b.forces for b in blocks]), forces[1:8:3], rtol=1e-5, atol=1e-4)
        assert [a.name for a in reference.atoms] == molecule.names
        np.testing.assert_array_equal(reference.is_hydrogen(), [e == "H" for e in molecule.elements])


def test_nothing_is_written_beside_the_trajectory(tmp_path, molecule, topology):
    folder = tmp_path / "data"
    folder.mkdir()
    path = write_trajectory(folder / "t.trr", topology, *frames_of(molecule, 3))
    with opened(tmp_path, source(path, topology)) as reference:
        list(reference.trajectories[0].blocks())
    assert [p.name for p in folder.iterdir()] == ["t.trr"]
    assert list((tmp_path / "scratch").iterdir()) == []


def test_blocks_are_bounded(tmp_path, molecule, topology, monkeypatch):
    positions, forces = frames_of(molecule, 20)
    path = write_trajectory(tmp_path / "t.trr", topology, positions, forces)
    monkeypatch.setattr(trajectory, "BLOCK_BYTES", 12 * len(molecule.names) * 6)
    with opened(tmp_path, source(path, topology)) as reference:
        blocks = list(reference.trajectories[0].blocks())
    assert [len(b.positions) for b in blocks] == [6, 6, 6, 2]
    np.testing.assert_allclose(np.concatenate([b.positions for b in blocks]), positions, atol=2e-5)


def test_same_data_set_as_from_mdcath(tmp_path, molecule, topology):
    frames = {i: frames_of(molecule, 30, seed=i) for i in range(3)}
    h5 = write_mdcath(tmp_path / "a.h5", molecule, {f"320/{i}": f for i, f in frames.items()}, name="pept")
    sources = [
        {"format": "mdanalysis", "topology": topology, "replica": i,
         "path": write_trajectory(tmp_path / f"r{i}.trr", topology, *f)} for i, f in frames.items()
    ]  # fmt: skip
    found = []
    for name, given_sources in (("mdcath", [{"path": h5}]), ("mda", sources)):
        (tmp_path / name).mkdir()
        prepare(DataConfig(sources=given_sources, temperature_K=320, split=SPLIT), tmp_path / name)
        found.append(DatasetReader.open(tmp_path / name).load("pept"))
    for field in ("residue_type", "chain", "resid", "linked", "split", "replica", "source_frame", "temperature_K"):
        np.testing.assert_array_equal(getattr(found[0], field), getattr(found[1], field), err_msg=field)
    np.testing.assert_allclose(found[1].positions, found[0].positions, atol=3e-5)
    np.testing.assert_allclose(found[1].forces, found[0].forces, rtol=1e-5, atol=3e-4)


def test_only_the_selection_is_read(tmp_path, molecule):
    lines = molecule.text.splitlines()[1:-2]
    water = [
        f"ATOM  {i + 500:5d}  OW  SOL W{i + 200:4d}    {10.0 * i:8.3f}{50.0:8.3f}{50.0:8.3f}  1.00  0.00           O"
        for i in range(4)
    ]
    topology = tmp_path / "system.pdb"
    topology.write_text("\n".join([*lines, *water, "END", ""]))
    positions, forces = frames_of(molecule, 4)
    path = write_trajectory(tmp_path / "t.trr", topology, positions, forces, water=4)
    with opened(tmp_path, source(path, topology)) as reference:
        assert len(reference.atoms) == len(molecule.names)
        (block,) = reference.trajectories[0].blocks()
        np.testing.assert_allclose(block.positions, positions, atol=2e-5)
    with pytest.raises(UserError, match="selects no atom"):
        opened(tmp_path, source(path, topology, selection="resname LIG"))
    with pytest.raises(UserError, match="selection: nonsense here"):
        opened(tmp_path, source(path, topology, selection="nonsense here"))


def test_chains_and_insertion_codes_come_from_the_topology(tmp_path):
    molecule = build([
        Residue(resid=5, chain="A"), Residue(resid=5, insertion="A", chain="A"), Residue(resid=1, chain="B"),
        Residue(resid=2, chain="B"),
    ])  # fmt: skip
    topology = tmp_path / "two.pdb"
    topology.write_text(molecule.text)
    path = write_trajectory(tmp_path / "t.trr", topology, *frames_of(molecule, 3))
    with opened(tmp_path, source(path, topology)) as reference:
        atoms = reference.atoms
    assert [atoms[i].insertion for i in molecule.ca] == ["", "A", "", ""]
    assert [atoms[i].chain[0] for i in molecule.ca] == ["A", "A", "B", "B"]


def test_wrapped_trajectory_gives_whole_proteins(tmp_path, molecule, topology):
    positions, forces = frames_of(molecule, 5)
    box = [30.0, 31.0, 32.0, 90.0, 90.0, 90.0]
    path = write_trajectory(tmp_path / "t.trr", topology, (positions + 25.0) % np.array(box[:3]), forces, box)
    with opened(tmp_path, source(path, topology)) as reference:
        (block,) = reference.trajectories[0].blocks()
    moved = block.positions - block.positions[:, :1]
    np.testing.assert_allclose(moved, positions - positions[:, :1], atol=5e-5)


@pytest.mark.parametrize("kind", ["trr", "xtc", "dcd"])
def test_trajectories_without_forces_have_positions(tmp_path, molecule, topology, kind):
    positions, _ = frames_of(molecule, 5)
    path = write_trajectory(tmp_path / f"x.{kind}", topology, positions, None)
    with opened(tmp_path, source(path, topology)) as reference:
        (trajectory,) = reference.trajectories
        assert not trajectory.has_forces
        (block,) = trajectory.blocks()
    assert block.forces is None
    np.testing.assert_allclose(block.positions, positions, atol=0.01)


@pytest.mark.filterwarnings("ignore")  # MDAnalysis closes what it could not open
def test_bad_trajectories_are_told(tmp_path, molecule, topology):
    positions, forces = frames_of(molecule, 5)
    nonsense = tmp_path / "n.trr"
    nonsense.write_bytes(b"nonsense" * 100)
    with pytest.raises(UserError, match=r"n\.trr: MDAnalysis cannot read it"):
        opened(tmp_path, source(nonsense, topology))
    other = tmp_path / "other.pdb"
    other.write_text(build(chain_of(3)).text)
    good = write_trajectory(tmp_path / "g.trr", topology, positions, forces)
    with pytest.raises(UserError, match="cannot read it"):
        opened(tmp_path, source(good, other))


@pytest.mark.filterwarnings("ignore")
def test_truncated_trajectory_is_told_or_ends_early(tmp_path, molecule, topology):
    good = write_trajectory(tmp_path / "g.trr", topology, *frames_of(molecule, 6))
    raw = good.read_bytes()
    for kept in (len(raw) - 7, len(raw) // 2 + 3, 50):
        cut = tmp_path / f"cut{kept}.trr"
        cut.write_bytes(raw[:kept])
        message, read = "", 0
        try:
            with opened(tmp_path, source(cut, topology)) as reference:
                for block in reference.trajectories[0].blocks():
                    read += len(block.positions)
        except UserError as error:
            message = str(error)
        assert read < 6
        assert str(cut) in message or read
        assert "\n" not in message


def test_trajectories_of_one_protein_need_their_own_replica_and_the_same_atoms(tmp_path, molecule, topology):
    paths = [write_trajectory(tmp_path / f"{i}.trr", topology, *frames_of(molecule, 3, seed=i)) for i in range(2)]
    with pytest.raises(UserError, match="replica 0, too"):
        opened(tmp_path, *[source(path, topology) for path in paths])
    with opened(
        tmp_path, *[source(path, topology, temperature_K=t) for path, t in zip(paths, (300.0, 320.0), strict=True)]
    ) as reference:
        assert [t.key for t in reference.trajectories] == [(300.0, 0), (320.0, 0)]
    other = build(chain_of(6))
    (tmp_path / "six.pdb").write_text(other.text)
    six = write_trajectory(tmp_path / "six.trr", tmp_path / "six.pdb", *frames_of(other, 3))
    with pytest.raises(UserError, match=r"atoms differ from those of 0\.trr"):
        opened(tmp_path, source(paths[0], topology), source(six, tmp_path / "six.pdb", replica=1))


@pytest.mark.parametrize(("settings", "words"), [
    ({"format": "mdanalysis"}, "needs `topology`"),
    ({"format": "mdcath", "topology": "a.pdb"}, "`topology` has no meaning with `format: mdcath`"),
    ({"format": "npz", "replicas": [1]}, "`replicas` has no meaning"),
    ({"start": 5, "stop": 5}, "`stop` must be above `start`"),
])  # fmt: skip
def test_keys_of_other_formats_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        SourceConfig(path="a", **settings)
