"""What the columns of a benchmark's tables mean, and their units."""

from collections.abc import Mapping

from pipeline.comparison import MEASURED_LESION_COLUMNS, MEASURED_SCAN_COLUMNS

__all__ = ["columns_of"]

_METHOD = {"method": "row of the benchmark, named in table.tsv"}
_INTERVAL = {"low": "lower end of its 95 % interval", "high": "upper end of its 95 % interval"}
_DOSE = {"dose_reduction_factor": "full dose over the dose of the scans, n/a for all together"}

_TABLE = {
    "name": "name of the row",
    "label": "what a person calls it",
    "psnr_noise_free": "PSNR against noise-free, peak 20 SUV [dB]",
    "psnr_full": "PSNR against full dose, peak 20 SUV [dB]",
    "ssim_full": "structural similarity with full dose, range 20 SUV",
    "suv_mean_error_percent": "bias of SUVmean in lesions from 10 mm [%]",
    "suv_peak_error_percent": "bias of SUVpeak in lesions from 10 mm [%]",
    "lost_of_full": "lesions seen at full dose and not after, per 100",
    "invented_per_true": "spots seen after and not at full dose that are no lesion, per 100 true lesions",
    "auc": "area under the ROC of the observer",
    "sphere": "contrast recovery of the sphere of 10 mm at a ratio of 4 to 1 [%]",
    "seconds": "time for a scan [s]",
    "ratio": "time over that of the reference, measured beside it",
    "peak_memory_mib": "largest memory of the process [MiB]",
    "million_parameters": "parameters of the network, millions",
    "multiply_adds": "thousands of multiplications with additions for a voxel",
    "hours": "duration of the training [h]",
    "thousand_patches": "thousands of patches seen in training",
}
_DIFFERENCES = {
    **_METHOD,
    "measure": "column of images_scans.tsv or images_lesions.tsv that is compared, all doses together",
    "mean": "mean of the method less the reference, subjects paired",
    **_INTERVAL,
    "verdict": "better or worse where the interval excludes 0, else tie",
}
_CLAIMS = {
    "claim": "what is claimed",
    "source": "who claims it, or denies it",
    "method": "entry that is claimed to be better",
    "other": "entry that it is compared with",
    "part": "part of the benchmark that answers",
    "measure": "what both are judged by",
    "doses": "doses together, or one",
    "seed": "number of the pair of trainings",
    "answer": "yes, no, or cannot tell",
    "difference": "method less other, subjects paired",
    **_INTERVAL,
}
_CONDITION = {
    "condition": "set of subjects or scans",
    "truth": "image that takes the place of the truth",
    "regions": "what the lesions are: labelled ones, or regions that were found",
}
_UNCERTAINTY = {
    "subject": MEASURED_SCAN_COLUMNS["subject"],
    **_DOSE,
    "origin": "where the stated SD is from: residual, or draws",
    "n_draws": "number of draws",
    "region": "tissue, or lesions",
    "n": "voxels or lesions",
    "n_errors": "voxels or lesions of all subjects",
    "mean_sd": "mean of the stated SD [g/mL]",
    "rms_error": "root mean square of the true errors [g/mL]",
    "intervals": "intervals as stated, or mended by factors that were fitted on other subjects",
    "coverage_*": "part of the intervals of * % that hold the truth",
    "half_width_95": "mean half width of the intervals of 95 % [g/mL]",
    "rank_correlation": "Spearman's correlation of stated SD and absolute error",
    "factor": "what the SD is multiplied by",
    "miscalibration_area": "area between the curve of coverage and the diagonal, 0.5 is the worst",
}
_PARTS: Mapping[str, Mapping[str, str]] = {
    "detection": {
        **_DOSE,
        "diameter": "diameter of the lesions, or all [mm]",
        "level": "faint, clear, or all",
        "site": "where the lesions lie, or all",
        "n_lesions": "lesions that the observer looked for",
        "auc": _TABLE["auc"],
        "auc_low": "lower end of its 95 % interval, by a jackknife over patients",
        "auc_high": "upper end of its 95 % interval, by a jackknife over patients",
        "auc_without_each": "areas with each patient left out in turn",
        "auc_gaussian": "area that d' gives, mean over kinds of lesions",
        "gain": "area less that of the noisy input",
        "gain_low": "lower end of its 95 % interval",
        "gain_high": "upper end of its 95 % interval",
        "psnr_noise_free": _TABLE["psnr_noise_free"],
    },
    "phantom": {
        "ratio": "activity of the spheres over that of the background",
        **_DOSE,
        "diameter": "inner diameter of the sphere [mm]",
        "contrast_recovery": "contrast over the true one, NEMA NU 2-2018 [%]",
        "contrast_recovery_sd": "SD of contrast_recovery over repeats [%]",
        "background_variability": "SD of the background's circles over their mean, NEMA NU 2-2018 [%]",
        "background_bias": "mean of the background against the true one [%]",
        "lung_residual": "residual of the lung insert, NEMA NU 2-2018 [%]",
        "earl_filter": "Gaussian that brings this scanner within EARL's limits, FWHM [mm]",
        "recovery_mean": "recovery of the mean in the 50 % isocontour after that filter [%]",
        "recovery_max": "recovery of the maximum after that filter [%]",
        "earl1_*": "limit of EARL's first standard, * [%]",
        "within_earl1": "scans within both limits [%]",
    },
    "uncertainty": _UNCERTAINTY,
    "cost": {
        "subject": MEASURED_SCAN_COLUMNS["subject"],
        "n_voxels": "voxels of the scan",
        "seconds": _TABLE["seconds"],
        "seconds_of_reference": "time of the reference on the same scan, measured beside it [s]",
        "peak_memory_mib": _TABLE["peak_memory_mib"],
        "memory_before_mib": "memory of the process before the method ran [MiB]",
        "n_threads": "threads of torch",
        "multiply_adds_per_pass": "multiplications with additions for a voxel in one pass of the network",
        "n_passes": "passes of the network",
    },
}


def columns_of(name: str) -> dict[str, str]:
    """Return meaning and unit of the columns of a table: ``table``, ``claims``, ``images_scans``, ``cost``, ...

    The names of parts come first in those of their tables. A ``*`` is as in :func:`pipeline.tables.write_table`.
    """
    of_all: Mapping[str, Mapping[str, str]] = {"table": _TABLE, "differences": _DIFFERENCES, "claims": _CLAIMS}
    if name in of_all:
        return dict(of_all[name])
    part = name.split("_")[0]
    if part in _PARTS:
        return _METHOD | dict(_PARTS[part])
    measured = MEASURED_LESION_COLUMNS if name.endswith("lesions") else MEASURED_SCAN_COLUMNS
    return _CONDITION | measured | _METHOD
