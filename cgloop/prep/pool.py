"""Independent jobs on a pool of processes that stops when asked and leaves nobody behind.

This module is loaded by every worker before numpy: its initialiser limits numerical libraries to one thread, because
as many processes as cores with as many threads each would only get in each other's way.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from cgloop.errors import Interrupted, UserError
from cgloop.interrupt import check_stop, request_stop

Item = TypeVar("Item")
Result = TypeVar("Result")

POLL_S = 0.2

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def run_all(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Generator[tuple[Item, Result | UserError], None, None]:
    """Do `work` on every item; yields each with its result, or with its `UserError`, as they are done.

    Args:
        work: a function of a module (workers import it), results must be picklable.
        items: picklable, independent of each other.
        workers: processes; with one, or one item, everything happens in this process, in order.

    Raises:
        Interrupted: a stop was requested, or a worker was killed.
    """
    if workers <= 1 or len(items) <= 1:
        for item in items:
            check_stop()
            yield item, _outcome(work, item)
        return
    context = multiprocessing.get_context("spawn")
    # A plain byte of shared memory: an Event would wait for ever for a worker that was killed while it waited.
    stop = context.RawValue("b", 0)
    pool = ProcessPoolExecutor(min(workers, len(items)), context, initializer=_begin, initargs=(stop,))
    try:
        futures: dict[Future, Item] = {pool.submit(_outcome, work, item): item for item in items}
        while futures:
            done, _ = wait(futures, timeout=POLL_S, return_when=FIRST_COMPLETED)
            check_stop()
            for future in done:
                yield futures.pop(future), future.result()
    except BrokenProcessPool:
        raise Interrupted(
            "a worker process was killed, perhaps for want of memory; a smaller `data.workers` needs less"
        ) from None
    finally:
        stop.value = 1
        pool.shutdown(wait=True, cancel_futures=True)


def _outcome(work: Callable[[Item], Result], item: Item) -> Result | UserError:
    try:
        return work(item)
    except UserError as error:
        return error


def _begin(stop: Any) -> None:
    """Set up a worker: one thread, signals left to the parent, an eye on the parent."""
    for name in THREADS:
        os.environ[name] = "1"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(stop,), daemon=True).start()


def _watch(stop: Any) -> None:
    """Pass on the request to stop; and end with the parent, which may have been killed without a word."""
    parent = multiprocessing.parent_process()
    while parent is None or parent.is_alive():
        if stop.value:
            request_stop("the main process stops")
        time.sleep(POLL_S)
    os._exit(1)
