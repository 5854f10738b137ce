"""Low-dose images from a real full-dose image, without its raw data: the noise of a scan of the same patient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from pipeline.errors import PETError
from pipeline.simulation.field_of_view import FieldOfView, body_circle
from pipeline.simulation.low_dose import check_dose_reduction_factors, nested_doses
from pipeline.simulation.noise_texture import fine_noise, fitted_post_filter, mean_correlation
from pipeline.simulation.scanner.acquisition import Acquisition
from pipeline.simulation.scanner.blur import post_filtered
from pipeline.simulation.scanner.calibration import TrialScans, draw_counts, trial_scans
from pipeline.simulation.scanner.reconstruction import SystemModel, system_model
from pipeline.simulation.scanner.scanner import Scanner

__all__ = [
    "FullDoseScan",
    "InsertionSettings",
    "full_dose_scan",
    "insert_noise",
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
        images = {}
        for factor, thinned in nested_doses(counts, self.acquisition, dict.fromkeys(ordered, rng)):
            low = self.model.osem(thinned, self.acquisition, scale=self.scale / factor)
            images[factor] = self._with(low - full)
        return images

    def repeats(self, n: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Yield n images that as many independent scans would give, of the same counts on average, one at a time.

        The image is the expectation. Each repeat is the image and the noise of its own counts, filtered OSEM(counts)
        less filtered OSEM(expected data), which has the mean, the low-count bias of OSEM, that noise has in scans. It
        is floored as low doses are. Repeat k is drawn from the k-th child of `rng`, so it does not depend on n.
        """
        subsets = range(self.model.scanner.n_subsets)
        expected = [self.acquisition.expected(k) * np.float32(self.scale) for k in subsets]
        noise_free = self.model.osem(expected, self.acquisition, scale=self.scale)
        del expected
        for _ in range(n):
            (own,) = rng.spawn(1)
            counts = draw_counts(self.acquisition, self.scale, own)
            yield self._with(self.model.osem(counts, self.acquisition, scale=self.scale) - noise_free)

    def _with(self, noise: np.ndarray) -> np.ndarray:
        """Return the image with unfiltered noise of the field of view added."""
        added = post_filtered(noise, self.post_filter, voxel_size=self.model.scanner.voxel_size)
        # A real image may be negative where its own reconstruction allows it; noise makes it no more so.
        return np.maximum(self.image + self.window.paste(added, self.image.shape), np.minimum(self.image, 0))


@dataclass(frozen=True, kw_only=True)
class InsertionSettings:
    """What noise is inserted by: a scanner, the attenuation, and how noisy the full dose is.

    Give either the number of counts, or the liver and one measure of its noise.
    """

    scanner: Scanner
    """What the image was scanned with, on its voxels, see `scanner_of`."""
    attenuation: np.ndarray
    """At 511 keV on the image's grid [1/mm], shape (X, Y, Z)."""
    liver: np.ndarray | None = None
    """Voxels of the liver in which the noise is known, shape (X, Y, Z)."""
    liver_cov: float | None = None
    """Coefficient of variation of the full dose's noise there."""
    fine_liver_noise: float | None = None
    """Standard deviation of the full dose's noise there, as `fine_noise` measures it [g/mL]."""
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
    _check_one_measure(settings)

    def recorded(scanner: Scanner) -> tuple[SystemModel, Acquisition]:
        model = system_model(scanner, settings.device)
        return model, model.acquire(activity, mu, supersampling=1, blurred=False)

    model, acquisition = recorded(scanner)
    post_filter = scanner.post_filter_widths
    if settings.counts is not None:
        scale = settings.counts / acquisition.total
        return FullDoseScan(image, model, acquisition, scale, window, post_filter)
    liver = _liver_in_view(settings, window, image.shape)
    trials = trial_scans(model, acquisition, liver, rng=rng, n_draws=_CALIBRATION_DRAWS)
    if (correlation := settings.noise_correlation) is not None:
        sharper = _sharp_enough(scanner, trials, correlation)
        if sharper != scanner:
            model, acquisition = recorded(sharper)
        # Noise correlates less the fewer the counts are: the fit needs as many as the scan has.
        scale = _scale(trials, settings, post_filter=_fitted(trials, correlation, scanner))
        trials = trial_scans(model, acquisition, liver, rng=rng, n_draws=_CALIBRATION_DRAWS, scale=scale)
        post_filter = _fitted(trials, correlation, scanner)
    scale = _scale(trials, settings, post_filter=post_filter)
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


def _scale(trials: TrialScans, settings: InsertionSettings, *, post_filter: tuple[float, float, float]) -> float:
    """Return the scale at which filtered trial scans are as noisy in the liver as the settings say."""
    wanted = settings.fine_liver_noise
    if wanted is None:
        return trials.scale_for(cast(float, settings.liver_cov), post_filter=post_filter)
    size, liver = trials.voxel_size, trials.liver_inside(post_filter[2])
    noise = (post_filtered(image, post_filter, voxel_size=size) for image in trials.noise)
    found = np.mean([fine_noise(image, liver, voxel_size=size) ** 2 for image in noise])
    return trials.scale * float(found) / wanted**2


def _check_one_measure(settings: InsertionSettings) -> None:
    """Raise a PETError unless exactly one usable measure says how noisy the full dose is."""
    counts, cov, fine = settings.counts, settings.liver_cov, settings.fine_liver_noise
    if counts is not None and (cov is not None or fine is not None or not counts > 0):
        raise PETError(f"counts are {counts:g} and noise of the liver is {cov or fine}, expected one of them, above 0")
    if counts is None and (settings.liver is None or (cov is None) == (fine is None)):
        raise PETError("neither counts nor the liver with one measure of its noise were given, expected one of them")
    if cov is not None and not 0 < cov < 1:
        raise PETError(f"liver_cov is {cov:g}, expected a fraction above 0 and below 1, such as 0.1")
    if fine is not None and not fine > 0:
        raise PETError(f"noise in the liver is {fine:g} g/mL, expected above 0")


def _liver_in_view(settings: InsertionSettings, window: FieldOfView, shape: tuple[int, ...]) -> np.ndarray:
    """Return the liver in the scanner's field of view."""
    liver = np.asarray(settings.liver, dtype=bool)
    if liver.shape != shape:
        raise PETError(f"liver mask of {liver.shape} voxels, expected {shape}")
    region = window.cut(liver)
    if not region.any():
        raise PETError("no voxel of the liver lies in the field of view, expected it there to set the counts by")
    return region


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
