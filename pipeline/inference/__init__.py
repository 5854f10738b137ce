"""Inference: from a network to a denoised scan."""

from pipeline.files import sha256_of
from pipeline.inference.autocast import AutocastInferer, fast_dtype
from pipeline.inference.bundle import find_bundle, load_weights
from pipeline.inference.denoiser import Denoiser, method_names
from pipeline.inference.folder import PendingScans
from pipeline.inference.progress import Progress, print_progress
from pipeline.inference.resampling import ResamplingInferer
from pipeline.inference.restoration import LocalMeanRestoration
from pipeline.inference.streaming.inferer import StreamingInferer
from pipeline.inference.streaming.plan import Plan, make_plan
from pipeline.inference.streaming.planes import stream
from pipeline.inference.streaming.style import stream_style
from pipeline.inference.windows import WindowInferer
from pipeline.shipped import work_folder

__all__ = [
    "AutocastInferer",
    "Denoiser",
    "LocalMeanRestoration",
    "PendingScans",
    "Plan",
    "Progress",
    "ResamplingInferer",
    "StreamingInferer",
    "WindowInferer",
    "fast_dtype",
    "find_bundle",
    "load_weights",
    "make_plan",
    "method_names",
    "print_progress",
    "sha256_of",
    "stream",
    "stream_style",
    "work_folder",
]
