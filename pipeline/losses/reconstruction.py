"""Reconstruction loss between denoised and full-dose volumes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.constants import OSEM_NOISE_POWER

__all__ = ["ReconstructionLoss"]

_OFFSET = 0.1  # SUVbw [g/mL]
_SMALL, _LARGE = 3, 9  # voxels of the means that tell what is hot among its surroundings
_CONTRAST = 1.25


class ReconstructionLoss(nn.Module):
    """Root mean square difference of scaled SUV volumes (B, 1, X, Y, Z), as a share of what the input's was.

    Squares alone, for their minimum is the mean: an absolute difference is smallest at the median, which lies below
    the mean where counts are few, and what is biased there is biased in every organ.

    Parameters
    ----------
    variance_power
        Squares are weighed by (local mean + 0.1 g/mL)^-power. 0 weighs all alike, so that the hottest organs decide;
        1.2 weighs them by the variance that OSEM's noise has.
    underestimate_weight
        Added to the weight of voxels that are hot and hotter than their surroundings where the prediction lies below
        the target: a plain loss wins by flattening what is rare, and lesions are rare. Means of 3 and 9 voxels a side
        decide, not the voxel: what is picked by its own noise is biased.
    hot_threshold
        Mean SUVbw [g/mL] from which a place is hot; 2.5 is the classic limit between benign and malignant uptake.
    noise_floor
        SUVbw [g/mL], of tissue of SUV 1, above 0: the smallest noise that a volume's own is taken for.
    suv_scale
        SUVbw [g/mL] per network unit.

    Raises
    ------
    ValueError
        If the noise floor is not above 0.
    """

    def __init__(
        self,
        *,
        variance_power: float = OSEM_NOISE_POWER,
        underestimate_weight: float = 0.0,
        hot_threshold: float = 2.5,
        noise_floor: float = 0.02,
        suv_scale: float = 2.0,
    ) -> None:
        super().__init__()
        if not noise_floor > 0:
            raise ValueError(f"noise_floor must be above 0, got {noise_floor}")
        self.variance_power = variance_power
        self.underestimate_weight = underestimate_weight
        self.hot_threshold = hot_threshold
        self.noise_floor = noise_floor
        self.suv_scale = suv_scale

    def forward(self, pred: Tensor, target: Tensor, image: Tensor) -> Tensor:
        """Loss of ``pred``, the denoised ``image``, against ``target``; all (B, 1, X, Y, Z)."""
        dtype = torch.promote_types(pred.dtype, torch.float32)
        pred, target, image = (x.to(dtype) * self.suv_scale for x in (pred, target, image))
        with torch.no_grad():
            small, large = local_mean(target, _SMALL), local_mean(target, _LARGE)
            weight = (large.clamp_min(0) + _OFFSET) ** -self.variance_power
            noise = (weight * (image - target).square()).flatten(1).mean(1).sqrt()
            is_hot = (small > self.hot_threshold) & (small > _CONTRAST * large)
        squared = weight * (pred - target).square()
        if self.underestimate_weight:
            squared = squared * (1 + self.underestimate_weight * (is_hot & (pred < target)))
        remaining = (squared.flatten(1).mean(1) + 1e-3 * self.noise_floor**2).sqrt()
        return (remaining / (noise + self.noise_floor)).mean()


def local_mean(x: Tensor, width: int) -> Tensor:
    """Mean of x (B, 1, X, Y, Z) over cubes of so many voxels a side, an odd number, of those that exist."""
    for dim in range(3):
        kernel = [1, 1, 1]
        kernel[dim] = min(width, x.shape[dim + 2] - 1 + x.shape[dim + 2] % 2)  # no longer than x, and odd
        x = F.avg_pool3d(x, kernel, stride=1, padding=[n // 2 for n in kernel], count_include_pad=False)
    return x
