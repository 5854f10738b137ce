"""What a GPU makes of whole scans: time, memory, precision, and the part of its arithmetic that is used.

    python benchmarks/gpu.py [--device cuda] [--seconds 60] [--json FILE] [--small]

The shipped network runs over phantoms of three sizes in the ways of ``inference.py``, and once as `unipet denoise` has
it, all in one process. Every row has the first call, which also chooses kernels, the median of those that follow, and
the peak of memory above input and weights. On the smallest phantom a row is compared with the CPU in float32. FLOP/s
count one pass over the volume: what a way computes twice is not in its favour. ``ieee`` is float32 without the shorter
mantissa (TF32) that cuDNN takes for it by default. ``product`` leaves out what lies beyond the body and conserves SUV,
so that its difference is no error. A row that fails says why, and the others go on; none begins when the seconds are
over. ``--small`` is for trying the script without a GPU.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from inference import attainable, flops_of_one_pass, peak_bytes, phantom, start_of_peak, synchronise, ways
from torch import Tensor

from pipeline.inference import Denoiser
from pipeline.pet import PETHeader, PETSeries

VOLUMES = (((96, 96, 192), 5.0), ((192, 288, 520), 2.0), ((440, 440, 644), 1.65))
SMALL_VOLUMES = (((32, 32, 48), 16.0), ((48, 40, 64), 12.0))
STREAMED = ("stream", "stream-ieee", "stream-bf16", "stream-f16")
NAMES = ("product", *STREAMED, "whole", "whole-bf16", "window64-bf16", "window64")
SLOW = ("window64-bf16", "window64")
"""Left out on the largest volume, whose windows alone would take a minute."""
REPEATS = 3
LONG = 2.0
"""Seconds of a call that is not repeated."""


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Let float32 be float32 on a GPU where a way's name asks for it."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = before and not name.endswith("-ieee")
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def one_way(name: str, series: PETSeries, denoiser: Denoiser, device: torch.device) -> tuple[Callable[[], Tensor], str]:
    """Return a call that denoises the series, and its precision."""
    if name == "product":
        streaming = denoiser.inferer
        while hasattr(streaming, "inferer"):
            streaming = streaming.inferer
        return lambda: torch.from_numpy(denoiser(series).suv)[None, None], str(streaming.dtype or "float32")
    way = ways(device)[name.removesuffix("-ieee")]
    x = torch.from_numpy(series.suv)[None, None].to(device) / denoiser.suv_scale
    return lambda: way.run(x, denoiser.network) * denoiser.suv_scale, way.dtype


def measured(call: Callable[[], Tensor], device: torch.device) -> tuple[Tensor, dict[str, float]]:
    """Call once and a few times more; the result, milliseconds, and MiB."""
    seconds: list[float] = []
    base = start_of_peak(device)
    while len(seconds) <= REPEATS and (not seconds or seconds[0] < LONG):
        synchronise(device)
        started = time.perf_counter()
        result = call()
        synchronise(device)
        seconds.append(time.perf_counter() - started)
    figures = {"first_ms": 1e3 * seconds[0], "ms": 1e3 * statistics.median(seconds[1:] or seconds)}
    return result, {**figures, "peak_mib": (peak_bytes(device) - base) / 2**20}


def row(name: str, series: PETSeries, denoiser: Denoiser, device: torch.device, reference: Tensor | None) -> dict:
    """Return one row of the table."""
    call, dtype = one_way(name, series, denoiser, device)
    with torch.inference_mode(), precision(name):
        result, figures = measured(call, device)
    found = {"dtype": dtype.removeprefix("torch."), **figures, "voxels_per_s": series.suv.size / figures["ms"] * 1e3}
    found["tflop_per_s"] = flops_of_one_pass(denoiser.network, series.suv.shape) / figures["ms"] / 1e9
    if reference is not None:
        off = (result.float().cpu() - reference).double()
        found["rms_of_signal"] = float(off.norm() / reference.double().norm())
        found["max_g_per_ml"] = float(off.abs().max())
    return found


def table(rows: list[dict]) -> str:
    """Return the rows as text."""
    columns = ("first_ms", "ms", "voxels_per_s", "peak_mib", "tflop_per_s", "rms_of_signal", "max_g_per_ml")
    lines = [f"{'volume':16}{'way':15}{'dtype':>9}" + "".join(f"{column:>14}" for column in columns)]
    for entry in rows:
        start = f"{'x'.join(map(str, entry['shape'])):16}{entry['way']:15}"
        if "error" in entry:
            lines.append(f"{start}{entry['error']}")
        else:
            values = "".join(f"{entry[column]:14.4g}" if column in entry else f"{'-':>14}" for column in columns)
            lines.append(f"{start}{entry['dtype']:>9}{values}")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    parser.add_argument("--seconds", type=float, default=60, help="no row begins after so many")
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--small", action="store_true", help="two tiny volumes")
    options = parser.parse_args()
    device, end = options.device, time.monotonic() + options.seconds
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    denoiser = Denoiser.from_bundle(device=device)
    types = {key: attainable(device, getattr(torch, key)) / 1e12 for key in ("float32", "bfloat16")}
    machine = {"device": name, "torch": torch.__version__, "matrix_product_tflop_per_s": types}
    print(machine, flush=True)
    rows: list[dict] = []
    reference = None
    volumes = SMALL_VOLUMES if options.small else VOLUMES
    for shape, voxel_size in volumes:
        affine = np.diag([voxel_size, voxel_size, voxel_size, 1.0])
        series = PETSeries(suv=phantom(shape, voxel_size), affine=affine, header=PETHeader(units="GML"))
        if not rows:
            on_cpu = Denoiser.from_bundle(device="cpu")
            with torch.inference_mode():
                reference = ways(torch.device("cpu"))["whole"].run(
                    torch.from_numpy(series.suv)[None, None] / on_cpu.suv_scale, on_cpu.network
                )
            reference = reference * on_cpu.suv_scale
        known = {"product", "stream-ieee", *ways(device)}
        for way in (way for way in NAMES if way in known):
            if time.monotonic() > end or (way in SLOW and shape == VOLUMES[-1][0]):
                continue
            entry = {"shape": shape, "way": way}
            try:
                entry |= row(way, series, denoiser, device, reference)
            except Exception as error:  # noqa: BLE001 - on an unknown device anything may fail, and the rest counts
                entry["error"] = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            rows.append(entry)
            print(table([entry]).splitlines()[-1], flush=True)
            if options.json is not None:
                options.json.write_text(json.dumps({**machine, "rows": rows}, indent=2) + "\n")
            if device.type == "cuda":
                torch.cuda.empty_cache()
        reference = None
    print(table(rows))


if __name__ == "__main__":
    main()
