"""First samples of a refinement: which frames of a failed cycle they are."""

import json

import h5py
import numpy as np
import pytest
from MDAnalysis.lib.formats.libdcd import DCDFile

from cgloop.errors import UserError
from cgloop.feedback.first_frames import MOST_FRAMES, read_first_frames

N_FRAMES = 40


@pytest.fixture
def md_dir(tmp_path, protein):
    """Three replicas begun from replicas 3, 2 and 2 of the data; the last broke a limit. Frame f of replica r is at
    100 r + f along x."""
    folder = tmp_path / "md"
    nvt = folder / "cln025" / "nvt"
    nvt.mkdir(parents=True)
    starts = [{"start_split": "test", "start_replica": replica, "start_frame": 0} for replica in (3, 2, 2)]
    proteins = {"cln025": {"starts": starts}, "new": {"starts": []}}
    md = {"temperature_K": 320.0, "model_temperature_K": 320.0, "proteins": proteins}
    (folder / "md.json").write_text(json.dumps(md))
    with h5py.File(nvt / "observables.h5", "w") as file:
        for replica in range(3):
            file.create_group(f"replica_{replica:03d}").attrs["survived"] = replica < 2
            write(nvt, replica, protein.n_beads, N_FRAMES)
    return folder


def write(nvt, replica, n_beads, n_frames):
    with DCDFile(str(nvt / f"replica_{replica:03d}.dcd"), "w") as file:
        file.write_header(remarks="", natoms=n_beads, istart=0, nsavc=1, delta=1.0, is_periodic=0)
        for frame in range(n_frames):
            positions = np.zeros((n_beads, 3), np.float32)
            positions[:, 0] = 100 * replica + frame
            file.write(xyz=positions, box=np.zeros(6))


def places(frames):
    return [positions[:, 0, 0].tolist() for positions in frames.replicas]


def test_frames_of_survivors_behind_the_cut_and_where_they_were_begun(md_dir, dataset_dir, protein):
    (found,) = read_first_frames(md_dir, dataset_dir, trim=0.25)
    assert (found.protein, found.started_from, found.n_frames) == ("cln025", (2, 3), 60)
    assert places(found) == [list(range(10, 40)), list(range(110, 140))]
    assert found.replicas[0].shape == (30, protein.n_beads, 3)
    assert found.replicas[0].dtype == np.float32


def test_long_trajectories_are_thinned_evenly(md_dir, dataset_dir, protein):
    write(md_dir / "cln025" / "nvt", 0, protein.n_beads, 3 * MOST_FRAMES)
    (found,) = read_first_frames(md_dir, dataset_dir, trim=0.0)
    assert 0.7 * MOST_FRAMES < found.n_frames <= MOST_FRAMES
    assert set(np.diff(places(found)[0])) == {4.0}


def test_dynamics_at_another_temperature_are_no_samples_of_the_model(md_dir, dataset_dir):
    md = json.loads((md_dir / "md.json").read_text())
    (md_dir / "md.json").write_text(json.dumps({**md, "temperature_K": 300.0}))
    assert read_first_frames(md_dir, dataset_dir, trim=0.25) == []


def test_a_damaged_trajectory_is_named(md_dir, dataset_dir):
    (md_dir / "cln025" / "nvt" / "replica_001.dcd").write_bytes(b"no trajectory")
    with pytest.raises(UserError, match="run `cgloop md` again"):
        read_first_frames(md_dir, dataset_dir, trim=0.25)
    (md_dir / "md.json").unlink()
    with pytest.raises(UserError, match="no MD to refine from"):
        read_first_frames(md_dir, dataset_dir, trim=0.25)
