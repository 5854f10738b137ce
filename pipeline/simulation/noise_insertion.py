"""Low-dose images from a real full-dose image, without its raw data: the noise of a scan of the same patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.errors import PETError
from pipeline.pet import PETSeries
from pipeline.simulation.attenuation import WATER, attenuation_from_body
from pipeline.simulation.low_dose import check_dose_reduction_factors, thin
from pipeline.simulation.scanner.acquisition import Acquisition
from pipeline.simulation.scanner.calibration import calibrated_scale, draw_counts
from pipeline.simulation.scanner.presets import GENERIC
from pipeline.simulation.scanner.reconstruction import SystemModel, system_model
from pipeline.simulation.scanner.scanner import Scanner

__all__ = ["FullDoseScan", "InsertionSettings", "full_dose_scan", "insert_noise", "low_dose_of", "scanner_of"]

_FIELD_MARGIN = 40.0  # [mm] of air around the body that is given noise, too
_CALIBRATION_DRAWS = 4  # six pairs: the scale is known to 2 or 3 % of the noise


def _body_circle(attenuation: np.ndarray, voxel_size: Sequence[float]) -> tuple[float, float, float]:
    """Return centre x, y [voxels] and radius [mm] of a circle around all that attenuates like half of water."""
    x, y = np.nonzero((attenuation > WATER / 2).any(axis=2))
    if x.size == 0:
        raise PETError("the attenuation map is empty, expected a body in it")
    center_x, center_y = (x.min() + x.max()) / 2, (y.min() + y.max()) / 2
    radius = np.hypot((x - center_x) * voxel_size[0], (y - center_y) * voxel_size[1]).max()
    return float(center_x), float(center_y), float(radius)


def scanner_of(attenuation: np.ndarray, *, voxel_size: Sequence[float], preset: Scanner = GENERIC) -> Scanner:
    """Return a scanner that sees an image's own voxels: the square of them that holds the body, and every slice.

    Time of flight, resolution, background, beds and reconstruction are those of the preset. The field of view is
    the body's circle and 40 mm of air, at most as wide as the image or the body's circle. With fewer angles than
    the matrix has columns there are streaks, so a fine matrix is given more than the preset has.

    `attenuation` is on the image's grid [1/mm], shape (X, Y, Z); `voxel_size` is in mm, X and Y equal. The preset is
    what the image was scanned with, or what is nearest.

    Raises
    ------
    PETError
        If the voxels are not square in plane, the map is empty, or the preset does not reach along Z.
    """
    dx, dy, dz = (float(side) for side in voxel_size)
    if abs(dx - dy) > 1e-3 * dx:
        raise PETError(f"voxels of {dx:g} x {dy:g} mm in plane, expected square ones to insert noise")
    _, _, radius = _body_circle(attenuation, voxel_size)
    needed = 2 * (radius / dx + 2)
    wanted = max(needed, min(2 * (radius + _FIELD_MARGIN) / dx, max(attenuation.shape[:2])))
    n = 2 * int(np.ceil(wanted / 2))
    n_angles = int(np.ceil(max(preset.n_angles, n) / preset.n_subsets)) * preset.n_subsets
    matrix = (n, n, attenuation.shape[2])
    return replace(preset, matrix=matrix, voxel_size=(dx, dx, dz), n_angles=n_angles, supersampling=1)


@dataclass(frozen=True)
class _Window:
    """Where the scanner's square lies in the image; either may be the larger."""

    first: tuple[int, int]
    """Image voxel at the square's corner, along X and Y; may be negative."""
    size: int
    """Voxels of the square along X and Y."""

    def _overlap(self, shape: Sequence[int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        image, square = [], []
        for first, n in zip(self.first, shape[:2], strict=True):
            low, high = max(first, 0), min(first + self.size, n)
            image.append(slice(low, high))
            square.append(slice(low - first, high - first))
        return (image[0], image[1]), (square[0], square[1])

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Cut the square's part out of an image, 0 where the image does not reach."""
        there, here = self._overlap(image.shape)
        square = np.zeros((self.size, self.size, image.shape[2]), dtype=image.dtype)
        square[here] = image[there]
        return square

    def paste(self, square: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Return an image of that shape with the square in its place, 0 around it."""
        there, here = self._overlap(shape)
        image = np.zeros(tuple(shape), dtype=square.dtype)
        image[there] = square[here]
        return image


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
    window: _Window
    """Place of the scanner's field of view in the image."""

    @property
    def prompts(self) -> float:
        """Expected number of counts at full dose."""
        return self.scale * self.acquisition.total

    def low_doses(self, factors: Sequence[float], *, rng: np.random.Generator) -> dict[float, np.ndarray]:
        """Return images by dose reduction factor, see `insert_noise`."""
        ordered = check_dose_reduction_factors(factors)
        counts = draw_counts(self.acquisition, self.scale, rng)
        full = self.model.reconstruct(counts, self.acquisition, scale=self.scale)
        images, previous = {}, 1.0
        # A real image may be negative where its own reconstruction allows it; noise makes it no more so.
        floor = np.minimum(self.image, 0)
        for factor in ordered:
            counts = [thin(c, previous / factor, rng) for c in counts]
            previous = factor
            low = self.model.reconstruct(counts, self.acquisition, scale=self.scale / factor)
            added = self.window.paste(low - full, self.image.shape)
            images[factor] = np.maximum(self.image + added, floor)
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
    counts: float | None = None
    """Number of prompts at full dose."""
    device: str | None = None
    """Where OSEM runs, see `system_model`."""


def full_dose_scan(image: np.ndarray, settings: InsertionSettings, *, rng: np.random.Generator) -> FullDoseScan:
    """Reproject a full-dose image (SUVbw [g/mL], shape (X, Y, Z)) and find how many counts it was made of.

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
    center_x, center_y, _ = _body_circle(attenuation, scanner.voxel_size)
    window = _Window((round(center_x - (n - 1) / 2), round(center_y - (n - 1) / 2)), n)
    model = system_model(scanner, settings.device)
    acquisition = model.acquire(
        window.cut(np.maximum(image, 0)),
        window.cut(np.asarray(attenuation, dtype=np.float32)),
        supersampling=1,
        blurred=False,
    )
    if acquisition.total <= 0:
        raise PETError("the image is empty, expected activity in the field of view")
    scale = _scale(model, acquisition, window, image.shape, settings, rng=rng)
    return FullDoseScan(image, model, acquisition, scale, window)


def _scale(
    model: SystemModel,
    acquisition: Acquisition,
    window: _Window,
    shape: tuple[int, ...],
    settings: InsertionSettings,
    *,
    rng: np.random.Generator,
) -> float:
    """Return the scale of the counts [counts / (SUV mm)], from their number or from the liver's noise."""
    counts, liver, liver_cov = settings.counts, settings.liver, settings.liver_cov
    if counts is not None:
        if liver_cov is not None or not counts > 0:
            raise PETError(f"counts are {counts:g} and liver_cov is {liver_cov}, expected one of them, above 0")
        return counts / acquisition.total
    if liver is None or liver_cov is None:
        raise PETError("neither counts nor the liver with its liver_cov were given, expected one to set the noise by")
    if not 0 < liver_cov < 1:
        raise PETError(f"liver_cov is {liver_cov:g}, expected a fraction above 0 and below 1, such as 0.1")
    if liver.shape != shape:
        raise PETError(f"liver mask of {liver.shape} voxels, expected {shape}")
    region = window.cut(liver.astype(bool))
    if not region.any():
        raise PETError("no voxel of the liver lies in the field of view, expected it there to set the counts by")
    return calibrated_scale(model, acquisition, region, liver_cov=liver_cov, rng=rng, n_draws=_CALIBRATION_DRAWS)


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


def low_dose_of(
    series: PETSeries,
    factors: Sequence[float],
    *,
    liver: np.ndarray,
    liver_cov: float,
    seed: int,
    preset: Scanner = GENERIC,
    attenuation: np.ndarray | None = None,
    attenuation_source: str = "a CT",
    device: str | None = None,
) -> dict[float, PETSeries]:
    """Make the series that scans so many times shorter would have given; see `insert_noise`.

    Frame duration is divided by the factor; the provenance says what was done, with all parameters.

    The factors are different, above 1 and up to 200. `liver` is a region of the liver, shape (X, Y, Z), and `liver_cov`
    the coefficient of variation of the noise in it. The same seed and input give the same images. The preset is what
    the series was scanned with, or what is nearest, see `scanner_of`. `attenuation` is at 511 keV on the series' grid
    [1/mm], made from `attenuation_source`; None takes the body for water, which makes the noise in the lungs about 30 %
    too strong. OSEM runs on `device`, see `system_model`.

    Raises
    ------
    PETError
        If a factor is out of range, the grid does not suit, or the series is not corrected for attenuation.
    """
    if not series.header.attenuation_corrected:
        raise PETError("the scan is not corrected for attenuation, expected a corrected one to insert noise into")
    if attenuation is None:
        attenuation = attenuation_from_body(series.suv, voxel_size=series.voxel_size)
        attenuation_source = "the outline of the body, taken for water"
    scanner = scanner_of(attenuation, voxel_size=series.voxel_size, preset=preset)
    settings = InsertionSettings(
        scanner=scanner, attenuation=attenuation, liver=liver, liver_cov=liver_cov, device=device
    )
    duration = series.header.frame_duration
    result = {}
    for factor, image in insert_noise(series.suv, factors, settings, rng=np.random.default_rng(seed)).items():
        note = (
            f"Noise inserted for a dose reduction factor of {factor:g}, as by a scan {factor:g} times shorter: "
            f"simulated on scanner {scanner.name}, attenuation from {attenuation_source}, coefficient of variation of "
            f"the liver {liver_cov:.4f} at full dose, seed {seed}."
        )
        header = replace(series.header, frame_duration=None if duration is None else duration / factor)
        result[factor] = replace(series.with_suv(image, note=note), header=header)
    return result
