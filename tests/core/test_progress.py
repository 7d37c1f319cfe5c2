"""What people see while they wait."""

import io
import logging
import re
from contextlib import redirect_stderr

import pytest

import cgloop.progress
from cgloop.progress import progress

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "140")
    return Terminal()


def test_a_terminal_shows_name_numbers_and_fields(terminal):
    with redirect_stderr(terminal), progress("train", 10, "steps") as bar:
        bar.advance(10, loss=79.456, val_rmse=float("nan"), frames_per_s=1175.0)
        cgloop.progress._bars.refresh()
    last = [line for line in re.split(r"[\r\n]+", ESCAPE.sub("", terminal.getvalue())) if "10/10" in line][-1]
    for part in ("[train]", "10/10 steps", "loss 79.46", "val rmse –", "frames/s 1175"):
        assert part in last


def test_work_within_work_shares_the_display(terminal):
    with redirect_stderr(terminal), progress("prep", 2, "files") as outer:
        with progress("prep cln025", 500, "frames") as inner:
            inner.advance(500, kept=499)
            cgloop.progress._bars.refresh()
        outer.advance(2)
        cgloop.progress._bars.refresh()
    text = ESCAPE.sub("", terminal.getvalue())
    assert re.search(r"\[prep cln025\].*500/500 frames.*kept 499", text)
    # The inner bar is taken away when its work is done; the display ends with the outer work.
    assert "[prep cln025]" not in text[text.rindex("2/2 files") :]
    assert cgloop.progress._bars is None


def test_a_display_ends_with_an_error(terminal):
    with redirect_stderr(terminal), pytest.raises(RuntimeError), progress("md", 5):
        raise RuntimeError
    assert cgloop.progress._bars is None


def test_without_a_terminal_there_are_plain_lines(monkeypatch, caplog):
    monkeypatch.setattr(cgloop.progress, "PLAIN_INTERVAL_S", -1.0)
    with caplog.at_level(logging.INFO, logger="cgloop.md"), progress("md cln025 nvt", 200, "ps") as bar:
        bar.advance(50, alive=8)
    assert re.fullmatch(r"50/200 ps, \d+ s left  alive 8", caplog.messages[-1])
