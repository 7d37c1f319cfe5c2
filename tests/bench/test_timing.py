"""Times of functions in turns."""

import time

from cgloop.bench.timing import TURN_S, in_turns


def test_short_calls_are_measured_in_a_row():
    """As a loop calls them: not once after another program, which left the caches full of its own data."""
    last = []

    def called(name, seconds):
        def call():
            last.append(name)
            time.sleep(seconds)

        return call

    times = in_turns({"short": called("short", 1e-3), "long": called("long", 3 * TURN_S)}, seconds=60.0, rounds=4)
    assert {name: len(found) for name, found in times.items()} == {"short": 4, "long": 4}
    # A sleep is never shorter than asked for; on a busy machine it may be longer.
    assert 1e-3 <= min(times["short"]) < 3 * TURN_S <= min(times["long"])
    turns = "".join("s" if name == "short" else "l" for name in last).lstrip("s").split("l")
    assert min(map(len, turns[2:-1])) > 3
