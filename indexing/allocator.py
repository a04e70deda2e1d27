"""How glibc's allocator is told to keep freed memory for what comes next.

By itself it gives large blocks back to the system when they are freed, and each new one is pages that
the system has to clear: 3 600 of them for the arrays of one photo, a tenth of a scan's time, and a
third of a training step's on a CPU. See mallopt(3).
"""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
# The most that mallopt takes. Larger blocks go back to the system: indexes, and all that is rare.
LARGEST_KEPT = 32 << 20
MOST_KEPT = 256 << 20


def keep_freed_memory(*, of_any_size: bool = False) -> None:
    """Has this process keep what it frees: 256 MiB in blocks of up to 32 MiB, or all.

    Does nothing where the C library has no mallopt.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    if of_any_size:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    else:
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(M_TRIM_THRESHOLD, MOST_KEPT)
