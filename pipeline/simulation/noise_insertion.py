"""Low-dose images from a real full-dose image, without its raw data: the noise of a scan of the same patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.errors import PETError
from pipeline.pet import PETSeries
from pipeline.simulation.attenuation import attenuation_from_body
from pipeline.simulation.field_of_view import FieldOfView, body_circle, scanner_of
from pipeline.simulation.low_dose import check_dose_reduction_factors, nested_doses
from pipeline.simulation.noise_texture import (
    NoiseTexture,
    correlation_error,
    fitted_post_filter,
    mean_correlation,
    noise_correlation,
)
from pipeline.simulation.scanner.acquisition import Acquisition
from pipeline.simulation.scanner.blur import post_filtered
from pipeline.simulation.scanner.calibration import TrialScans, draw_counts, trial_scans
from pipeline.simulation.scanner.presets import GENERIC
from pipeline.simulation.scanner.reconstruction import SystemModel, system_model
from pipeline.simulation.scanner.scanner import Scanner

__all__ = [
    "FullDoseScan",
    "InsertionSettings",
    "LowDoses",
    "full_dose_scan",
    "insert_noise",
    "low_dose_of",
]

_CALIBRATION_DRAWS = 4  # six pairs: the scale is known to 2 or 3 % of the noise
_FIT_MARGIN = 10.0  # [mm] from the ends of the trial slab, where noise is stronger and less alike
_TOO_SMOOTH = 0.03  # of the correlation: what a filter of width 0 may leave


@dataclass(frozen=True)
class FullDoseScan:
    """What a scanner would have recorded of a full-dose image: made once, for any number of low doses."""

    image: np.ndarray
    """Full dose, SUVbw [g/mL], float32, shape (X, Y, Z)."""
    model: SystemModel
    """Scanner and reconstruction."""
    acquisition: Acquisition
    """Expected data of the image."""
    scale: float
    """Counts at full dose per expected datum [counts / (SUV mm)]."""
    window: FieldOfView
    """Place of the scanner's field of view in the image."""
    post_filter: tuple[float, float, float]
    """Gaussian after reconstruction, full width at half maximum along X, Y, Z [mm]."""

    @property
    def prompts(self) -> float:
        """Expected number of counts at full dose."""
        return self.scale * self.acquisition.total

    def low_doses(self, factors: Sequence[float], *, rng: np.random.Generator) -> dict[float, np.ndarray]:
        """Return images by dose reduction factor, see `insert_noise`."""
        ordered = check_dose_reduction_factors(factors)
        counts = draw_counts(self.acquisition, self.scale, rng)
        full = self.model.osem(counts, self.acquisition, scale=self.scale)
        # A real image may be negative where its own reconstruction allows it; noise makes it no more so.
        floor = np.minimum(self.image, 0)
        images = {}
        for factor, thinned in nested_doses(counts, self.acquisition, dict.fromkeys(ordered, rng)):
            low = self.model.osem(thinned, self.acquisition, scale=self.scale / factor)
            added = post_filtered(low - full, self.post_filter, voxel_size=self.model.scanner.voxel_size)
            images[factor] = np.maximum(self.image + self.window.paste(added, self.image.shape), floor)
        return images


@dataclass(frozen=True, kw_only=True)
class InsertionSettings:
    """What noise is inserted by: a scanner, the attenuation, and how noisy the full dose is.

    Give either the liver and its coefficient of variation, or the number of counts.
    """

    scanner: Scanner
    """What the image was scanned with, on its voxels, see `scanner_of`."""
    attenuation: np.ndarray
    """At 511 keV on the image's grid [1/mm], shape (X, Y, Z)."""
    liver: np.ndarray | None = None
    """Voxels of the liver in which the noise is known, shape (X, Y, Z)."""
    liver_cov: float | None = None
    """Coefficient of variation of the full dose's noise there."""
    noise_correlation: tuple[float, float, float] | None = None
    """Correlation of the full dose's noise there, as `noise_correlation` measures it, to fit the post-filter to; None
    keeps the scanner's filter."""
    counts: float | None = None
    """Number of prompts at full dose."""
    device: str | None = None
    """Where OSEM runs, see `system_model`."""


def full_dose_scan(image: np.ndarray, settings: InsertionSettings, *, rng: np.random.Generator) -> FullDoseScan:
    """Reproject a full-dose image (SUVbw [g/mL], shape (X, Y, Z)) and find how many counts it was made of.

    Where the noise's correlation is given, the post-filter is fitted to it. A resolution model of the reconstruction
    that alone makes noise smoother than that, in plane or along Z, is left out there.

    Raises
    ------
    PETError
        If shapes differ, or it is not said how noisy the image is.
    """
    image = np.asarray(image, dtype=np.float32)
    attenuation, scanner = settings.attenuation, settings.scanner
    n, _, expected = scanner.matrix
    if image.ndim != 3 or attenuation.shape != image.shape or image.shape[2] != expected:
        raise PETError(
            f"image of {image.shape} and attenuation of {attenuation.shape} voxels, expected one shape with "
            f"{expected} slices"
        )
    center_x, center_y, _ = body_circle(attenuation, scanner.voxel_size)
    window = FieldOfView((round(center_x - (n - 1) / 2), round(center_y - (n - 1) / 2)), n)
    activity, mu = window.cut(np.maximum(image, 0)), window.cut(np.asarray(attenuation, dtype=np.float32))
    if not activity.any():
        raise PETError("the image is empty, expected activity in the field of view")
    if settings.counts is not None and (settings.liver_cov is not None or not settings.counts > 0):
        raise PETError(
            f"counts are {settings.counts:g} and liver_cov is {settings.liver_cov}, expected one of them, above 0"
        )

    def recorded(scanner: Scanner) -> tuple[SystemModel, Acquisition]:
        model = system_model(scanner, settings.device)
        return model, model.acquire(activity, mu, supersampling=1, blurred=False)

    model, acquisition = recorded(scanner)
    post_filter = scanner.post_filter_widths
    if settings.counts is not None:
        scale = settings.counts / acquisition.total
        return FullDoseScan(image, model, acquisition, scale, window, post_filter)
    liver, liver_cov = _liver_noise(settings, window, image.shape)
    trials = trial_scans(model, acquisition, liver, rng=rng, n_draws=_CALIBRATION_DRAWS)
    if (correlation := settings.noise_correlation) is not None:
        sharper = _sharp_enough(scanner, trials, correlation)
        if sharper != scanner:
            model, acquisition = recorded(sharper)
        # Noise correlates less the fewer the counts are: the fit needs as many as the scan has.
        scale = trials.scale_for(liver_cov, post_filter=_fitted(trials, correlation, scanner))
        trials = trial_scans(model, acquisition, liver, rng=rng, n_draws=_CALIBRATION_DRAWS, scale=scale)
        post_filter = _fitted(trials, correlation, scanner)
    scale = trials.scale_for(liver_cov, post_filter=post_filter)
    return FullDoseScan(image, model, acquisition, scale, window, post_filter)


def _fitted(trials: TrialScans, correlation: Sequence[float], scanner: Scanner) -> tuple[float, float, float]:
    """Return the post-filter that gives trial scans the correlation of the scan's own noise."""
    return fitted_post_filter(
        trials.noise,
        trials.liver_inside(_FIT_MARGIN),
        correlation,
        voxel_size=trials.voxel_size,
        stated=scanner.post_filter_widths,
    )


def _liver_noise(settings: InsertionSettings, window: FieldOfView, shape: tuple[int, ...]) -> tuple[np.ndarray, float]:
    """Return the liver in the scanner's field of view and its coefficient of variation."""
    liver, liver_cov = settings.liver, settings.liver_cov
    if liver is None or liver_cov is None:
        raise PETError("neither counts nor the liver with its liver_cov were given, expected one to set the noise by")
    if not 0 < liver_cov < 1:
        raise PETError(f"liver_cov is {liver_cov:g}, expected a fraction above 0 and below 1, such as 0.1")
    if liver.shape != shape:
        raise PETError(f"liver mask of {liver.shape} voxels, expected {shape}")
    region = window.cut(liver.astype(bool))
    if not region.any():
        raise PETError("no voxel of the liver lies in the field of view, expected it there to set the counts by")
    return region, liver_cov


def _sharp_enough(scanner: Scanner, trials: TrialScans, correlation: Sequence[float]) -> Scanner:
    """Return the scanner without the resolution model that alone makes noise smoother than the scan's."""
    if not scanner.models_psf:
        return scanner
    region = trials.liver_inside(_FIT_MARGIN)
    smoother = np.subtract(mean_correlation(trials.noise, region, voxel_size=trials.voxel_size), correlation)
    x, y, z = (smoother > _TOO_SMOOTH).tolist()
    in_plane, axial = (0.0 if x or y else scanner.psf_in_plane), (0.0 if z else scanner.psf_axial)
    return replace(scanner, psf_in_plane=in_plane, psf_axial=axial)


def insert_noise(
    full: np.ndarray, factors: Sequence[float], settings: InsertionSettings, *, rng: np.random.Generator
) -> dict[float, np.ndarray]:
    """Make the images that lower doses would have given, from a full-dose image and no raw data.

    The image is projected with attenuation, scatter and randoms into expected data; a full scan y of it is drawn,
    thinned to 1/d of its counts, y_d, and both are reconstructed as the scanner does::

        low = full + OSEM(d y_d) - OSEM(y)

    What is added is thus the difference that thinning makes in a simulated scan of the same patient. If v is the
    variance of the full dose, that difference has (d - 1) v, as it has for real counts, with the same correlation,
    skewness and low-count bias of OSEM; it vanishes as d approaches 1. OSEM cannot go below 0, so where noise nears
    the mean it grows slower than the square root, as with real thinning: on a scanner like a Discovery ST with 17 %
    in the liver, .97 of it at a factor of 4, .92 at 10 and .77 at 100. The doses are nested: their counts are parts
    of each other, cov(low_a - full, low_b - full) = (a - 1) v for a < b, one realisation whose noise grows.

    Where the sum is negative it is set to 0 (or to the image's own value if that is negative), for OSEM images are
    not negative. In simulated patients this concerns .2 % of the body's voxels at a factor of 10 and 5 % at 100,
    and raises the body's mean by .3 % there; that of air rises more.

    `full` is SUVbw [g/mL], shape (X, Y, Z). The factors are different, above 1 and up to 200, each for a scan so many
    times shorter. The result maps them to images, float32, of that shape.

    Raises
    ------
    PETError
        If a factor is out of range, shapes differ, or it is not said how noisy the image is.
    """
    check_dose_reduction_factors(factors)
    return full_dose_scan(full, settings, rng=rng).low_doses(factors, rng=rng)


@dataclass(frozen=True)
class LowDoses:
    """What `low_dose_of` made of a scan."""

    series: dict[float, PETSeries]
    """By dose reduction factor."""
    texture: NoiseTexture
    """Of the scan's own noise and of what was inserted for the lowest factor."""
    modelled_resolution: tuple[float, float]
    """Resolution that the reconstruction was simulated to know of, in plane and along Z [mm]; 0 where it did not."""


def low_dose_of(
    series: PETSeries,
    factors: Sequence[float],
    *,
    liver: np.ndarray,
    liver_cov: float,
    seed: int,
    preset: Scanner = GENERIC,
    post_filter: tuple[float, float] | None = None,
    attenuation: np.ndarray | None = None,
    attenuation_source: str = "a CT",
    device: str | None = None,
) -> LowDoses:
    """Make the series that scans so many times shorter would have given; see `insert_noise`.

    Frame duration is divided by the factor; the provenance says what was done, with all parameters.

    The factors are different, above 1 and up to 200. `liver` is a region of the liver, shape (X, Y, Z), and `liver_cov`
    the coefficient of variation of the noise in it. The same seed and input give the same images. The preset is what
    the series was scanned with, or what is nearest, see `scanner_of`; its post-filter is replaced by one that is fitted
    to the scan's own noise in the liver, or by `post_filter`, in plane and along Z [mm]. `attenuation` is at 511 keV on
    the series' grid [1/mm], made from `attenuation_source`; None takes the body for water, which makes the noise in the
    lungs about 30 % too strong. OSEM runs on `device`, see `system_model`.

    Raises
    ------
    PETError
        If a factor is out of range, the grid does not suit, or the series is not corrected for attenuation.
    """
    ordered = check_dose_reduction_factors(factors)
    if not series.header.attenuation_corrected:
        raise PETError("the scan is not corrected for attenuation, expected a corrected one to insert noise into")
    if attenuation is None:
        attenuation = attenuation_from_body(series.suv, voxel_size=series.voxel_size)
        attenuation_source = "the outline of the body, taken for water"
    if post_filter is not None:
        preset = replace(preset, post_filter=post_filter[0], post_filter_axial=post_filter[1])
    scanner = scanner_of(attenuation, voxel_size=series.voxel_size, preset=preset)
    own = noise_correlation(series.suv, liver, voxel_size=series.voxel_size)
    settings = InsertionSettings(
        scanner=scanner,
        attenuation=attenuation,
        liver=liver,
        liver_cov=liver_cov,
        noise_correlation=own if post_filter is None else None,
        device=device,
    )
    rng = np.random.default_rng(seed)
    scan = full_dose_scan(series.suv, settings, rng=rng)
    images = scan.low_doses(ordered, rng=rng)
    texture = NoiseTexture(
        own=own,
        inserted=noise_correlation(images[ordered[0]] - series.suv, liver, voxel_size=series.voxel_size),
        error=correlation_error(own, int(liver.sum())),
        post_filter=scan.post_filter,
        is_fitted=post_filter is None,
    )
    made_by = (
        f", as by a scan so many times shorter: simulated on scanner {scanner.name}, attenuation from "
        f"{attenuation_source}, coefficient of variation of the liver {liver_cov:.4f} at full dose, "
        f"{texture}, seed {seed}."
    )
    duration = series.header.frame_duration
    result = {}
    for factor, image in images.items():
        header = replace(series.header, frame_duration=None if duration is None else duration / factor)
        note = f"Noise inserted for a dose reduction factor of {factor:g}{made_by}"
        result[factor] = replace(series.with_suv(image, note=note), header=header)
    used = scan.model.scanner
    modelled = (used.psf_in_plane, used.psf_axial) if used.models_psf else (0.0, 0.0)
    return LowDoses(result, texture, modelled)
