"""Inference: from a network to a denoised scan."""

from pipeline.inference.autocast import AutocastInferer, fast_dtype
from pipeline.inference.bundle import find_bundle, load_weights, sha256_of
from pipeline.inference.denoiser import Denoiser, method_names
from pipeline.inference.streaming import StreamingInferer, stream

__all__ = [
    "AutocastInferer",
    "Denoiser",
    "StreamingInferer",
    "fast_dtype",
    "find_bundle",
    "load_weights",
    "method_names",
    "sha256_of",
    "stream",
]
