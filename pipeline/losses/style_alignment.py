"""Style alignment loss: low-dose features must have the channel statistics of full-dose features."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["channel_statistics", "style_alignment_loss"]


def channel_statistics(features: Sequence[Tensor]) -> Tensor:
    """Mean and standard deviation over space of every channel of every map, concatenated.

    Parameters
    ----------
    features
        Maps of shape (B, C_i, X, Y, Z), of any number and width.

    Returns
    -------
    Tensor
        Shape (B, 2 * sum C_i), float32 at least.
    """
    statistics = []
    for feature in features:
        flat = feature.flatten(2).to(torch.promote_types(feature.dtype, torch.float32))
        statistics += [flat.mean(dim=2), flat.std(dim=2)]
    return torch.cat(statistics, dim=1)


def style_alignment_loss(low_dose_features: Sequence[Tensor], full_dose_features: Sequence[Tensor]) -> Tensor:
    """L1 distance between the channel statistics of a low-dose pass and of the full-dose pass.

    The full-dose features come from passing the *full-dose image* through the same network without gradient;
    passing the low-dose image twice makes this loss identically zero. Scalar. Source: UniPET, arXiv 2606.11131.
    """
    return (channel_statistics(low_dose_features) - channel_statistics(full_dose_features).detach()).abs().mean()
