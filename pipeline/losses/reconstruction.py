"""Reconstruction loss between denoised and full-dose volumes."""

import torch
from torch import Tensor, nn

__all__ = ["ReconstructionLoss"]


class ReconstructionLoss(nn.Module):
    """Mean of w |d| + l2_weight w d^2 over the difference d of scaled SUV volumes (B, 1, X, Y, Z).

    Parameters
    ----------
    l2_weight
        Weight of the squared part, which keeps a hot spot from being paid for by many small gains elsewhere.
    underestimate_weight
        Added to the weight w = 1 of voxels where the target is hot and the prediction lies below it: a plain loss
        wins by flattening what is rare, and lesions are rare.
    hot_threshold
        Target SUVbw [g/mL] from which a voxel is hot; 2.5 is the classic limit between benign and malignant uptake.
    noise_floor
        SUVbw [g/mL]. The loss of a volume is weighed by noise_floor / (noise_floor + noise), where noise is the mean
        absolute difference of its input from the target: well above the floor the loss is the share of the noise that
        remains, and a dose counts as much as another. If None, every volume counts as it is, and the noisiest doses
        decide what is learned.
    suv_scale
        SUVbw [g/mL] per network unit.

    Raises
    ------
    ValueError
        If the noise floor is not above 0: every weight would be 0, and nothing learned.
    """

    def __init__(
        self,
        l2_weight: float = 0.25,
        *,
        underestimate_weight: float = 0.0,
        hot_threshold: float = 2.5,
        noise_floor: float | None = None,
        suv_scale: float = 2.0,
    ) -> None:
        super().__init__()
        if noise_floor is not None and not noise_floor > 0:
            raise ValueError(f"noise_floor must be above 0, or None for no weights, got {noise_floor}")
        self.l2_weight = l2_weight
        self.underestimate_weight = underestimate_weight
        self.hot_threshold = hot_threshold / suv_scale
        self.noise_floor = None if noise_floor is None else noise_floor / suv_scale

    def forward(self, pred: Tensor, target: Tensor, image: Tensor) -> Tensor:
        """Loss of ``pred``, the denoised ``image``, against ``target``; all (B, 1, X, Y, Z)."""
        dtype = torch.promote_types(pred.dtype, torch.float32)
        target = target.to(dtype)
        difference = pred.to(dtype) - target
        loss = difference.abs() + self.l2_weight * difference.square()
        if self.underestimate_weight:
            underestimated = (target > self.hot_threshold) & (difference < 0)
            loss = loss * (1 + self.underestimate_weight * underestimated)
        if self.noise_floor is None:
            return loss.mean()
        noise = (image.to(dtype) - target).abs().flatten(1).mean(1)
        return (loss.flatten(1).mean(1) * self.noise_floor / (self.noise_floor + noise)).mean()
