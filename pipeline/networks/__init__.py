"""Networks: pure functions of tensors (B, C, X, Y, Z)."""

from pipeline.networks.base_denoising import BaseDenoisingNetwork, ResidualBlock
from pipeline.networks.body import body_mask
from pipeline.networks.critic import PatchCritic
from pipeline.networks.modulated_conv import ModulatedConv3d
from pipeline.networks.steady_conv import conv3d
from pipeline.networks.style_alignment import StyleAlignmentNetwork
from pipeline.networks.unipet import UniPET

__all__ = [
    "BaseDenoisingNetwork",
    "ModulatedConv3d",
    "PatchCritic",
    "ResidualBlock",
    "StyleAlignmentNetwork",
    "UniPET",
    "body_mask",
    "conv3d",
]
