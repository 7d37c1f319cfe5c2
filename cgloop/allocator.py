"""How this process keeps the memory that it has used: settings of glibc's malloc, nothing elsewhere.

XLA on processors allocates the temporary arrays of a program anew in every call. What is larger than 32 MB, glibc maps
from the system each time, and the system fills every page with zeros when it is first touched: an evaluation of 100
beads with 63 MB of them took 15 ms, and 23 ms more for its 15,000 pages.
"""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
"""Numbers of malloc.h."""


def share_memory() -> bool:
    """Let all threads allocate from one place, the only one that can hold blocks over 64 MB.

    It must be said before there are threads: once one has a place of its own, it keeps it.

    Returns:
        whether the C library could be told.
    """
    return _tell(M_ARENA_MAX, 1)


def keep_memory() -> bool:
    """From here on, keep freed memory in the process, for the next allocation, instead of handing it back.

    The price is that memory stays with the process up to the most it ever had. Blocks over 64 MB are kept if
    `share_memory` came first.

    Returns:
        whether the C library could be told.
    """
    return share_memory() and _tell(M_MMAP_MAX, 0) and _tell(M_TRIM_THRESHOLD, 2**31 - 1)


def _tell(option: int, value: int) -> bool:
    try:
        return bool(ctypes.CDLL(None).mallopt(option, value))
    except (OSError, AttributeError):
        return False
