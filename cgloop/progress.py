"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere."""

import logging
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PLAIN_INTERVAL_S = 10.0
PLAIN = "CGLOOP_PLAIN_PROGRESS"
"""If this variable is set, a terminal gets lines, too: several processes cannot share its last line."""


class Progress:
    """Counts work done and shows it; made by `progress`."""

    def __init__(self, name: str, total: float, unit: str, bar: Any = None):
        self.name, self.total, self.unit = name, total, unit
        self.done = 0.0
        self._bar = bar
        self._task = bar.add_task(name, total=total, unit=unit, fields="") if bar is not None else None
        self._log = logging.getLogger(f"cgloop.{name.split()[0]}")
        self._start = self._shown = time.monotonic()

    def advance(self, amount: float = 1.0, **fields: Any) -> None:
        """Count `amount` as done; `fields` are shown beside it (loss=0.3, alive=8)."""
        self.done += amount
        now = time.monotonic()
        if self._bar is not None:
            # The bar redraws itself; formatting more often than it can show is wasted work.
            if now - self._shown > 0.1 or self.done >= self.total:
                self._shown = now
                self._bar.update(self._task, completed=self.done, fields=_format(fields))
        elif now - self._shown > PLAIN_INTERVAL_S:
            self._shown = now
            self._log.info("%s", self._line(now, fields))

    def close(self) -> None:
        """Take the bar away; the line of a log stays."""
        if self._bar is not None:
            self._bar.remove_task(self._task)

    def _line(self, now: float, fields: dict[str, Any]) -> str:
        elapsed = now - self._start
        left = elapsed * (self.total - self.done) / self.done if self.done else float("inf")
        text = f"{self.done:.5g}/{self.total:.5g} {self.unit}, {left:.0f} s left"
        return f"{text}  {_format(fields)}" if fields else text


def _format(fields: dict[str, Any]) -> str:
    shown = ((name.replace("_per_", "/").replace("_", " "), _short(value)) for name, value in fields.items())
    return "  ".join(f"{name} {value}" for name, value in shown)


def _short(value: Any) -> str:
    """Four digits; what is not known yet is a dash."""
    if not isinstance(value, float):
        return str(value)
    return "–" if math.isnan(value) else f"{value:.4g}"


_bars: Any = None
"""The display of this process while there is one: work within work has its bar below."""


@contextmanager
def progress(name: str, total: float, unit: str = "") -> Iterator[Progress]:
    """Show the progress of a loop.

    Args:
        name: room and what it does, e.g. "train" or "md cln025 nvt"; its first word names the logger.
        total: amount of work, in `unit`.
        unit: shown after the numbers.
    """
    if not sys.stderr.isatty() or os.environ.get(PLAIN):
        yield Progress(name, total, unit)
        return
    with _display() as bars:
        one = Progress(name, total, unit, bars)
        try:
            yield one
        finally:
            one.close()


@contextmanager
def _display() -> Iterator[Any]:
    global _bars
    if _bars is not None:
        yield _bars
        return
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        SpinnerColumn(),
        # Without markup: `[train]` would be taken for a style.
        TextColumn("[{task.description}]", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:.5g}/{task.total:.5g} {task.fields[unit]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("gone,"),
        TimeRemainingColumn(),
        TextColumn("left"),
        TextColumn("{task.fields[fields]}", markup=False),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        _bars = bars
        try:
            yield bars
        finally:
            _bars = None
