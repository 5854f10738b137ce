"""Inference: from a network to a denoised scan."""

from pipeline.files import sha256_of
from pipeline.inference.conservation import ConservingInferer
from pipeline.inference.denoiser import Denoiser
from pipeline.inference.method import Method, fast_dtype, find_bundle, load_weights
from pipeline.inference.recipe import DenoiserRecipe
from pipeline.inference.sampling import SamplingInferer, TellsUncertainty, with_uncertainty
from pipeline.inference.streaming.inferer import Progress, StreamingInferer
from pipeline.inference.streaming.plan import Plan, make_plan
from pipeline.inference.streaming.planes import stream
from pipeline.inference.two_scales import TwoScaleInferer
from pipeline.inference.windows import WindowInferer
from pipeline.shipped import method_names, work_folder

__all__ = [
    "ConservingInferer",
    "Denoiser",
    "DenoiserRecipe",
    "Method",
    "Plan",
    "Progress",
    "SamplingInferer",
    "StreamingInferer",
    "TellsUncertainty",
    "TwoScaleInferer",
    "WindowInferer",
    "fast_dtype",
    "find_bundle",
    "load_weights",
    "make_plan",
    "method_names",
    "sha256_of",
    "stream",
    "with_uncertainty",
    "work_folder",
]
