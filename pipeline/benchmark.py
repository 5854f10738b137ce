"""Methods against each other on the same subjects: one row per subject, dose and method."""

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.filebasedimages import ImageFileError

from pipeline.data import dose_keys
from pipeline.evaluation import (
    PEAK_SUV,
    best_gaussian_fwhm,
    body_mask,
    false_hot_spots,
    gaussian_filter_mm,
    lesion_bias,
    psnr,
    ssim,
)
from pipeline.inference import Denoiser
from pipeline.pet import PETError, PETSeries, read_pet

__all__ = ["evaluate_methods", "summarise", "tune_gaussian"]

_FWHM_CANDIDATES = (0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16)
_REFERENCES = {"full": "label", "repeat": "full_repeat", "noise_free": "noise_free"}


def tune_gaussian(items: Sequence[Mapping[str, str]]) -> dict[float, float]:
    """Dose reduction factor -> width [mm] of the Gaussian that gives the highest PSNR on these subjects."""
    widths = {}
    full_dose = [read_pet(item["label"]) for item in items]
    for key, factor in dose_keys(items[0]).items():
        pairs = ((read_pet(item[key]), full) for item, full in zip(items, full_dose, strict=True))
        arrays = ((low.suv, full.suv, low.voxel_size) for low, full in pairs)
        widths[factor] = best_gaussian_fwhm(arrays, data_range=PEAK_SUV, candidates=_FWHM_CANDIDATES)
    return widths


def evaluate_methods(
    items: Iterable[Mapping[str, str]],
    methods: Mapping[str, Denoiser],
    *,
    gaussian_fwhm: Mapping[float, float],
    on_scan: Callable[[str], None] = lambda scan: None,
) -> pd.DataFrame:
    """Measure the input, the tuned Gaussian and every method on every subject and dose.

    Parameters
    ----------
    items
        Subjects, from :func:`pipeline.data.cohort_items`; none that a method was trained or tuned on.
    methods
        Name -> denoiser.
    gaussian_fwhm
        Dose reduction factor -> width [mm], from :func:`tune_gaussian` on other subjects.
    on_scan
        Is told the name of each scan when it is done.

    Returns
    -------
    pandas.DataFrame
        One row per subject, dose_reduction_factor and method: ``psnr_full`` against the full-dose image whose counts
        the input is a part of, ``psnr_repeat`` against an independent full-dose scan, ``psnr_noise_free``, all [dB]
        over the whole volume at a peak of 20 SUV; ``ssim_full``; mean bias over lesions of at least 10 mm against
        the noise-free image, ``suv_max_bias_percent`` and ``suv_mean_bias_percent``; and ``n_false_hot_spots``.
    """
    rows = []
    for item in items:
        references = {name: read_pet(item[key]) for name, key in _REFERENCES.items()}
        lesions = _read_labels(item["lesions"], shape=references["full"].suv.shape)
        body = body_mask(references["full"].suv, voxel_size=references["full"].voxel_size)
        for key, factor in dose_keys(item).items():
            low = read_pet(item[key])
            candidates: dict[str, Callable[[PETSeries], PETSeries]] = {
                "input": lambda series: series,
                "gaussian": partial(_gaussian, fwhm=gaussian_fwhm[factor]),
                **methods,
            }
            for name, method in candidates.items():
                measured = _measure(method(low), references, lesions, body)
                rows.append({"subject": item["subject"], "dose_reduction_factor": factor, "method": name, **measured})
            on_scan(f"{item['subject']} {key}")
    return pd.DataFrame(rows)


def summarise(rows: pd.DataFrame, *, measure: str = "psnr_full") -> pd.DataFrame:
    """Mean of one measure over subjects: a row per method in the order measured, a column per dose."""
    table = rows.pivot_table(index="method", columns="dose_reduction_factor", values=measure, aggfunc="mean")
    return table.reindex(rows["method"].unique())


def _gaussian(series: PETSeries, *, fwhm: float) -> PETSeries:
    return series.with_suv(gaussian_filter_mm(series.suv, fwhm=fwhm, voxel_size=series.voxel_size))


def _read_labels(path: str, *, shape: tuple[int, ...]) -> np.ndarray:
    try:
        labels = np.asarray(nib.Nifti1Image.from_filename(path).dataobj)
    except (ImageFileError, OSError, EOFError, ValueError, zlib.error) as error:
        raise PETError(f"{path}: not a readable NIfTI file, damaged or cut short") from error
    if labels.shape != shape:
        raise PETError(f"{path}: has shape {labels.shape}, expected {shape} as the images have")
    return labels


def _measure(
    pred: PETSeries, references: Mapping[str, PETSeries], lesions: np.ndarray, body: np.ndarray
) -> dict[str, float]:
    values = {
        f"psnr_{name}": psnr(pred.suv, reference.suv, data_range=PEAK_SUV) for name, reference in references.items()
    }
    values["ssim_full"] = ssim(pred.suv, references["full"].suv, data_range=PEAK_SUV)
    noise_free = references["noise_free"].suv
    bias = lesion_bias(pred.suv, noise_free, lesions, voxel_size=pred.voxel_size)
    large = bias[bias["diameter_mm"] >= 10]
    for name in ("suv_max", "suv_mean"):
        values[f"{name}_bias_percent"] = float(large[f"{name}_error_percent"].mean())
    spots = false_hot_spots(pred.suv, noise_free, voxel_size=pred.voxel_size, mask=body)
    values["n_false_hot_spots"] = float(len(spots))
    return values
