"""Diffusion: what is diffused, how noise is added to it, and how it is taken away step by step."""

from pipeline.diffusion.coding import Code, Coding, clipped_image, noise_scaled_residual
from pipeline.diffusion.flow import RectifiedFlow
from pipeline.diffusion.gaussian import GaussianDiffusion
from pipeline.diffusion.process import Process

__all__ = [
    "Code",
    "Coding",
    "GaussianDiffusion",
    "Process",
    "RectifiedFlow",
    "clipped_image",
    "noise_scaled_residual",
]
