"""Whether the style of a network is alive: scans of two doses exchange their styles, and the images must suffer."""

from collections.abc import Iterable
from dataclasses import replace

import pandas as pd
import torch

from pipeline.comparison.cases import Case
from pipeline.errors import PETError
from pipeline.evaluation import PEAK_SUV, psnr
from pipeline.inference import Denoiser
from pipeline.networks.protocols import Styled
from pipeline.pet import PETSeries
from pipeline.transforms import pet_to_tensor, scale_suv

__all__ = ["has_style", "measure_style_swap", "swap_styles"]


def has_style(denoiser: Denoiser) -> bool:
    """Return whether the denoiser's network reads a style from each scan that can be folded into plain weights."""
    return isinstance(denoiser.network, Styled)


def swap_styles(denoiser: Denoiser, first: PETSeries, second: PETSeries) -> tuple[PETSeries, PETSeries]:
    """Return the first scan denoised under the style of the second, and the second under that of the first.

    Raises
    ------
    PETError
        If the network has no style.
    """
    if not has_style(denoiser):
        raise PETError(f"method {denoiser.method!r} has no style of a scan, expected one such as unipet")
    return _under_style_of(denoiser, second)(first), _under_style_of(denoiser, first)(second)


def measure_style_swap(cases: Iterable[Case], denoiser: Denoiser, *, factors: tuple[float, float]) -> pd.DataFrame:
    """Return the PSNR against full dose under a scan's own style, and under that of another dose of the same subject.

    Two rows per subject, for the two dose reduction factors: subject, dose_reduction_factor of the scan, style_of (that
    of the style), psnr_own_style, psnr_other_style and change [dB].

    Raises
    ------
    PETError
        If a subject lacks one of the doses, or the network has no style.
    """
    rows = []
    for case in cases:
        for factor in factors:
            if factor not in case.doses:
                raise PETError(f"{case.name}: has no scan of DRF {factor:g}, expected one to swap styles with")
        full = case.full_dose()
        first, second = (case.read(case.doses[factor]) for factor in factors)
        swapped = swap_styles(denoiser, first, second)
        for scan, other, factor, style_of in zip((first, second), swapped, factors, factors[::-1], strict=True):
            own_psnr, other_psnr = (psnr(pred.suv, full.suv, data_range=PEAK_SUV) for pred in (denoiser(scan), other))
            rows.append(
                {
                    "subject": case.name,
                    "dose_reduction_factor": factor,
                    "style_of": style_of,
                    "psnr_own_style": own_psnr,
                    "psnr_other_style": other_psnr,
                    "change": other_psnr - own_psnr,
                }
            )
    return pd.DataFrame(rows)


def _under_style_of(denoiser: Denoiser, series: PETSeries) -> Denoiser:
    image = scale_suv(pet_to_tensor(series).as_tensor(), suv_scale=denoiser.suv_scale)[None].to(denoiser.device)
    with torch.inference_mode():
        latents = denoiser.network.encode_style(image)  # type: ignore[operator]
        return replace(denoiser, network=denoiser.network.fold(latents))  # type: ignore[operator]
