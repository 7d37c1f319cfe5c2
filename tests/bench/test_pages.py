"""The page, the tables, the document, and the trace's reader."""

import csv
import gzip
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from typer.testing import CliRunner

from cgloop.bench import document
from cgloop.bench.record import Load, Machine, Measurement, Record, write_record
from cgloop.bench.report import write_report
from cgloop.bench.roofline_facts import bound, limited_by, share_of_roof
from cgloop.bench.series import Wanted
from cgloop.bench.trace import operations, read_trace, sources_of
from cgloop.cli import app
from cgloop.errors import UserError

MACHINE = Machine(processor="<b>EPYC</b>", cores=2, memory_GB=25)
ROOF = {
    "FLOPs": 2e6, "bytes": 1e6, "FLOP/s": 5e9, "byte/s": 2.5e9, "matmul FLOP/s": 1e11, "copy byte/s": 1e10,
    "fraction of matmul rate": 0.05, "fraction of copy rate": 0.25,
}  # fmt: skip


@pytest.fixture
def record():
    """Strong scaling with a serial fraction of 0.1, a roofline, a cycle, a profile and a plain time."""
    random = np.random.default_rng(0)
    load = (Load(average=(1.0, 2.0), others_cores=0.5, seconds=3.0),)
    measurements = [
        Measurement(
            name="scaling/train", settings={"mode": "strong", "devices": n, "nodes": 1, "size": 16}, unit="frames/s",
            values=tuple(100 / (0.1 + 0.9 / n) * np.exp(random.normal(0, 0.01, 3))), better="higher", load=load,
            facts={"shared cores": n == 4, "epoch_s": 10.0 / n},
        )
        for n in (1, 2, 4)
    ]  # fmt: skip
    measurements += [
        Measurement(name="roofline/training step", unit="ms", values=(0.4,), facts=ROOF),
        Measurement(name="cycle/train", unit="s", values=(60.0,), facts={"share": 0.6}),
        Measurement(name="cycle/md", unit="s", values=(38.0,), facts={"share": 0.38}),
        Measurement(name="cycle/neither training nor MD", unit="%", values=(2.0,)),
        Measurement(
            name="profile/md/fusion.1", unit="ms/step", values=(0.2,), better="neither",
            facts={"share": 0.5, "calls per step": 1.0, "what": "a/b|c"},
        ),
        Measurement(name="export/write", unit="s", values=(2.0, 2.1, 2.2)),
    ]  # fmt: skip
    return Record(
        suite="scaling", date="2026-11-26", made_by="test", machine=MACHINE, measurements=tuple(measurements),
        note="a <note>",
    )  # fmt: skip


class Page(HTMLParser):
    """Everything that a page refers to, and its elements."""

    def __init__(self, text):
        super().__init__()
        self.refers, self.tags = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.refers += [v for k, v in attrs if k in ("src", "href", "xlink:href", "data", "action", "srcset") and v]


def test_the_page_is_one_file_that_asks_for_nothing(tmp_path, record):
    write_record(tmp_path / "r.json", record)
    wanted = Wanted(1000, 10, (1, 4, 64), 2.0, 300.0)
    written = write_report([tmp_path / "r.json"], tmp_path / "out", wanted=wanted)
    text = written.page.read_text()
    page = Page(text)
    assert page.refers
    assert all(one.startswith("#part-") for one in page.refers)
    assert not {"script", "link", "img", "iframe", "object", "b"} & set(page.tags)
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org)", text)
    assert page.tags.count("svg") == 4
    assert "nan" not in text.lower().replace("nanosecond", "")
    assert "share the same cores" in text
    # Virtual devices predict only what was measured.
    assert "64" not in [row[0] for row in csv.reader(written.text.splitlines(), delimiter=" ") if row]
    rows = list(csv.reader((tmp_path / "out" / "measurements.csv").read_text().splitlines()))
    assert len(rows) == 1 + sum(len(one.values) for one in record.measurements)
    fits = list(csv.DictReader((tmp_path / "out" / "fits.csv").read_text().splitlines()))
    assert float(fits[0]["value"]) == pytest.approx(0.1, abs=0.02)


def test_a_regression_is_marked_and_told_by_the_exit_code(tmp_path, record):
    slower = [
        one.model_copy(update={"values": tuple(v * (1.5 if one.name == "export/write" else 1) for v in one.values)})
        for one in record.measurements
    ]
    write_record(tmp_path / "a.json", record)
    write_record(tmp_path / "b.json", record.model_copy(update={"measurements": tuple(slower)}))

    def compare(first, second, *more):
        call = ["bench", "report", "--compare", str(tmp_path / first), str(tmp_path / second)]
        return CliRunner().invoke(app, [*call, "-o", str(tmp_path / "out"), *more])

    found = compare("a.json", "b.json")
    assert found.exit_code == 3
    assert "1 regression in" in found.output
    assert 'class="bad">REGRESSION' in (tmp_path / "out" / "bench.html").read_text()
    assert compare("a.json", "a.json").exit_code == 0
    other = MACHINE.model_copy(update={"cores": 8})
    write_record(tmp_path / "c.json", record.model_copy(update={"machine": other}))
    refused = compare("a.json", "c.json", "-o", str(tmp_path / "none"))
    assert isinstance(refused.exception, UserError)
    assert not (tmp_path / "none").exists()
    assert compare("a.json", "c.json", "--force").exit_code == 0


def test_roofline_names_what_limits():
    # 2 FLOP a byte, 10 GB/s: 20 GFLOP/s at most, of 100.
    assert bound(ROOF) == "memory"
    assert share_of_roof(ROOF) == pytest.approx(0.25)
    assert bound({**ROOF, "FLOPs": 2e7}) == "arithmetic"
    assert limited_by(ROOF) == "many short operations, at 25% of what memory would allow"
    assert limited_by({**ROOF, "FLOP/s": 1.8e10}) == "memory, at 90% of the roof"


def test_time_of_a_loop_is_not_that_of_its_body(tmp_path):
    def event(op, start, length, tid=1, module="jit_f", **more):
        args = {"hlo_op": op, "hlo_module": module}
        return {"ph": "X", "pid": 1, "tid": tid, "ts": start, "dur": length, "name": op, "args": args, **more}

    events = [
        event("while.1", 0, 100), event("dot.2", 10, 30), event("dot.2", 50, 30), event("add.3", 55, 5),
        event("dot.2", 0, 20, tid=2), {"ph": "X", "pid": 1, "tid": 1, "ts": 0, "dur": 9e9, "name": "Python"},
    ]  # fmt: skip
    with gzip.open(tmp_path / "vm.trace.json.gz", "wt") as file:
        json.dump({"traceEvents": events}, file)
    program = '  %dot.2 = f32[8]{0} dot(%a, %b), metadata={op_name="jit(f)/while/body/jit(silu)/dot_general"}'
    found = operations(read_trace(tmp_path), sources_of(program))
    assert [(one.name, one.calls) for one in found] == [("dot.2", 3), ("while.1", 1), ("add.3", 1)]
    assert [one.seconds for one in found] == pytest.approx([75e-6, 40e-6, 5e-6])
    assert found[0].source == "body/silu/dot_general"
    with pytest.raises(UserError, match="no trace"):
        read_trace(tmp_path / "nowhere")


def test_first_paragraph_says_how_fast_where_and_what_limits(record):
    text = document.document([record])
    first = text.split("\n\n")[2]
    assert re.search(r"training takes \d+(\.\d)? frames a second on one device", first, re.IGNORECASE)
    assert "Of a whole cycle, train 60% and md 38% take the most" in first
    assert "training step: many short operations, at 25% of what memory would allow" in first
    assert "a/b\\|c" in text


def test_the_committed_document_is_what_the_generator_makes(repository):
    made = document.document(document.read_results(repository / "benchmarks" / "results"))
    assert (repository / "docs" / "performance.md").read_text(encoding="utf-8") == made, (
        "run `cgloop bench document benchmarks/results`"
    )
