"""A network on two grids: fine detail from the scan's own voxels, all that is coarser from voxels of a common size."""

from collections.abc import Callable
from math import inf
from typing import Any

import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor

from pipeline.inference.streaming.inferer import InfererAround, check_shape, voxel_size_of

__all__ = ["TwoScaleInferer"]

_WORTHWHILE = 1.15  # of a side: grids closer to the common one are run once


class TwoScaleInferer(InfererAround):
    """Denoise with another inferer on the scan's own voxels and on coarser ones, and join the results.

    With the scan x, the network D, the mean R over coarser voxels and linear interpolation R' back, the result is
    n + R'(D(Rx) - Rn) with n = D(x): what coarser voxels can show is taken from there, where the network sees farther
    and averages over more, and finer detail from the scan's own voxels. The noise of each grid is measured on it. A
    network that changes nothing returns the scan to the bit.

    Parameters
    ----------
    inferer
        Denoises; inputs and result (B, 1, X, Y, Z).
    voxel_size
        Side of the coarser voxels [mm]; sides of the scan that are longer stay.
    """

    def __init__(self, inferer: Inferer, *, voxel_size: float) -> None:
        if not 0 < voxel_size < inf:
            raise ValueError(f"voxel_size is {voxel_size}, expected a finite number above 0")
        super().__init__(inferer)
        self.voxel_size = voxel_size

    @torch.no_grad()
    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Denoised volumes, a plain tensor like inputs, a MetaTensor (B, 1, X, Y, Z) with the scans' affines [mm].

        Raises
        ------
        PETError
            If the inputs carry no affine with a voxel size.
        """
        check_shape(inputs)
        return torch.cat([self._one_scan(inputs, i, network, *args, **kwargs) for i in range(len(inputs))])

    def _one_scan(
        self, inputs: Tensor, index: int, network: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> Tensor:
        sides = voxel_size_of(inputs, index)
        scan = inputs[index : index + 1]
        fine = _plain(self.inferer(scan, network, *args, **kwargs))
        shape = [_n_coarser(n, side, self.voxel_size) for n, side in zip(fine.shape[2:], sides, strict=True)]
        if all(side * _WORTHWHILE > self.voxel_size for side in sides) or shape == list(fine.shape[2:]):
            return fine
        steps = [(n - 1) / (m - 1) if m > 1 else 1.0 for n, m in zip(fine.shape[2:], shape, strict=True)]
        affine = torch.diag(torch.tensor([side * step for side, step in zip(sides, steps, strict=True)] + [1.0]))
        meta = {key: scan.meta[key] for key in ("filename_or_obj",) if key in scan.meta}  # type: ignore[attr-defined]
        noisy = MetaTensor(coarser(_plain(scan), shape), affine=affine.double(), meta=meta)
        change = _plain(self.inferer(noisy, network, *args, **kwargs)).sub_(coarser(fine, shape))
        return fine.add_(F.interpolate(change, size=fine.shape[2:], mode="trilinear", align_corners=True))


def coarser(x: Tensor, shape: list[int]) -> Tensor:
    """Return x (1, 1, X, Y, Z) on a coarser grid with the same corners: means with the weights of interpolation."""
    for dim, m in zip((2, 3, 4), shape, strict=True):
        n = x.shape[dim]
        if m == n:
            continue
        position = torch.linspace(0, m - 1, n, dtype=torch.float64, device=x.device)
        below = position.floor().long().clamp_max(max(m - 2, 0))
        above = (below + 1).clamp_max(m - 1)
        weight = (position - below).to(x.dtype)
        along = [-1 if k == dim else 1 for k in range(5)]
        total = x.new_zeros([m if k == dim else size for k, size in enumerate(x.shape)])
        total.index_add_(dim, below, x * (1 - weight).view(along))
        total.index_add_(dim, above, x * weight.view(along))
        sums = x.new_zeros(m).index_add_(0, below, 1 - weight).index_add_(0, above, weight)
        x = total / sums.view(along)
    return x


def _n_coarser(n: int, side: float, voxel_size: float) -> int:
    return n if side >= voxel_size else max(round((n - 1) * side / voxel_size) + 1, 1)


def _plain(x: Tensor) -> Tensor:
    return x.as_tensor() if isinstance(x, MetaTensor) else x
