"""Stopping on request: SIGTERM, SIGINT, a cluster's grace signal or a time limit.

A signal only sets a flag; long work asks for it at safe points with `check_stop`, writes what it
needs to continue, and leaves through `Interrupted`. A second SIGINT stops at once.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from cgloop.errors import Interrupted

# Not an Event: setting one takes a lock, for which a second signal's handler would wait for ever.
_stop = False
_reason = ""


def request_stop(reason: str) -> None:
    """Ask the running work to stop at its next safe point."""
    global _stop, _reason
    if not _stop:
        _reason, _stop = reason, True


def clear_stop() -> None:
    """Forget an earlier request."""
    global _stop
    _stop = False


def stop_requested() -> bool:
    return _stop


def check_stop() -> None:
    """Raise `Interrupted` if somebody asked us to stop."""
    if _stop:
        raise Interrupted(_reason)


@contextmanager
def stop_on_signals(time_limit_minutes: float | None = None) -> Iterator[None]:
    """Turn SIGTERM, SIGINT, SIGUSR1 and the time limit into stop requests while the body runs."""

    def handler(number: int, _frame: FrameType | None) -> None:
        if _stop and number == signal.SIGINT:
            raise KeyboardInterrupt
        request_stop(f"{signal.Signals(number).name} received")

    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    earlier = {number: signal.signal(number, handler) for number in signals}
    timer = None
    if time_limit_minutes is not None:
        timer = threading.Timer(
            60.0 * time_limit_minutes, request_stop, [f"time limit of {time_limit_minutes:g} min reached"]
        )
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        if timer is not None:
            timer.cancel()
        for number, action in earlier.items():
            signal.signal(number, action)
        clear_stop()
