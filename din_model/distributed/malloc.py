"""Keeps memory that torch frees in the process, for its next tensors."""

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of mallopt(3)
LARGEST_MMAP_THRESHOLD = 32 << 20


def keep_freed_blocks() -> None:
    """Stop glibc from returning freed memory to the kernel. No effect on other C libraries.

    The tensors of a batch take a few megabytes each. glibc returns such blocks to the kernel when
    they are freed, and the next allocation is faulted in page by page. On a CPU that took longer
    than the arithmetic and doubled the time of a training step. The cost: memory that was used once
    stays with the process until it ends.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        mallopt(TRIM_THRESHOLD, 2**31 - 1)
