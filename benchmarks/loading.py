"""What a random patch costs, read in four ways.

python benchmarks/loading.py [--volumes 4 16] [--crops 24]

Random crops of 64^3 from scans of 192x288x256 voxels, all ways taking turns in one run, as CPU milliseconds per crop:
NIfTI through MONAI's LoadImaged; PersistentDataset, which keeps loaded volumes on disk; a memory-mapped .npy; the
store. Then the memory that a process needs beyond its imports to read crops from 4 and from 16 scans, each in a process
of its own (Linux only). The scans are noise in an ellipse and weaker noise around it, the hardest case for compression;
they are made in a temporary folder (about 200 MB per scan) and removed.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from monai.data import Dataset, PersistentDataset
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, RandSpatialCropd
from scipy.ndimage import gaussian_filter

from pipeline.data import Manifest, Store, prepare_store
from pipeline.data.manifest import Image, Licence, Subject
from pipeline.pet import PETHeader, PETSeries, write_nifti

SHAPE = (192, 288, 256)
PATCH = 64

Reader = Callable[[int, np.random.Generator], object]


def make_scans(folder: Path, n_volumes: int) -> None:
    """Write the scans in every form."""
    rng = np.random.default_rng(0)
    x, y, _ = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in SHAPE)]
    level = np.where((x / 0.85) ** 2 + (y / 0.6) ** 2 < 1, 1.0, 0.02)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    subjects = []
    for n in range(n_volumes):
        suv = (level * np.abs(2 + 8 * gaussian_filter(rng.normal(size=SHAPE), 1.2))).astype(np.float32)
        write_nifti(PETSeries(suv=suv, affine=affine, header=PETHeader(units="GML")), folder / f"{n}.nii.gz")
        np.save(folder / f"{n}.npy", suv)
        image = Image(path=f"{n}.nii.gz")
        subjects.append(Subject(id=f"{n}", patient=f"{n}", split="train", images=(image,)))
    manifest = Manifest(
        name="noise",
        title="Noise",
        source="random numbers",
        how_to_get="run this",
        licence=Licence(name="none", allows="everything"),
        layout="bids_pet",
        subjects=tuple(subjects),
    )
    print(prepare_store(manifest, folder / "store", root=folder))


def readers(folder: Path, n_volumes: int) -> dict[str, Callable[[], Reader]]:
    """Ways to read, by name; each is made when it is called."""
    items = [{"image": str(folder / f"{n}.nii.gz")} for n in range(n_volumes)]
    load = [LoadImaged("image", image_only=True), EnsureChannelFirstd("image")]
    crop = RandSpatialCropd("image", (PATCH,) * 3, random_size=False)

    def monai_reader(dataset: Dataset) -> Reader:
        def read(n: int, rng: np.random.Generator) -> object:
            crop.set_random_state(seed=int(rng.integers(2**32)))
            return dataset[n]["image"]

        return read

    def nifti() -> Reader:
        return monai_reader(Dataset(items, Compose([*load, crop])))

    def persistent() -> Reader:
        return monai_reader(PersistentDataset(items, Compose([*load, crop]), cache_dir=folder / "cache"))

    def slices(rng: np.random.Generator) -> tuple[slice, ...]:
        return tuple(slice(a, a + PATCH) for a in (int(rng.integers(n - PATCH + 1)) for n in SHAPE))

    def memmap() -> Reader:
        return lambda n, rng: torch.from_numpy(np.load(folder / f"{n}.npy", mmap_mode="r")[slices(rng)].copy())

    def store() -> Reader:
        opened = Store(folder / "store")
        return lambda n, rng: torch.from_numpy(opened.volume(str(n), "full")[slices(rng)])

    return {"LoadImaged, nii.gz": nifti, "PersistentDataset": persistent, "npy, memory-mapped": memmap, "store": store}


def print_times(folder: Path, n_volumes: int, n_crops: int) -> None:
    """Print CPU milliseconds per crop, and how many times as fast the store is."""
    ways = {name: make() for name, make in readers(folder, n_volumes).items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for name in ways:
        for n in range(n_volumes):  # fills the cache of PersistentDataset
            ways[name](n, np.random.default_rng(n))
    for k in range(n_crops):
        for name, read in ways.items():
            began = time.process_time()
            read(k % n_volumes, np.random.default_rng(k))
            seconds[name].append(time.process_time() - began)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"\n{n_crops} crops of {PATCH}^3, median CPU ms per crop, and how many times the store's")
    for name, value in medians.items():
        print(f"{name:22} {1e3 * value:8.2f} {value / medians['store']:8.1f}")


def print_memory(folder: Path, name: str, n_volumes: int, n_crops: int) -> None:
    """Print the peak memory of this process beyond what its imports took [MiB]."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _peak_memory()
    read = readers(folder, n_volumes)[name]()
    for k in range(max(n_crops, 2 * n_volumes)):
        read(k % n_volumes, np.random.default_rng(k))
    print(f"{name:22} {n_volumes:4} scans {_peak_memory() - before:8.1f} MiB", flush=True)


def _peak_memory() -> float:
    """Largest resident memory so far [MiB]; unlike getrusage's, not that of the process it was started from."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    """Make the scans, time the four ways, and measure their memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volumes", type=int, nargs="+", default=[4, 16], help="numbers of scans")
    parser.add_argument("--crops", type=int, default=24, help="crops to time")
    parser.add_argument("--memory", nargs=3, metavar=("FOLDER", "WAY", "SCANS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.memory is not None:
        folder, name, n_volumes = options.memory
        print_memory(Path(folder), name, int(n_volumes), options.crops)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_scans(folder, max(options.volumes))
        print_times(folder, min(options.volumes), options.crops)
        print("\npeak memory beyond the imports", flush=True)
        for way in readers(folder, 1):
            for n_volumes in options.volumes:
                command = [sys.executable, __file__, "--crops", str(options.crops)]
                subprocess.run([*command, "--memory", folder, way, str(n_volumes)], check=True)


if __name__ == "__main__":
    main()
