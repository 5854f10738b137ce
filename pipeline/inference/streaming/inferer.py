"""Exact whole-volume inference at the memory of a slab, and what it shares with the other inferers about a scan."""

import logging
import math
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor

from pipeline.errors import PETError, one_line
from pipeline.inference.streaming.plan import (
    Plan,
    available_memory,
    is_out_of_memory,
    make_plan,
    release_memory,
    streamable_base,
    thinner,
)
from pipeline.inference.streaming.planes import stream
from pipeline.inference.streaming.slabs import occupied_cells, plane_boxes
from pipeline.networks import BaseDenoisingNetwork, ReadsScans
from pipeline.networks.noise.statistics import TISSUE_MASK_RADIUS

__all__ = [
    "InfererAround",
    "Progress",
    "ProgressClock",
    "StreamingInferer",
    "TellsProgress",
    "check_body_threshold",
    "check_finite",
    "check_shape",
    "name_of_scan",
    "voxel_size_of",
]

_LOGGER = logging.getLogger(__name__)


def name_of_scan(inputs: Tensor, index: int) -> str:
    """Return what to call a scan of a batch (B, 1, X, Y, Z): its file where the metadata know it, else its number."""
    files = inputs.meta.get("filename_or_obj") if isinstance(inputs, MetaTensor) else None
    if isinstance(files, list | tuple):
        files = files[index] if index < len(files) else None
    return str(files) if files else f"scan {index + 1} of {len(inputs)}"


def voxel_size_of(inputs: Tensor, index: int) -> tuple[float, ...]:
    """Return the sides of the voxels of a scan of a batch [mm].

    Raises
    ------
    PETError
        If the inputs carry no affine, or one without a voxel size.
    """
    name = name_of_scan(inputs, index)
    if not isinstance(inputs, MetaTensor):
        raise PETError(f"{name}: no affine, the voxel size is unknown")
    affine = inputs.affine.expand(len(inputs), 4, 4)[index]
    size = tuple(float(side) for side in affine[:3, :3].norm(dim=0))
    if not all(0 < side < math.inf for side in size):
        raise PETError(f"{name}: affine has voxels of {size} mm, expected a size above 0")
    return size


def check_shape(x: Tensor) -> None:
    """Refuse what is no batch of volumes.

    Raises
    ------
    ValueError
        If x is not (B, 1, X, Y, Z) with at least one voxel.
    """
    shape = tuple(getattr(x, "shape", ()))
    if not isinstance(x, Tensor) or len(shape) != 5 or shape[1] != 1 or min(shape) < 1:
        raise ValueError(
            f"got {type(x).__name__} of shape {shape}, expected a tensor (B, 1, X, Y, Z) that is not empty"
        )


def check_body_threshold(threshold: float | None) -> None:
    """Refuse a threshold that no comparison can be made with.

    Raises
    ------
    ValueError
        If it is neither None nor a finite number.
    """
    if threshold is not None and not math.isfinite(threshold):
        raise ValueError(f"body_threshold is {threshold}, expected a finite number or None")


def check_finite(x: Tensor, name: str) -> None:
    """Refuse a volume (1, 1, X, Y, Z) with NaN or infinite voxels: convolutions would spread them.

    Raises
    ------
    PETError
        Says how many there are.
    """
    n_bad = sum(int((~torch.isfinite(plane)).sum()) for plane in x[0, 0])
    if n_bad:
        raise PETError(f"{name}: {n_bad} of {x.numel()} voxels are NaN or infinite, expected finite SUV")


@dataclass(frozen=True)
class Progress:
    """State of the scan that is being denoised."""

    done: float
    """Part of the scan's work that is done, 0 to 1."""
    seconds_left: float
    """What remains of this scan at the pace so far [s]."""


@runtime_checkable
class TellsProgress(Protocol):
    """An inferer that tells how far a scan is."""

    on_progress: Callable[[Progress], None] | None
    """Is told the state of the scan; None tells nobody."""


class InfererAround(Inferer):
    """An inferer around another one, `inferer`, that tells what the other tells."""

    def __init__(self, inferer: Inferer) -> None:
        self.inferer = inferer

    @property
    def on_progress(self) -> Callable[[Progress], None] | None:
        """Is told how far a scan is, where the other inferer tells."""
        return self.inferer.on_progress if isinstance(self.inferer, TellsProgress) else None

    @on_progress.setter
    def on_progress(self, on_progress: Callable[[Progress], None] | None) -> None:
        if isinstance(self.inferer, TellsProgress):
            self.inferer.on_progress = on_progress


class ProgressClock:
    """Turn pieces of work into :class:`Progress`, and tell it after every piece; None tells nobody."""

    def __init__(self, on_progress: Callable[[Progress], None] | None) -> None:
        self.on_progress = on_progress
        self.begin(1.0)

    def begin(self, total: float) -> None:
        """Count from zero to a total amount of work."""
        self.total = total
        self.amount = 0.0
        self.begun = time.perf_counter()

    def advance(self, amount: float) -> None:
        """Count a piece of work and tell."""
        self.amount += amount
        if self.on_progress is not None:
            left = (time.perf_counter() - self.begun) / self.amount * (self.total - self.amount)
            self.on_progress(Progress(min(self.amount / self.total, 1.0), max(left, 0.0)))


class StreamingInferer(Inferer):
    """Run UniPET or its base network over whole scans slab by slab, without seams.

    They are streamed along X, the axis along which slabs are contiguous in memory: a convolution keeps the last two
    planes that it was fed, so a slab continues where the one before ended and nothing is computed twice. The style is
    computed once per scan, from all of it, and folded into plain weights; the result has the bits of one pass of these
    over the whole volume, on a CPU, in every precision. Other networks are run by
    :class:`~pipeline.inference.WindowInferer`.

    Parameters
    ----------
    slab
        Planes fed at once, rounded up to the network's resolution; None chooses what is fast. Memory grows with it,
        the result does not change. Halved, and begun anew, where memory does not suffice.
    dtype
        Precision of the layers, such as ``torch.bfloat16``; None is that of the weights. The image skip stays in the
        input's precision.
    body_threshold
        Compute only the body: voxels whose 5x5x5 mean exceeds this, in the network's scaled SUV. Inside the bounding
        box of the body in every plane the result has the bits of the full run. Outside it is 0: what is there holds
        no source that the scanner resolves, or its 5x5x5 mean would be higher, and the input's noise, of several SUV
        in single voxels at a hundredth of the dose, would look like one. None computes everything.
    on_progress
        Is told after every slab how far the scan is and how long it will take.
    """

    def __init__(
        self,
        *,
        slab: int | None = None,
        dtype: torch.dtype | None = None,
        body_threshold: float | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        if slab is not None and (slab < 1 or slab != int(slab)):
            raise ValueError(f"slab must be a number of planes, at least one, got {slab}")
        if dtype is not None and not isinstance(dtype, torch.dtype):
            raise TypeError(f"dtype must be one of torch's, such as torch.bfloat16, got {dtype!r}")
        check_body_threshold(body_threshold)
        self.slab = slab
        self.dtype = dtype
        self.body_threshold = body_threshold
        self.on_progress = on_progress

    @torch.no_grad()
    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Return the denoised volumes, a plain tensor like inputs (B, 1, X, Y, Z).

        Raises
        ------
        TypeError
            If the network cannot be streamed.
        ValueError
            If inputs are not (B, 1, X, Y, Z).
        PETError
            If a voxel is NaN or infinite, or becomes so in the precision of the layers, or the thinnest slab does not
            fit into memory.
        """
        x = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        check_shape(x)
        x = x if x.is_floating_point() else x.float()
        results = []
        for i, scan in enumerate(x.split(1)):
            name = name_of_scan(inputs, i)
            check_finite(scan, name)
            clock = ProgressClock(self.on_progress)
            result = self._one_scan(scan, network, name, clock)
            if not all(bool(torch.isfinite(plane).all()) for plane in result[0, 0]):
                raise PETError(
                    f"{name}: the result is not finite in {self.dtype or x.dtype}, expected a wider precision"
                )
            results.append(result)
        return torch.cat(results) if len(results) > 1 else results[0]

    def _one_scan(self, x: Tensor, network: Callable[..., Tensor], name: str, clock: ProgressClock) -> Tensor:
        factor = streamable_base(network).resolution_factor
        cells = None
        # Of a volume thinner than the body mask's window most would be air.
        if self.body_threshold is not None and min(x.shape[2:]) > 2 * TISSUE_MASK_RADIUS:
            cells = occupied_cells(x, threshold=self.body_threshold, cell=factor)
        thickness = None if self.slab is None else -(-self.slab // factor)
        plan: Plan | None = make_plan(network, x, thickness=thickness, cells=cells, dtype=self.dtype)
        plain: BaseDenoisingNetwork | None = None
        guide: Tensor | None = None
        while plan is not None:
            lacking = _lacking(plan, x)
            if not lacking:
                _LOGGER.info("%s: %s", one_line(name), plan)
                try:
                    if plain is None:
                        # Measured with the weights' own precision, before the layers are given a lower one.
                        guide = streamable_base(network).guide(x)
                        plain = self._plain(network, x)
                    return self._run(plain, x, guide, plan, cells, clock)
                except (MemoryError, RuntimeError) as error:
                    if not is_out_of_memory(error):
                        raise
                    lacking = str(error).splitlines()[0] if str(error) else "out of memory"
            # Outside of the handler, so that the traceback's tensors are free again.
            release_memory(x.device)
            previous, plan = plan, thinner(plan, network, x, cells=cells, dtype=self.dtype)
            _LOGGER.warning(
                "%s: slabs of %d planes do not fit, %s", one_line(name), previous.thickness * factor, lacking
            )
        shape = tuple(x.shape[2:])
        raise PETError(f"{name}: volume of {shape} voxels does not fit into memory even plane by plane, {lacking}")

    def _run(
        self,
        network: BaseDenoisingNetwork,
        x: Tensor,
        guide: Tensor | None,
        plan: Plan,
        cells: Tensor | None,
        clock: ProgressClock,
    ) -> Tensor:
        clock.begin(sum(slab.size for slab in plan.slabs))
        out = stream(network, x, slabs=plan.slabs, guide=guide, on_slab=lambda slab: clock.advance(slab.size))
        return out if cells is None else _cleared_outside(out, cells, plan.resolution_factor)

    def _plain(self, network: Callable[..., Tensor], scan: Tensor) -> BaseDenoisingNetwork:
        """Return the network that acts on this scan as the given one, with plain weights in the wanted precision."""
        base = streamable_base(network)
        if isinstance(network, ReadsScans):
            base = network.plain_for(scan.to(base.conv0.weight.dtype))
        plain = deepcopy(base)
        if self.dtype is not None:
            plain = plain.to(self.dtype)
        return plain.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]


def _lacking(plan: Plan, x: Tensor) -> str:
    """Return what of memory is missing for a plan; empty if nothing is."""
    available = available_memory(x.device)
    if available is None or plan.n_bytes <= available:
        return ""
    return f"about {plan.n_bytes / 2**30:.1f} GiB needed, {available / 2**30:.1f} GiB free"


def _cleared_outside(out: Tensor, cells: Tensor, factor: int) -> Tensor:
    """Return out (1, 1, X, Y, Z) with 0 outside the bounding boxes of the body's cells, changed in place."""
    for i, box in enumerate(plane_boxes(cells)):
        box = box.repeat_interleave(factor, 0).repeat_interleave(factor, 1)[: out.shape[3], : out.shape[4]]
        out[:, :, factor * i : factor * (i + 1)].masked_fill_(~box, 0)
    return out
