"""Work done ahead in threads, in its order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

THREADS, AHEAD = 2, 4
"""Batches in work at the same time, and how many are ready or in work at most."""


def ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int = THREADS, most: int = AHEAD
) -> Generator[Result, None, None]:
    """`map(function, items)`, computed by so many threads while the caller works on what came before.

    At most `most` results wait. An exception comes up where its result would; what is left is not computed when the
    iterator is closed.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="ahead") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= most:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for one in waiting:
                one.cancel()
