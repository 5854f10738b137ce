"""Losses: pure functions of tensors."""

from pipeline.losses.reconstruction import ReconstructionLoss
from pipeline.losses.style_alignment import channel_statistics, style_alignment_loss
from pipeline.losses.stylized_region import local_variance, stylized_region
from pipeline.losses.wasserstein import critic_loss, generator_loss, gradient_penalty

__all__ = [
    "ReconstructionLoss",
    "channel_statistics",
    "critic_loss",
    "generator_loss",
    "gradient_penalty",
    "local_variance",
    "style_alignment_loss",
    "stylized_region",
]
