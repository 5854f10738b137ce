"""Networks: pure functions of tensors (B, C, X, Y, Z)."""

from pipeline.networks.base_denoising import BaseDenoisingNetwork, ResidualBlock
from pipeline.networks.body import body_mask
from pipeline.networks.critic import PatchCritic
from pipeline.networks.modulated_conv import ModulatedConv3d
from pipeline.networks.noise_statistics import NOISE_STATISTICS, StatisticsStyle, noise_statistics, scaled_statistics
from pipeline.networks.resampling import Downsample, Upsample
from pipeline.networks.statistics_by_dose import StatisticsByDose
from pipeline.networks.steady_conv import conv3d
from pipeline.networks.style_alignment import StyleAlignmentNetwork
from pipeline.networks.unipet import UniPET

__all__ = [
    "NOISE_STATISTICS",
    "BaseDenoisingNetwork",
    "Downsample",
    "ModulatedConv3d",
    "PatchCritic",
    "ResidualBlock",
    "StatisticsByDose",
    "StatisticsStyle",
    "StyleAlignmentNetwork",
    "UniPET",
    "Upsample",
    "body_mask",
    "conv3d",
    "noise_statistics",
    "scaled_statistics",
]
