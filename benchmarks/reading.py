"""How long reading a PET series takes, against a bare pydicom loop over its files.

``python -m benchmarks.reading FOLDER`` reads the series both ways in turn, so that whatever else the machine does
meets both alike, and prints the ratio of the fastest and of the median times. The bare loop reads every file and
decodes its pixels, and does nothing with them; `read_pet` also checks, sorts and scales them. The exit code is 1 if
the ratio of the medians is above the limit.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pydicom

from pipeline.pet import read_pet

LIMIT = 1.5
"""`read_pet` may take so many times as long as the bare loop."""


def bare_loop(folder: Path) -> None:
    """Read and decode every file of a folder, one after the other."""
    for path in sorted(folder.iterdir()):
        _ = pydicom.dcmread(path).pixel_array


def seconds(read: Callable[[Path], object], folder: Path) -> float:
    """Return how long one call takes [s]."""
    started = time.perf_counter()
    read(folder)
    return time.perf_counter() - started


def main() -> int:
    """Print both times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of one DICOM PET series, and nothing else")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    # Once untimed, so that no side pays for the disk and the imports.
    bare_loop(options.folder)
    series = read_pet(options.folder)
    bare, ours = [], []
    for _ in range(options.repeats):
        bare.append(seconds(bare_loop, options.folder))
        ours.append(seconds(read_pet, options.folder))
    print(f"{len(series.source_files)} files, {options.repeats} times in turn, warm disk")
    for name, of in (("fastest", min), ("median", statistics.median)):
        print(f"{name:8} bare loop {of(bare):.3f} s, read_pet {of(ours):.3f} s, ratio {of(ours) / of(bare):.2f}")
    return int(statistics.median(ours) / statistics.median(bare) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
