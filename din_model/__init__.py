"""The Deep Interest Network in plain PyTorch; never imports pyspark."""

import os

# Threads of torch that wait for another one spin, by default for milliseconds. If another process
# has the core of the thread that they wait for, they only keep it from running: two threads beside
# a busy process trained at 30% of their speed alone, and with this at 50%. The library of threads
# reads it once, when torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
