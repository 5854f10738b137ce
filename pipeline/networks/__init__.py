"""Networks: pure functions of tensors (B, C, X, Y, Z)."""

from pipeline.networks.base_denoising import (
    BaseDenoisingNetwork,
    Downsample,
    ModulatedConv3d,
    ResidualBlock,
    Upsample,
    conv3d,
)
from pipeline.networks.cost import multiply_adds_per_voxel, n_parameters
from pipeline.networks.critic import PatchCritic
from pipeline.networks.diffusion import DiffusionBody
from pipeline.networks.diffusion_unet import DiffusionUNet
from pipeline.networks.dose import DoseConditionedNetwork, DoseReader, DoseSpecificNetworks, KnowsDose
from pipeline.networks.modulated_body import ModulatedBody
from pipeline.networks.noise.local import NOISE_CHANNELS, LocalNoise, noise_map
from pipeline.networks.noise.statistics import (
    NOISE_STATISTICS,
    StatisticsStyle,
    noise_statistics,
    tissue_mask,
)
from pipeline.networks.protocols import ReadsScans, Streamable, Styled, is_streamable, read_by
from pipeline.networks.residual import Residual
from pipeline.networks.style_alignment import StyleAlignmentNetwork
from pipeline.networks.unipet import UniPET, untrained_body

__all__ = [
    "NOISE_CHANNELS",
    "NOISE_STATISTICS",
    "BaseDenoisingNetwork",
    "DiffusionBody",
    "DiffusionUNet",
    "DoseConditionedNetwork",
    "DoseReader",
    "DoseSpecificNetworks",
    "Downsample",
    "KnowsDose",
    "LocalNoise",
    "ModulatedBody",
    "ModulatedConv3d",
    "PatchCritic",
    "ReadsScans",
    "Residual",
    "ResidualBlock",
    "StatisticsStyle",
    "Streamable",
    "StyleAlignmentNetwork",
    "Styled",
    "UniPET",
    "Upsample",
    "conv3d",
    "is_streamable",
    "multiply_adds_per_voxel",
    "n_parameters",
    "noise_map",
    "noise_statistics",
    "read_by",
    "tissue_mask",
    "untrained_body",
]
