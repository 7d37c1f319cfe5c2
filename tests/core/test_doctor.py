"""What the doctor says about HDF5 locks."""

import fcntl

import pytest

from cgloop import doctor
from cgloop.errors import UserError


def test_locks_of_this_file_system_are_tried(tmp_path, monkeypatch):
    monkeypatch.delenv("HDF5_USE_FILE_LOCKING", raising=False)
    assert doctor.hdf5_locks(tmp_path) == f"work in {tmp_path}"
    assert list(tmp_path.iterdir()) == []


def test_locks_that_are_switched_off(tmp_path, monkeypatch):
    monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "FALSE")
    assert "switched off" in doctor.hdf5_locks(tmp_path)


def test_a_file_system_without_locks_is_told_what_to_set(tmp_path, monkeypatch):
    import h5py

    def refuses(*arguments, **options):
        raise OSError("unable to lock file, errno = 37, error message = 'No locks available'")

    monkeypatch.delenv("HDF5_USE_FILE_LOCKING", raising=False)
    monkeypatch.setattr(h5py, "File", refuses)
    with pytest.raises(UserError, match=r"No locks available.*HDF5_USE_FILE_LOCKING=FALSE"):
        doctor.hdf5_locks(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_locks_that_nobody_sees(tmp_path, monkeypatch):
    monkeypatch.delenv("HDF5_USE_FILE_LOCKING", raising=False)
    monkeypatch.setattr(fcntl, "flock", lambda *arguments: None)
    assert "not seen by others" in doctor.hdf5_locks(tmp_path)
