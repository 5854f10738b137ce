"""A network at the voxel size it was trained at, on scans of any other."""

from collections.abc import Callable, Sequence
from math import ceil, inf
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor

from pipeline.errors import PETError
from pipeline.inference.streaming.inferer import check_finite, check_shape, name_of_scan

__all__ = ["ResamplingInferer", "resample"]


class ResamplingInferer(Inferer):
    """Run another inferer at a given voxel size and bring what it changed back to the scan's own voxels.

    With the resampling R to the network's voxels, R' back and the network D, the result is x + R'(D(Rx) - Rx): the
    input plus the interpolated *change*. Interpolating the denoised volume itself would blur every scan by two
    interpolations, also where the network changes nothing: this way a network that changes nothing returns the scan
    to the bit, and detail finer than the network's voxels stays as it was measured. So does noise that fine; where
    the scan's voxels are the finer ones, the network is therefore run a second time, on the result at the scan's own
    voxels.

    What this gains on a simulated scan stands in ``docs/inference.md``.

    Parameters
    ----------
    inferer
        Runs the network on the resampled scan.
    voxel_size
        Voxel size along X, Y, Z that the network was trained at [mm].
    tolerance
        Scans whose voxel sizes are all within this factor of the network's, up or down, are run as they are.
    refine
        Run the network a second time where the scan's voxels are finer.
    """

    def __init__(
        self, inferer: Inferer, voxel_size: Sequence[float], *, tolerance: float = 1.6, refine: bool = True
    ) -> None:
        if len(voxel_size) != 3 or not all(0 < size < inf for size in voxel_size) or not 1 <= tolerance < inf:
            raise ValueError(
                f"voxel_size {tuple(voxel_size)}, tolerance {tolerance}: expected three above 0, 1 or more"
            )
        self.inferer = inferer
        self.voxel_size = tuple(float(size) for size in voxel_size)
        self.tolerance = tolerance
        self.refine = refine

    @torch.no_grad()
    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Denoised volumes, a plain tensor like inputs, a MetaTensor (B, 1, X, Y, Z) with the scans' affines [mm].

        Raises
        ------
        PETError
            If the inputs carry no affine with a voxel size, or a voxel is NaN or infinite.
        """
        check_shape(inputs)
        if not isinstance(inputs, MetaTensor):
            raise PETError(f"{name_of_scan(inputs, 0)}: no affine, the voxel size is unknown")
        affines = inputs.affine.expand(len(inputs), 4, 4)
        results = []
        for i in range(len(inputs)):
            meta = {"filename_or_obj": name_of_scan(inputs, i)}
            scan = MetaTensor(inputs.as_tensor()[i : i + 1], affine=affines[i], meta=meta)
            size = tuple(float(s) for s in affines[i][:3, :3].norm(dim=0))
            if not all(0 < s < inf for s in size):
                raise PETError(f"{meta['filename_or_obj']}: affine has voxels of {size} mm, expected a size above 0")
            check_finite(scan.as_tensor(), meta["filename_or_obj"])
            results.append(self._one_scan(scan, size, network, *args, **kwargs))
        return torch.cat(results)

    def _one_scan(
        self, scan: MetaTensor, size: tuple[float, ...], network: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> Tensor:
        ratios = [own / trained for own, trained in zip(size, self.voxel_size, strict=True)]
        if all(1 / self.tolerance <= ratio <= self.tolerance for ratio in ratios):
            return self.inferer(scan, network, *args, **kwargs)
        x = scan.as_tensor()
        shape = tuple(ceil(n * ratio - 1e-6) for n, ratio in zip(x.shape[2:], ratios, strict=True))
        coarse = resample(x, shape, scale=[1 / ratio for ratio in ratios])
        change = self.inferer(MetaTensor(coarse, meta=scan.meta), network, *args, **kwargs) - coarse
        result = x + resample(change, tuple(x.shape[2:]), scale=ratios)
        if not self.refine or min(ratios) >= 1 / self.tolerance:
            return result
        # Interpolation overshoots below zero, where the network has seen nothing but what the scan has of it.
        result = torch.maximum(result, x.clamp(max=0))
        return self.inferer(MetaTensor(result, meta=scan.meta), network, *args, **kwargs)


def resample(x: Tensor, shape: Sequence[int], *, scale: Sequence[float]) -> Tensor:
    """Return x (B, 1, X, Y, Z) at a grid of this shape with the same centre, whose voxels are ``scale`` times as large.

    Linear interpolation, widened where voxels grow so that each sees all that it covers (a triangle of twice the
    larger voxel's width). Weights sum to 1 for every voxel: a uniform SUV stays what it is.
    """
    for axis, (n, factor) in enumerate(zip(shape, scale, strict=True), start=2):
        weights = _weights(x.shape[axis], n, factor).to(x)
        x = (x.movedim(axis, -1) @ weights.T).movedim(-1, axis)
    return x.contiguous()


def _weights(n_in: int, n_out: int, factor: float) -> Tensor:
    """Matrix (n_out, n_in) of one axis."""
    centre = (torch.arange(n_out, dtype=torch.float64) - (n_out - 1) / 2) * factor + (n_in - 1) / 2
    distance = (torch.arange(n_in, dtype=torch.float64)[None] - centre[:, None]).abs()
    weights = (1 - distance / max(factor, 1.0)).clamp_min(0)
    return weights / weights.sum(dim=1, keepdim=True)
