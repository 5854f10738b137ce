"""Every figure of one denoised scan: image quality, regions, large scale, hot spots, lesions."""

import logging
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.comparison.reference import Reference
from pipeline.errors import UndefinedMeasureError
from pipeline.evaluation import (
    PEAK_SUV,
    bias,
    concordance,
    count_by_distance_from_ends,
    false_hot_spots,
    lesion_bias,
    local_variance_ratio,
    noise_power,
    nrmse,
    psnr,
    ssim,
)
from pipeline.pet import PETSeries

__all__ = ["figures_of_scan", "lesions_of_scan"]

logger = logging.getLogger(__name__)

_HIGHEST_FREQUENCY = 0.2  # [1/mm] of the noise power that is kept: voxels of 2.5 mm have no higher one along an axis


def figures_of_scan(pred: PETSeries, low: PETSeries, reference: Reference) -> dict[str, float]:
    """Return the figures of a denoised scan and its noisy one; names are those of `Measurements.scans`."""
    values = {}
    for name, image in reference.images.items():
        values[f"psnr_{name}"] = psnr(pred.suv, image.suv, data_range=PEAK_SUV)
        values[f"nrmse_{name}"] = _or_nan(nrmse, pred.suv, image.suv)
    values |= _psnr_of_others(pred, reference, values["psnr_full"])
    values["ssim_full"] = _or_nan(partial(ssim, data_range=PEAK_SUV), pred.suv, reference.images["full"].suv)
    for name in dict.fromkeys(("full", reference.truth)):
        values[f"local_variance_ratio_{name}"] = _or_nan(local_variance_ratio, pred.suv, reference.images[name].suv)
    true = reference.images[reference.truth].suv
    values["liver_bias_percent"] = (
        np.nan if reference.liver is None else _or_nan(bias, pred.suv, true, mask=reference.liver)
    )
    spots = false_hot_spots(pred.suv, true, voxel_size=pred.voxel_size, mask=reference.body)
    values["n_false_hot_spots"] = float(len(spots))
    for name, n in count_by_distance_from_ends(spots, n_slices=true.shape[2]).items():
        values[f"n_false_hot_spots {name}"] = float(n)
    for name, region in reference.organs.items():
        values[f"change_percent {name}"] = _or_nan(bias, pred.suv, low.suv, mask=region)
    change = reference.spheres.change_percent(pred.suv, low.suv)
    if len(change):
        values["spheres_rms_percent"] = float(np.sqrt(np.mean(change**2)))
        values["spheres_largest_percent"] = float(np.abs(change).max())
    values |= asdict(concordance(reference.full_reading, reference.reader.read(pred.suv), voxel_size=pred.voxel_size))
    values |= _noise_of_liver(pred, reference)
    values["udpet_score"] = reference.composite.score(
        pred.suv,
        nrmse=values["nrmse_full"],
        psnr_at_maximum=values["psnr_full_peak_maximum"],
        ssim=values["ssim_full"],
    )
    return values


def _psnr_of_others(pred: PETSeries, reference: Reference, psnr_full: float) -> dict[str, float]:
    """Return PSNR against full dose as others print it, and where little of the volume is air.

    The highest SUV of the full dose as peak adds 20 log10(maximum / 20) dB: 14 dB for a bladder of 100, which flatters,
    and less than nothing where no voxel has 20. So every subject has another scale. Air flatters, too, which any
    denoiser leaves at nothing: the body's box holds the same errors in fewer voxels.
    """
    full = reference.images["full"].suv
    highest = float(full.max())
    at_maximum = psnr_full + 20 * float(np.log10(highest / PEAK_SUV)) if highest > 0 else np.nan
    box = reference.box
    return {
        "psnr_full_peak_maximum": at_maximum,
        "psnr_full_body_box": _or_nan(partial(psnr, data_range=PEAK_SUV), pred.suv[box], full[box]),
    }


def _noise_of_liver(pred: PETSeries, reference: Reference) -> dict[str, float]:
    """Return SD [g/mL], mean frequency [1/mm] and power [(g/mL)^2 mm^3] of the error in the liver less its mean."""
    if reference.liver is None:
        return {}
    true = reference.images[reference.truth].suv
    try:
        found = noise_power(pred.suv - true, reference.liver, voxel_size=pred.voxel_size)
    except UndefinedMeasureError as error:
        logger.warning("noise power is missing: %s", error)
        return {}
    shells = zip(found.lowest, found.power, strict=True)
    powers = {f"noise_power {low:.2f}": float(power) for low, power in shells if low < _HIGHEST_FREQUENCY}
    return {
        "liver_error_sd": float(np.sqrt(found.variance)),
        "liver_error_frequency": found.mean_frequency,
        **powers,
    }


def lesions_of_scan(pred: PETSeries, reference: Reference) -> pd.DataFrame:
    """Return the errors of the lesions of a denoised scan, see :func:`pipeline.evaluation.lesion_bias`."""
    true = reference.images[reference.truth].suv
    return lesion_bias(pred.suv, true, reference.lesions, voxel_size=pred.voxel_size)


def _or_nan(measure: Callable[..., float], *images: NDArray[np.floating], **options: Any) -> float:
    """Return a measure, or NaN where it is not defined for the scan; the log says why."""
    try:
        return measure(*images, **options)
    except UndefinedMeasureError as error:
        name = getattr(measure, "__name__", "ssim")
        logger.warning("%s is missing: %s", name, error)
        return np.nan
