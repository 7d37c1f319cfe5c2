"""Files of measurements: written and read, older ones and foreign tables among them."""

import json

import pytest

from cgloop.bench.record import Measurement, read_record, start_record, this_machine, watched_load, write_record
from cgloop.bench.series import Wanted, predict, series_of
from cgloop.errors import UserError


def test_a_record_survives_and_measurements_replace_their_like(tmp_path):
    one = Measurement(name="a", settings={"beads": 10}, unit="ms", values=(1.0, 2.0, 4.0))
    record = start_record("s", "test", {"x": 1}, this_machine()).with_measurement(one)
    assert one.median == 2.0
    again = record.with_measurement(one.model_copy(update={"values": (3.0,)}))
    write_record(tmp_path / "r.json", again)
    read = read_record(tmp_path / "r.json")
    assert read == again
    assert [m.values for m in read.measurements] == [(3.0,)]
    assert {"python", "jax", "numpy"} <= set(read.versions)
    assert read.machine.cores >= 1
    assert "model" in read.machine.processor or read.machine.processor


def test_places_of_files_are_not_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = {"sources": [{"path": str(tmp_path / "data" / "a.h5")}, {"path": "/elsewhere/home/b.h5"}], "root": "runs"}
    record = start_record("s", "test", config, this_machine())
    assert record.config == {"sources": [{"path": "data/a.h5"}, {"path": "b.h5"}], "root": "runs"}


def test_load_counts_others_not_us():
    with watched_load() as load:
        sum(i * i for i in range(3_000_000))
    assert load[0].others_cores is not None
    # On a quiet machine 0, on a busy one as many cores as others use; our own loop is one.
    assert load[0].others_cores <= this_machine().cores + 0.5


def test_older_records_of_this_repository_are_read(repository):
    results = repository / "benchmarks" / "results"
    model = read_record(results / "2026-11-21-model.json")
    assert model.machine.cores == 2
    assert "family 26" in model.machine.processor
    repeated = next(m for m in model.measurements if m.settings["case"] == "nano-cgloop-20")
    assert len(repeated.values) == 2
    md = read_record(results / "2026-11-25-md.json")
    loop = next(m for m in md.measurements if m.name == "md/LAMMPS loop")
    assert loop.settings == {"beads": 10, "replicas": 1}
    assert loop.load
    [*_, lean] = series_of([read_record(results / "2026-11-21-scaling.json")])
    assert lean.points[-1].speedup == pytest.approx(202.2 / 140.5)
    assert lean.shared_cores
    with pytest.raises(UserError, match="not of times"):
        read_record(results / "2026-11-21-learning-curves.json")


TABLE = """\ufeffNodes,GPUs,Steady-State Time B=1 (min),Steady-State Time B=4 (min),Total Time (min)
1,1,40,20,50
1,1,42,,51
1,2,21,11,30
1,4,11,6.5,20
2,8,6,4,15
"""


def test_a_table_of_the_older_pipeline(tmp_path):
    path = tmp_path / "scaling_data.csv"
    path.write_text(TABLE, encoding="utf-8")
    small, large = series_of([read_record(path)])
    assert [(p.devices, p.nodes, len(p.rates)) for p in small.points] == [(1, 1, 2), (2, 1, 1), (4, 1, 1), (8, 2, 1)]
    assert small.points[-1].speedup == pytest.approx(sum([6**-1]) / (0.5 * (1 / 40 + 1 / 42)))
    assert small.points[0].facts == {"Total Time (min)": 51.0}
    assert large.points[0].rates == pytest.approx([1 / 1200])
    assert small.fit_of("Amdahl").value == pytest.approx(0.02, abs=0.03)
    # 10,000 frames in 6 min on 8 GPUs: 100,000 frames, 10 epochs in 10 h.
    wanted = Wanted(100_000, 10, (8, 64), price_per_gpu_hour=2.0, watts=400, frames_per_time=10_000)
    eight, many = predict(small, wanted)
    assert eight.hours[0] == pytest.approx(10.0)
    assert (eight.gpu_hours, eight.cost, eight.energy_kWh) == pytest.approx((80.0, 160.0, 32.0))
    assert eight.measured
    assert many.beyond
    assert many.hours[1] < many.hours[0] < many.hours[2]


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("a.csv", "GPUs,Time\n1,2\n", "no column"),
        ("a.csv", "GPUs,Steady-State Time B=1 (min)\n1,nan\n", "line 2: `nan` is no positive number"),
        ("a.csv", "GPUs,Steady-State Time B=1 (min)\n1.5,2\n", "whole number"),
        ("a.json", "[1]", "no record"),
        ("a.json", "{", "no JSON"),
        ("a.json", json.dumps({"schema": 99}), "schema 99"),
        ("a.json", json.dumps({"schema": 1, "suite": "s"}), "date"),
    ],
)
def test_bad_files_are_named(tmp_path, name, text, what):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=what):
        read_record(tmp_path / name)
