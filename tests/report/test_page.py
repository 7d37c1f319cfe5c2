"""The page as text: complete, self-contained, escaped, and there for every state of a run."""

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from cgloop.report.gather import CycleFiles
from cgloop.report.page import MAX_FRAME_BYTES, script_json, write_report
from cgloop.report.summary import tiles
from tests.report.builders import STAGES, write_json, write_run

# The stage that each section between the checks and the provenance shows.
SECTIONS = ("prep", "priors", "train", "parity", "md", "md", *["validate"] * 5)
VOID = {"meta", "link", "input", "br", "img", "hr"}


class Page(HTMLParser):
    """Checks that elements nest, and collects what the tests ask for."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.problems: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if "id" in values:
            self.ids.append(values["id"])
        self.links += [values[key] for key in ("href", "src") if key in values]
        # Inside SVG and the like nothing is void by name; the page has none outside scripts.
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> in line {self.getpos()[0]}")

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def page_of(run) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def text_of(run) -> str:
    return write_report(run).read_text(encoding="utf-8")


@pytest.mark.parametrize("run", ["passing_run", "crashed_run"])
def test_well_formed_and_self_contained(run, request):
    run = request.getfixturevalue(run)
    path = write_report(run)
    page = page_of(run)
    assert path == run / "report.html"
    assert path.stat().st_size < 1_000_000
    assert page.problems == []
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_verdict_comes_first_in_plain_words(passing_run):
    words = page_of(passing_run).text
    start = words.index("Pass")
    assert start < words.index("All 9 required checks pass.") < words.index("Forces in LAMMPS against JAX")
    assert "This model may be deployed." in words
    assert "Incomplete" not in words


def test_every_check_is_in_the_table(passing_run):
    words = page_of(passing_run).text
    for expected in (
        "0.030 ± 0.050",
        "≤ 0.172",
        "23.280 ± 0.040",
        "3 × 10⁻⁷",
        "not gated",
        "How contact map is defined.",
    ):
        assert expected in words


def test_what_was_run_is_said(passing_run):
    words = page_of(passing_run).text
    for expected in (
        "YYDPETGTWY", "320 K", "2 min 32 s", "node7", "0.10.2", "2 attempts", "250 ps each", "1,000",
        "4,352 parameters", "Stages: 5 min 04 s in all",
    ):  # fmt: skip
        assert expected in words


def test_an_inconclusive_run_lists_what_is_open(tmp_path):
    words = page_of(write_run(tmp_path / "r", "inconclusive")).text
    assert "Of 9 required checks 5 pass and 4 cannot be decided." in words
    assert "cannot tell" in words


def test_crashes_are_told_with_cause_and_frames(crashed_run):
    text = text_of(crashed_run)
    page = Page(text)
    assert "2 replicas were stopped (1 × clash and 1 × non-finite)" in page.text
    assert "TYR 1 and GLY 7 came within 1.90 Å of each other" in page.text
    assert text.count('class="viewer"') == 2
    frames = json.loads(re.search(r'id="crash-1">(.*?)</script>', text, re.DOTALL)[1])
    assert len(frames["positions"]) == 40


def test_all_cycles_are_in_the_index(crashed_run):
    words = page_of(crashed_run).text
    assert words.index("Cycle Verdict") < words.index("cycle 0 ✗ fail") < words.index("Checks")
    text = text_of(crashed_run)
    assert text.count('role="tab"') == 2
    assert [f'id="{prefix}structure"' in text for prefix in ("", "c0-")] == [True, True]


def test_a_cycle_that_has_only_begun_does_not_hide_the_verdict(tmp_path):
    run = write_run(tmp_path / "r", "pass", "none", stages=["prep"])
    words = page_of(run).text
    assert words.index("Pass") < words.index("No verdict yet".lower())


def test_stages_that_an_earlier_cycle_did_are_not_counted_twice(tmp_path):
    run = write_run(tmp_path / "r", "fail", "pass")
    second = run / "cycle_001" / "prep"
    shutil.rmtree(second)
    second.symlink_to("../cycle_000/prep")
    words = page_of(run).text
    assert "from an earlier cycle" in words
    assert "Stages: 5 min 04 s in all" in words
    (run / "cycle_001" / "train" / "stage.json").unlink()
    assert "Stages: 2 min 32 s in all" in page_of(run).text


@pytest.mark.parametrize("count", range(len(STAGES)))
def test_every_prefix_of_stages_has_a_page(count, tmp_path):
    run = write_run(tmp_path / "r", "none", stages=STAGES[:count])
    (run / "events.jsonl").write_text('{"event": "interrupted", "reason": "SIGTERM received"}\n{"event": "sta')
    page = page_of(run)
    assert page.problems == []
    assert "No verdict yet" in page.text
    assert "The run was interrupted (SIGTERM received); the same command continues it." in page.text
    assert f"{STAGES[-1]} {'is' if count == len(STAGES) - 1 else 'are'} missing." in page.text
    if count:
        assert f"Finished so far: {STAGES[0]}" in page.text
        assert page.text.count("Not done yet") == sum(stage not in STAGES[:count] for stage in SECTIONS)


def test_an_empty_folder_has_a_page(tmp_path):
    page = page_of(tmp_path)
    assert "Nothing was finished in this run yet." in page.text
    assert page.problems == []


def test_parity_failure_says_why_the_rest_is_missing(tmp_path):
    run = write_run(tmp_path / "r", "parity", stages=STAGES[:5])
    words = page_of(run).text
    assert "The loop stopped at parity" in words
    assert "no MD was run with it" in words
    assert "the bundle was not made from these parameters" in words
    assert "required, and not measured" in words


def test_a_verdict_older_than_the_results_says_so(tmp_path):
    run = write_run(tmp_path / "r", "pass")
    record = json.loads((run / "cycle_000/md/stage.json").read_text())
    write_json(run / "cycle_000/md/stage.json", {**record, "result_digest": "other"})
    assert "This verdict is older than the results of md" in page_of(run).text


@pytest.mark.parametrize("damage", ["", "{", "[1, 2]", "\x00"])
def test_damaged_files_are_as_good_as_missing(damage, tmp_path):
    run = write_run(tmp_path / "r", "pass")
    for name in ("priors/curves.json", "train/history.json", "validate/plots.json", "feedback/feedback.json"):
        (run / "cycle_000" / name).write_text(damage)
    assert page_of(run).problems == []


EVIL = "</script><script>alert(1)</script>\"'<img src=x onerror=alert(1)>&amp;{{ 7*7 }}"


def test_everything_is_escaped(tmp_path, crash_paths):
    run = write_run(tmp_path / "r", "fail", crashes=crash_paths, config=f"run:\n  name: {EVIL}\n")

    def poison(data):
        if isinstance(data, dict):
            return {key: poison(value) for key, value in data.items()}
        if isinstance(data, list):
            return [poison(value) for value in data]
        # Words that are compared with others, not shown, stay as they are.
        keep = (
            "fail",
            "pass",
            "reported",
            "inconclusive",
            "at most",
            "at least",
            "nvt",
            "cln025",
            "repulsion",
            "degree",
            *("model", "reference", "control", "limit", "lines", "steps", "points", "bars", "maps"),
        )
        known = isinstance(data, str) and (data in keep or "." in data or data in STAGES)
        return data + EVIL if isinstance(data, str) and not known else data

    for path in run.rglob("*.json"):
        path.write_text(json.dumps(poison(json.loads(path.read_text()))))
    text = text_of(run)
    page = Page(text)
    assert page.problems == []
    assert "<img src=x" not in text
    assert "<script>alert" not in text
    assert EVIL in page.text
    assert "49" not in re.findall(r"\{\{.*?\}\}", page.text)


def test_script_json_cannot_end_its_script():
    text = script_json({"a": "</script><!-- & \u2028"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": "</script><!-- & \u2028"}


def test_many_crashes_stay_below_the_limit(tmp_path, crash_paths):
    run = write_run(tmp_path / "r", "fail", crashes=crash_paths[:1])
    path = run / "cycle_000/feedback/feedback.json"
    crash = json.loads(path.read_text())["crashes"][0]
    crash["frames"]["positions"] = [[1.23] * 600] * 200
    write_json(path, {"crashes": [crash] * 12})
    page = write_report(run)
    assert page.stat().st_size < 10_000_000
    text = page.read_text()
    shown = text.count('class="viewer"')
    assert 0 < shown < 12
    assert text.count("The frames are in md/cln025/nvt/crash_000.h5") == 12 - shown
    assert sum(map(len, re.findall(r'id="crash-\d+">(.*?)</script>', text, re.DOTALL))) <= MAX_FRAME_BYTES


def test_the_page_is_made_without_jax_or_lammps(passing_run):
    script = (
        "import sys; from pathlib import Path; from cgloop.report.page import write_report;"
        f"write_report(Path({str(passing_run)!r}));"
        "print([m for m in ('jax', 'lammps', 'MDAnalysis') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unwritable_place_is_a_user_error(tmp_path):
    from cgloop.errors import UserError

    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_report(tmp_path / "file" / "run")


def test_of_several_proteins_the_tiles_show_the_worst(tmp_path):
    def drift(subject, slope, verdict):
        detail = {"mean_slope": slope}
        return {"check": "nve.drift", "subject": subject, "value": abs(slope), "error": 0.1, "verdict": verdict,
                "threshold": 0.4, "detail": detail}  # fmt: skip

    def survival(subject, fractions):
        detail = {"fractions": fractions, "survived_ns": 0.1 * sum(fractions), "asked_ns": 0.1 * len(fractions)}
        return {"check": "stability.survival", "subject": subject, "value": min(fractions), "error": 0.0,
                "verdict": "pass" if min(fractions) == 1 else "fail", "detail": detail}  # fmt: skip

    checks = [
        drift("long", -0.3, "inconclusive"),
        drift("short", 0.9, "fail"),
        drift("middle", 0.35, "inconclusive"),
        survival("long", [1.0, 1.0]),
        survival("short", [1.0, 0.5]),
    ]
    (tmp_path / "verdict.json").write_text(json.dumps({"verdict": "fail", "checks": checks}))
    shown = {tile["name"]: tile for tile in tiles(CycleFiles(0, tmp_path))}
    assert shown["Energy drift"]["value"] == "0.90 ± 0.10"
    assert "short: worst of 3 proteins" in shown["Energy drift"]["unit"]
    assert shown["Survival"]["value"] == "3 of 4"
    assert shown["Survival"]["context"] == "0.35 of 0.4 ns"


@pytest.mark.parametrize(
    ("script", "words"),
    [(None, "no Chromium or Chrome was found on the path"), ("echo broken display >&2; exit 1", "broken display")],
)
def test_without_a_browser_that_prints_there_is_a_clear_message(script, words, tmp_path, monkeypatch):
    from cgloop.errors import UserError
    from cgloop.report.pdf import write_pdf

    folder = tmp_path / "bin"
    folder.mkdir()
    if script:
        (folder / "chromium").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "chromium").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    (tmp_path / "report.html").write_text("<p>")
    with pytest.raises(UserError, match=words) as caught:
        write_pdf(tmp_path / "report.html")
    assert "any browser and print it" in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "report.html"]
