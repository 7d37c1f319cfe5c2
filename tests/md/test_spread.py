"""Into which jobs proteins and their replicas are divided."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgloop.config.md import MDConfig
from cgloop.md import spread as module
from cgloop.md.spread import side_by_side, spread


def config(processes, length_ps=1000.0, **more):
    return MDConfig.model_validate({"processes": processes, "nvt": {"length_ps": length_ps}, **more})


def ids(jobs):
    return [replica for job in jobs for replica in job.replicas]


@given(proteins=st.integers(0, 5), replicas=st.integers(1, 40), processes=st.integers(1, 12))
def test_every_replica_of_every_protein_is_in_one_job(proteins, replicas, processes, tmp_path_factory):
    names = [f"p{k}" for k in range(proteins)]
    found = spread(names, replicas, config(processes), tmp_path_factory.getbasetemp())
    assert list(found) == names
    assert all(ids(jobs) == list(range(replicas)) for jobs in found.values())
    assert all(job.replicas for jobs in found.values() for job in jobs)
    if names:
        assert sum(map(len, found.values())) >= min(processes, replicas * proteins)


def test_what_is_short_is_not_divided(tmp_path):
    short, long = (config(4, length_ps, nve={"length_ps": 1.0}) for length_ps in (1.0, 300.0))
    assert [len(spread(["a"], 4, one, tmp_path)["a"]) for one in (short, long)] == [1, 4]


def test_what_was_begun_goes_on_as_it_was_divided(tmp_path):
    for name in ("a-000-002", "a-003-007", "a-b-000-003", "c-000-003"):
        (tmp_path / name).mkdir()
    found = spread(["a", "a-b", "c"], 8, config(1), tmp_path)
    assert [job.replicas for job in found["a"]] == [(0, 1, 2), (3, 4, 5, 6, 7)]
    assert [job.folder for job in found["a-b"]] == ["a-b-000-007"]  # half of it is no division of it
    assert [job.folder for job in found["c"]] == ["c-000-007"]


@pytest.mark.parametrize(
    ("gpus", "cores", "memory_GB", "expected"),
    [("", 16, 64.0, 16), ("", 16, 7.0, 3), ("", 1, 1.0, 1), ("0,3", 16, 64.0, 2)],
)
def test_processes_by_default(monkeypatch, gpus, cores, memory_GB, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setattr(module, "usable_cores", lambda: cores)
    monkeypatch.setattr(module, "memory_GB", lambda: memory_GB)
    assert side_by_side(config(None)) == expected
    assert side_by_side(config(5)) == 5
    assert side_by_side(config(None, engine="lmp")) == 1
