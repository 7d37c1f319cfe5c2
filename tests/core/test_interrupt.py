"""Requests to stop, by signals that come when they like."""

import os
import signal
import threading

import pytest

from cgloop.errors import Interrupted
from cgloop.interrupt import check_stop, clear_stop, request_stop, stop_on_signals, stop_requested


@pytest.mark.timeout(60)
def test_signals_may_interrupt_the_handling_of_signals():
    """A leader with many threads that is killed sends its child a signal for each of them, one upon the other."""
    sent = threading.Event()

    def send():
        for _ in range(20_000):
            os.kill(os.getpid(), signal.SIGUSR1)
            os.kill(os.getpid(), signal.SIGTERM)
        sent.set()

    with stop_on_signals():
        sender = threading.Thread(target=send)
        sender.start()
        while not sent.is_set():
            clear_stop()
        sender.join()
        request_stop("enough")
        assert stop_requested()


def test_the_first_reason_is_the_one_that_is_told():
    with stop_on_signals():
        os.kill(os.getpid(), signal.SIGUSR1)
        request_stop("something else")
        with pytest.raises(Interrupted, match="SIGUSR1 received"):
            check_stop()
    check_stop()
