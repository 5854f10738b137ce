"""What it costs to say how far a result may be believed, beside denoising itself.

`OMP_NUM_THREADS=1 python benchmarks/trust.py SCAN --repeats 12` denoises a scan as `unipet denoise` does, in one
process, and prints CPU seconds of all but trust, of trust, their ratio, and, with `--repeats`, those of the repeats.
Each is the median of `--times` runs after one that warms up.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pipeline.workflow.denoise as workflow
from pipeline.inference import Denoiser
from pipeline.workflow import RepeatRule, denoise_scan


class Timed:
    """A function, and the CPU seconds that its calls took."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.seconds: list[float] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        begun = time.process_time()
        result = self.function(*args, **kwargs)
        self.seconds.append(time.process_time() - begun)
        return result


def main() -> None:
    """Denoise, and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("scan", type=Path)
    parser.add_argument("--repeats", type=int, default=0)
    parser.add_argument("--times", type=int, default=3)
    args = parser.parse_args()
    denoiser = Denoiser.from_bundle(device="cpu")
    trust = workflow.scan_trust = Timed(workflow.scan_trust)
    repeats = workflow.repeats_of = Timed(workflow.repeats_of)
    whole = Timed(denoise_scan)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.times + 1):
            result = whole(args.scan, Path(folder) / str(number), denoiser)
        if args.repeats:
            denoise_scan(args.scan, Path(folder) / "repeated", denoiser, repeats=RepeatRule(n=args.repeats))
    of_trust = median(trust.seconds[1 : args.times + 1])
    rest = median(a - b for a, b in zip(whole.seconds[1:], trust.seconds[1:], strict=False))
    print(f"{' x '.join(map(str, result.before.suv.shape))} voxels, CPU seconds of {args.times} runs, median:")
    print(f"all but trust {rest:.2f}, trust {of_trust:.2f}: {of_trust / rest:.0%} more")
    if args.repeats:
        print(f"{args.repeats} repeats {repeats.seconds[-1]:.0f}")


if __name__ == "__main__":
    main()
