"""What ways of running one network over a whole scan cost, and what they do to the result.

``python benchmarks/inference.py --shape 96 96 192`` runs every way on the same volume with the same weights, in turn,
each in a process of its own so that its peak memory is its own, and prints a table: CPU and wall seconds, peak memory
above that of input and weights, difference from the whole volume in float32 (in units of the network, and relative to
the signal), and the ratio of gradients across tile borders to those nearby, relative to that of the whole volume at
the same places (1: no seams).

The volume is a body of ordinary size in noise, or a scan with ``--scan``; ``--write FILE`` writes it as NIfTI and
stops, for a run from file to files. The network is the published one with random weights whose change of the image is
as large as its noise, or the shipped one with ``--network shipped``. Ways called ``box`` compute the body only and are
compared inside its boxes. On a GPU there are three more ways: float16, and the folded network through torch.compile
without and with CUDA graphs; every row says which part of the attainable FLOP/s it reaches.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from monai.inferers import SlidingWindowInferer
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline import read_pet
from pipeline.evaluation import seam_ratio
from pipeline.inference import Denoiser, StreamingInferer, make_plan
from pipeline.inference.streaming.slabs import occupied_cells, plane_boxes
from pipeline.networks import UniPET
from pipeline.pet import PETHeader, PETSeries, write_nifti

BODY_THRESHOLD = 0.05
"""Of the body mask, in units of the network."""

_COLUMNS = ("name", "dtype", "cpu_s", "wall_s", "peak_mib", "max_diff", "rms_diff", "seam")


@dataclass(frozen=True)
class Way:
    """One way of running the network."""

    run: Callable[[Tensor, UniPET], Tensor]
    """Volume (1, 1, X, Y, Z) and network -> result."""
    dtype: str
    """Precision of the layers."""
    tile: int
    """Side of a window, 0 for slabs."""
    stride: int = 0
    """Distance of windows."""
    crop: int = 0
    """Voxels cut off a window before it is pasted."""


def hard_paste(x: Tensor, network: UniPET, *, tile: int = 64, stride: int = 32, crop: int = 3) -> Tensor:
    """The released code's scheme: windows one by one, each pasted over those before without its outermost voxels."""
    out = torch.zeros_like(x)
    for corner in product(*(_starts(n, tile, stride) for n in x.shape[2:])):
        window = tuple(slice(a, a + tile) for a in corner)
        result = network(x[(..., *window)])
        # At the volume's own border nothing is cut.
        inner = [
            slice(crop if a else 0, min(tile, n) - (crop if a + tile < n else 0))
            for a, n in zip(corner, x.shape[2:], strict=True)
        ]
        target = tuple(slice(a + s.start, a + s.stop) for a, s in zip(corner, inner, strict=True))
        out[(..., *target)] = result[(..., *inner)]
    return out


def autocast(x: Tensor, network: nn.Module, *, dtype: torch.dtype | None) -> Tensor:
    """network(x) under autocast, float32 outside; None is float32 inside, too."""
    x = x.contiguous(memory_format=torch.channels_last_3d)
    with torch.autocast(x.device.type, dtype=dtype, enabled=dtype is not None):
        return network(x).float()


def sliding(x: Tensor, network: UniPET, *, tile: int, overlap: float, dtype: torch.dtype | None) -> Tensor:
    """MONAI's sliding window, Gaussian weights, blended in float32."""
    inferer = SlidingWindowInferer((tile,) * 3, sw_batch_size=1, overlap=overlap, mode="gaussian")
    return inferer(x, partial(autocast, network=network, dtype=dtype))  # type: ignore[return-value]


def compiled(x: Tensor, network: UniPET, *, mode: str) -> Tensor:
    """The folded network compiled for slabs of one shape with their halo, bfloat16."""
    plain = network.fold(network.encode_style(x)).to(torch.bfloat16, memory_format=torch.channels_last_3d)
    fast = torch.compile(plain, mode=mode, dynamic=False)
    halo, n = plain.receptive_radius + plain.resolution_factor, x.shape[2]
    halo -= halo % plain.resolution_factor
    thickness = min(n, 6 * halo)
    out = torch.empty_like(x)
    for start in range(0, n, thickness - 2 * halo):
        # All pieces are equally thick: the last one reaches back.
        low = min(max(start - halo, 0), n - thickness)
        piece = x[:, :, low : low + thickness]
        change = fast(piece.bfloat16()).float() - piece.bfloat16().float()
        first, last = (0 if low == 0 else halo), (thickness if low + thickness == n else thickness - halo)
        out[:, :, low + first : low + last] = (piece + change)[:, :, first:last]
        if low + thickness == n:
            break
    return out


def ways(device: torch.device) -> dict[str, Way]:
    """All ways, by name."""
    bf16 = torch.bfloat16

    def streaming(x: Tensor, network: UniPET, *, dtype: torch.dtype | None = None, box: bool = False) -> Tensor:
        return StreamingInferer(dtype=dtype, body_threshold=BODY_THRESHOLD if box else None)(x, network)

    found = {
        "whole": Way(lambda x, network: network(x), "float32", 0),
        "whole-bf16": Way(partial(autocast, dtype=bf16), "bfloat16", 0),
        "stream": Way(streaming, "float32", 0),
        "stream-box": Way(partial(streaming, box=True), "float32", 0),
        "stream-bf16": Way(partial(streaming, dtype=bf16), "bfloat16", 0),
        "stream-bf16-box": Way(partial(streaming, dtype=bf16, box=True), "bfloat16", 0),
        "window64": Way(partial(sliding, tile=64, overlap=0.5, dtype=None), "float32", 64, 32),
        "window64-bf16": Way(partial(sliding, tile=64, overlap=0.5, dtype=bf16), "bfloat16", 64, 32),
        "window96": Way(partial(sliding, tile=96, overlap=0.25, dtype=None), "float32", 96, 72),
        "window96-bf16": Way(partial(sliding, tile=96, overlap=0.25, dtype=bf16), "bfloat16", 96, 72),
        "hardpaste64": Way(hard_paste, "float32", 64, 32, 3),
    }
    if device.type == "cuda":
        found["stream-f16"] = Way(partial(streaming, dtype=torch.float16), "float16", 0)
        found["compile-bf16"] = Way(partial(compiled, mode="default"), "bfloat16", 0)
        found["cudagraph-bf16"] = Way(partial(compiled, mode="reduce-overhead"), "bfloat16", 0)
    return found


def phantom(shape: tuple[int, ...], voxel_size: float) -> np.ndarray:
    """A body of ordinary size in noise, SUV [g/mL], float32 (X, Y, Z): what costs and seams depend on, no anatomy."""
    rng = np.random.default_rng(0)
    x, y, z = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * voxel_size for n in shape), indexing="ij", sparse=True)
    top = z.max()

    def cylinder(centre: tuple[float, float], axes: tuple[float, float], span: tuple[float, float]) -> np.ndarray:
        inside = ((x - centre[0]) / axes[0]) ** 2 + ((y - centre[1]) / axes[1]) ** 2 < 1
        return inside & (top - z >= span[0]) & (top - z < span[1])

    body = cylinder((0, 10), (80, 100), (0, 250)) | cylinder((0, 0), (180, 115), (250, 850))
    for side in (-1, 1):
        body = body | cylinder((side * 205, 0), (35, 40), (280, 900)) | cylinder((side * 85, 0), (70, 75), (850, 1700))
    suv = np.where(body, np.float32(1), np.float32(0))
    suv += body * 5 * cylinder((90, 0), (18, 18), (400, 430)) + body * 2 * cylinder((-60, 0), (70, 60), (450, 600))
    noise = rng.standard_normal(shape, dtype=np.float32) * np.float32(0.3)
    return np.maximum(suv + noise * np.sqrt(suv + np.float32(0.002)), 0).astype(np.float32)


def published(seed: int = 0) -> UniPET:
    """The published network with random weights and a change of about a tenth of the image."""
    generator = torch.Generator().manual_seed(seed)
    network = UniPET(tissue_threshold=2 * BODY_THRESHOLD)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            std = (0.5 if "style_maps" in name else 1.0) * parameter[0].numel() ** -0.5
            drawn = torch.randn(parameter.shape, generator=generator) * std
            if parameter.numel() > 1:  # the activations' slopes stay
                parameter.copy_(drawn if parameter.ndim > 1 else 0.1 * drawn)
        for block in network.base.blocks:
            block.res_scale.fill_(0.3)
        network.base.reconstruct.weight *= 0.1
    return network.eval()


def tile_borders(way: Way, x: Tensor, network: UniPET) -> list[list[int]]:
    """First planes of tiles along each axis."""
    shape = x.shape[2:]
    if way.tile == 0:
        dtype = getattr(torch, way.dtype)
        plan = make_plan(network, x, dtype=dtype)
        starts = (slab.start * plan.resolution_factor for slab in plan.slabs)
        return [[start for start in starts if 0 < start < shape[0]], [], []]
    borders = []
    for n in shape:
        starts = _starts(n, way.tile, way.stride)
        edges = {a + way.crop for a in starts if a}
        if not way.crop:
            edges |= {a + way.tile for a in starts}
        borders.append(sorted(edge for edge in edges if 0 < edge < n))
    return borders


def _starts(n: int, tile: int, stride: int) -> list[int]:
    return [0] if n <= tile else [*range(0, n - tile, stride), n - tile]


def work(options: argparse.Namespace) -> None:
    """One way, once, in this process: its figures to standard output, its result to a file."""
    x, network = _inputs(options)
    way = ways(x.device)[options.worker]
    with torch.inference_mode():
        way.run(x[:, :, :32, :32, :32], network)  # loads libraries
        synchronise(x.device)
        base = start_of_peak(x.device)
        wall, cpu = time.perf_counter(), time.process_time()
        result = way.run(x, network)
        synchronise(x.device)
        seconds = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
        peak = (peak_bytes(x.device) - base) / 2**20
    np.save(options.result, result[0, 0].float().cpu().numpy())
    print(json.dumps({**seconds, "peak_mib": peak}))


def _inputs(options: argparse.Namespace) -> tuple[Tensor, UniPET]:
    device = torch.device(options.device)
    if options.network == "shipped":
        denoiser = Denoiser.from_bundle(device=device)
        network, scale = denoiser.network, denoiser.suv_scale
    else:
        network, scale = published().to(device), 2.0
    return torch.from_numpy(np.load(options.volume))[None, None].to(device) / scale, network  # type: ignore[return-value]


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def start_of_peak(device: torch.device) -> int:
    """Bytes in use now, from which on the peak counts."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status("VmRSS:")


def peak_bytes(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _status("VmHWM:")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def compare(options: argparse.Namespace, folder: Path) -> list[dict]:
    """Run the ways in turn and return their rows."""
    x, network = _inputs(options)
    chosen = {name: way for name, way in ways(x.device).items() if name in options.strategies}
    measured: dict[str, list[dict]] = {name: [] for name in chosen}
    for _ in range(options.repeats):
        for name in chosen:
            print(f"running {name}", file=sys.stderr, flush=True)
            measured[name].append(_in_process(options, name, folder))
    cells = occupied_cells(x, threshold=BODY_THRESHOLD, cell=network.base.resolution_factor)
    factor = network.base.resolution_factor
    boxes = plane_boxes(cells).cpu().numpy().repeat(factor, 0).repeat(factor, 1).repeat(factor, 2)
    boxes = boxes[tuple(slice(n) for n in x.shape[2:])]
    body = occupied_cells(x, threshold=BODY_THRESHOLD, cell=1).cpu().numpy()
    reference = np.load(folder / "whole.npy") if "whole" in chosen else None
    rows = []
    for name, way in chosen.items():
        result = np.load(folder / f"{name}.npy")
        row = {"name": name, "dtype": way.dtype}
        row |= {key: statistics.median(run[key] for run in measured[name]) for key in ("cpu_s", "wall_s", "peak_mib")}
        row |= {"max_diff": None, "rms_diff": None}
        if reference is not None:
            off = (result - reference)[boxes] if "box" in name else result - reference
            row |= {"max_diff": float(np.abs(off).max()), "rms_diff": float(np.sqrt(np.square(off).mean()))}
        row["seam"] = _seam(result, tile_borders(way, x, network), body, reference)
        rows.append(row)
    return rows


def _seam(result: np.ndarray, borders: list[list[int]], body: np.ndarray, reference: np.ndarray | None) -> float | None:
    try:
        return seam_ratio(result, borders, mask=body, reference=reference)
    except ValueError:  # one tile holds it all
        return None


def _in_process(options: argparse.Namespace, name: str, folder: Path) -> dict:
    command = [sys.executable, __file__, "--worker", name, "--result", str(folder / f"{name}.npy")]
    command += ["--volume", options.volume, "--network", options.network, "--device", options.device]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def attainable(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product, the best of five."""
    n = 8192 if device.type == "cuda" else 1536
    a = torch.randn(n, n, device=device, dtype=dtype)  # zeros and ones are multiplied faster
    best = 0.0
    for _ in range(5):
        started = time.perf_counter()
        a @ a
        synchronise(device)
        best = max(best, 2 * n**3 / (time.perf_counter() - started))
    return best


def flops_of_one_pass(network: UniPET, shape: tuple[int, ...]) -> float:
    """Floating-point operations of the base network's convolutions on a volume, counted by torch on a small one."""
    counter, side = FlopCounterMode(display=False), 32
    with torch.inference_mode(False), torch.enable_grad(), counter:  # torch does not count oneDNN's own convolutions
        network.base(torch.rand(1, 1, side, side, side, device=next(network.parameters()).device))
    return counter.get_total_flops() * float(np.prod(shape)) / side**3


def print_table(rows: list[dict], options: argparse.Namespace, folder: Path) -> None:
    """The rows as text, with the difference relative to the signal and the part of the attainable FLOP/s."""
    x, network = _inputs(options)
    signal = float(np.sqrt(np.square(np.load(folder / "whole.npy")).mean())) if "whole" in options.strategies else None
    flops = flops_of_one_pass(network, tuple(x.shape[2:]))
    peak = {name: attainable(x.device, getattr(torch, name)) for name in {row["dtype"] for row in rows}}
    threads = f"{torch.get_num_threads()} threads" if x.device.type == "cpu" else torch.cuda.get_device_name(x.device)
    print(f"{' x '.join(map(str, x.shape[2:]))}, {options.network} network, {threads}")
    print(f"body boxes: {make_plan(network, x, dtype=torch.bfloat16, cells=_cells(x, network))}")
    print(
        f"{'':18}{'dtype':>9}{'CPU s':>9}{'wall s':>9}{'MiB':>8}"
        f"{'max diff':>10}{'rms diff':>10}{'rms %':>7}{'seam':>8}{'FLOP/s':>8}"
    )
    for row in rows:
        percent = "-" if signal is None else f"{100 * row['rms_diff'] / signal:.3f}"
        seam = "-" if row["seam"] is None else f"{row['seam']:.4f}"
        # Of the work that is asked for: what a way computes twice, or leaves out, is not counted in its favour.
        reached = "-" if "box" in row["name"] else f"{flops / row['wall_s'] / peak[row['dtype']]:.0%}"
        diff = ("-", "-") if row["max_diff"] is None else (f"{row['max_diff']:.2g}", f"{row['rms_diff']:.2g}")
        print(
            f"{row['name']:18}{row['dtype']:>9}{row['cpu_s']:9.2f}{row['wall_s']:9.2f}{row['peak_mib']:8.0f}"
            f"{diff[0]:>10}{diff[1]:>10}{percent:>7}{seam:>8}{reached:>8}"
        )
    if x.device.type == "cpu":
        print("no GPU was used: torch.compile and CUDA graphs are compared where there is one (--device cuda)")


def _cells(x: Tensor, network: UniPET) -> Tensor:
    return occupied_cells(x, threshold=BODY_THRESHOLD, cell=network.base.resolution_factor)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=(96, 96, 192), metavar=("X", "Y", "Z"))
    parser.add_argument("--voxel-size", type=float, default=5.0, help="of the phantom [mm]")
    parser.add_argument("--scan", type=Path, help="PET series to use instead of the phantom")
    parser.add_argument("--write", type=Path, help="write the volume as NIfTI and stop")
    parser.add_argument("--network", choices=("published", "shipped"), default="published")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--strategies", nargs="+", metavar="NAME", help="some of the ways, by name")
    parser.add_argument("--repeats", type=int, default=1, help="rounds over all ways; medians are reported")
    parser.add_argument("--json", type=Path, help="write the rows here")
    for hidden in ("--worker", "--volume", "--result"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options)
        return
    known = list(ways(torch.device(options.device)))
    if unknown := set(options.strategies or ()) - set(known):
        parser.error(f"unknown strategies {', '.join(sorted(unknown))}, expected some of {', '.join(known)}")
    options.strategies = options.strategies or known
    suv = phantom(tuple(options.shape), options.voxel_size) if options.scan is None else read_pet(options.scan).suv
    if options.write is not None:
        size = options.voxel_size
        series = PETSeries(suv=suv, affine=np.diag([size, size, size, 1.0]), header=PETHeader(units="GML"))
        write_nifti(series, options.write)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options.volume = os.fspath(folder / "volume.npy")
        np.save(options.volume, suv)
        rows = compare(options, folder)
        print_table(rows, options, folder)
    if options.json is not None:
        options.json.write_text(json.dumps([{key: row[key] for key in _COLUMNS} for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
