"""Tests of fastinit."""

import os

# Before NumPy is loaded, here and in what the tests start: threads that wait for each other by spinning cost up to ten
# times the CPU time of the small products of matrices in these tests, most where other processes want the cores too.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
