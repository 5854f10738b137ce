"""Every figure of one denoised scan: image quality, regions, large scale, hot spots, lesions."""

import logging
from collections.abc import Callable
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
    count_by_distance_from_ends,
    false_hot_spots,
    lesion_bias,
    local_variance_ratio,
    nrmse,
    psnr,
    ssim,
)
from pipeline.pet import PETSeries

__all__ = ["figures_of_scan", "lesions_of_scan"]

logger = logging.getLogger(__name__)


def figures_of_scan(pred: PETSeries, low: PETSeries, reference: Reference) -> dict[str, float]:
    """Return the figures of a denoised scan and its noisy one; names are those of `Measurements.scans`."""
    values = {}
    for name, image in reference.images.items():
        values[f"psnr_{name}"] = psnr(pred.suv, image.suv, data_range=PEAK_SUV)
        values[f"nrmse_{name}"] = _or_nan(nrmse, pred.suv, image.suv)
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
    return values


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
