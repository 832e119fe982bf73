"""Faults on purpose, many and at random: kills, damaged files, a lost database, a full disk.

``python benchmarks/torture.py [--minutes M] [--seed S] [--only KIND,...] [--trials N]``: trial i
of a kind is a function of (seed, kind, i), but the moment of a kill also depends on the machine's
speed. Trials that are done are kept in the work folder, and a second call goes on. It ends with a
table; the exit status is 1 if anything was lost or unclear, or a control did not fire.
"""

import os

# Before numpy and arrow are imported: a process that is forked may have no threads.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
               "JE_ARROW_MALLOC_CONF": "background_thread:false"}  # fmt: skip

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from torture.main import main  # noqa: E402  (the folder beside this file)

if __name__ == "__main__":
    sys.exit(main())
