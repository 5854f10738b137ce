"""CPU seconds and peak memory of one simulated subject.

python benchmarks/simulation.py generic_tof [--device cuda]

Each scanner runs in a process of its own, since memory is that of the process at its worst. The first subject of
a scanner also pays for its matrices, so two are measured.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

from pipeline.simulation import SCANNERS, scanner_preset, simulate_subject

FACTORS = (2, 4, 10, 20, 50, 100)


def measure(scanner: str, *, device: str | None, n_subjects: int) -> dict[str, object]:
    """Simulate subjects in this process."""
    cpu_seconds, wall_seconds = [], []
    for seed in range(n_subjects):
        cpu, wall = time.process_time(), time.perf_counter()
        simulate_subject(seed, scanner=scanner_preset(scanner), dose_reduction_factors=FACTORS, device=device)
        cpu_seconds.append(round(time.process_time() - cpu, 1))
        wall_seconds.append(round(time.perf_counter() - wall, 1))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    shape = "x".join(map(str, scanner_preset(scanner).matrix))
    return {
        "scanner": scanner,
        "matrix": shape,
        "device": device or "numpy",
        "cpu_s": cpu_seconds,
        "wall_s": wall_seconds,
        "peak_gib": round(peak, 2),
    }


def main() -> None:
    """Print one line of JSON for each scanner."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scanners", nargs="*", default=["generic_tof"], choices=SCANNERS)
    parser.add_argument("--device", help="device of torch; by default numpy")
    parser.add_argument("--subjects", type=int, default=2, help="subjects of each scanner")
    arguments = parser.parse_args()
    if len(arguments.scanners) == 1:
        row = measure(arguments.scanners[0], device=arguments.device, n_subjects=arguments.subjects)
        print(json.dumps(row), flush=True)
        return
    options = ["--subjects", str(arguments.subjects)]
    options += [] if arguments.device is None else ["--device", arguments.device]
    for scanner in arguments.scanners:
        subprocess.run([sys.executable, __file__, scanner, *options], check=True)


if __name__ == "__main__":
    main()
