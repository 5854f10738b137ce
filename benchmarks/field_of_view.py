"""Seconds and memory of the shipped network on a volume of any shape: python benchmarks/field_of_view.py 440 440 644

The volume is noise; what a network costs does not depend on what it sees.
"""

import resource
import sys
import time

import torch

from pipeline import Denoiser


def main(shape: tuple[int, ...]) -> None:
    """Print wall seconds and the peak memory of the process, the volume itself included."""
    denoiser = Denoiser.from_bundle()
    volume = torch.rand(1, 1, *shape)
    started = time.perf_counter()
    with torch.inference_mode():
        denoiser.inferer(volume.to(denoiser.device), denoiser.network)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{' x '.join(map(str, shape))} on {denoiser.device}: {seconds:.0f} s, peak {peak:.1f} GiB")


if __name__ == "__main__":
    main(tuple(int(n) for n in sys.argv[1:4]))
