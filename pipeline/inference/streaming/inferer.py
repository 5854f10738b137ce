"""Exact whole-volume inference at the memory of a slab, in the box that holds the body."""

import logging
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor

from pipeline.errors import PETError, one_line
from pipeline.inference.one_scan import (
    Progress,
    ProgressClock,
    check_body_threshold,
    check_finite,
    check_shape,
    name_of_scan,
)
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
from pipeline.networks import BaseDenoisingNetwork, UniPET
from pipeline.networks.tissue_mask import TISSUE_MASK_RADIUS

__all__ = ["StreamingInferer"]

_LOGGER = logging.getLogger(__name__)


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
        while plan is not None:
            lacking = _lacking(plan, x)
            if not lacking:
                _LOGGER.info("%s: %s", one_line(name), plan)
                try:
                    plain = plain or self._plain(network, x)
                    return self._run(plain, x, plan, cells, clock)
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
        self, network: BaseDenoisingNetwork, x: Tensor, plan: Plan, cells: Tensor | None, clock: ProgressClock
    ) -> Tensor:
        clock.begin(sum(slab.size for slab in plan.slabs))
        out = stream(network, x, slabs=plan.slabs, on_slab=lambda slab: clock.advance(slab.size))
        return out if cells is None else _cleared_outside(out, cells, plan.resolution_factor)

    def _plain(self, network: Callable[..., Tensor], scan: Tensor) -> BaseDenoisingNetwork:
        """Return the network that acts on this scan as the given one, with plain weights in the wanted precision."""
        if isinstance(network, UniPET):
            plain = network.fold(network.encode_style(scan.to(streamable_base(network).conv0.weight.dtype)))
        else:
            plain = deepcopy(streamable_base(network))
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
