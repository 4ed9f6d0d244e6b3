"""Memory that torch frees, kept for its next tensors."""

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of mallopt(3)
LARGEST_MMAP_THRESHOLD = 32 << 20


def keep_freed_blocks() -> None:
    """Let this process keep what it frees (glibc; elsewhere nothing happens).

    A batch's tensors are a few megabytes each. glibc hands such blocks back to the kernel as soon
    as they are free, and the next one is faulted in page by page: on a CPU that took longer than
    the arithmetic, and a training step was twice as slow. The price: memory once used stays with
    the process until it ends.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        mallopt(TRIM_THRESHOLD, 2**31 - 1)
