"""Reconstruction loss between denoised and full-dose volumes."""

import torch
from torch import Tensor, nn

__all__ = ["ReconstructionLoss"]


class ReconstructionLoss(nn.Module):
    """mean w |d| + l2_weight * mean w d^2 of the difference d of scaled SUV volumes (B, 1, X, Y, Z).

    Parameters
    ----------
    l2_weight
        Weight of the squared part, which keeps a hot spot from being paid for by many small gains elsewhere.
    underestimate_weight
        Added to the weight w = 1 of voxels where the target is hot and the prediction lies below it: a plain loss
        wins by flattening what is rare, and lesions are rare.
    hot_threshold
        Target value, in network units, from which a voxel is hot.
    """

    def __init__(
        self, l2_weight: float = 0.25, *, underestimate_weight: float = 0.0, hot_threshold: float = 1.25
    ) -> None:
        super().__init__()
        self.l2_weight = l2_weight
        self.underestimate_weight = underestimate_weight
        self.hot_threshold = hot_threshold

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        dtype = torch.promote_types(pred.dtype, torch.float32)
        target = target.to(dtype)
        difference = pred.to(dtype) - target
        loss = difference.abs() + self.l2_weight * difference.square()
        if self.underestimate_weight:
            underestimated = (target > self.hot_threshold) & (difference < 0)
            loss = loss * (1 + self.underestimate_weight * underestimated)
        return loss.mean()
