"""From a series to the scan that it is of, as noisy and as smooth as it; and the series that lower doses give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.errors import PETError
from pipeline.pet import PETSeries
from pipeline.simulation.attenuation import attenuation_from_body
from pipeline.simulation.field_of_view import scanner_of
from pipeline.simulation.low_dose import check_dose_reduction_factors
from pipeline.simulation.noise_insertion import FullDoseScan, InsertionSettings, full_dose_scan
from pipeline.simulation.noise_texture import NoiseTexture, correlation_error, noise_correlation
from pipeline.simulation.scanner.presets import GENERIC
from pipeline.simulation.scanner.scanner import Scanner

__all__ = ["LowDoses", "SeriesScan", "low_dose_of", "scan_of_series"]


@dataclass(frozen=True)
class SeriesScan:
    """A scan that was fitted to a series: its counts and post-filter give the noise of the series in the liver."""

    scan: FullDoseScan
    """What a scanner would have recorded."""
    voxel_size: tuple[float, float, float]
    """[mm]."""
    liver: np.ndarray
    """Where the noise was measured, bool, shape (X, Y, Z)."""
    own_correlation: tuple[float, float, float]
    """Correlation of the series' own noise there, see `noise_correlation`."""
    is_fitted: bool
    """Whether the post-filter was fitted to it; otherwise it was stated."""
    attenuation_source: str
    """What the attenuation is from."""

    @property
    def modelled_resolution(self) -> tuple[float, float]:
        """Resolution that the reconstruction knows of, in plane and along Z [mm]; 0 where it knows of none."""
        used = self.scan.model.scanner
        return (used.psf_in_plane, used.psf_axial) if used.models_psf else (0.0, 0.0)

    def texture(self, noise: np.ndarray) -> NoiseTexture:
        """Compare the series' noise with an image of simulated noise, any unit, shape (X, Y, Z)."""
        return NoiseTexture(
            own=self.own_correlation,
            inserted=noise_correlation(noise, self.liver, voxel_size=self.voxel_size),
            error=correlation_error(self.own_correlation, int(self.liver.sum())),
            post_filter=self.scan.post_filter,
            is_fitted=self.is_fitted,
        )


def scan_of_series(
    series: PETSeries,
    *,
    liver: np.ndarray,
    rng: np.random.Generator,
    liver_cov: float | None = None,
    fine_liver_noise: float | None = None,
    expectation: np.ndarray | None = None,
    preset: Scanner = GENERIC,
    post_filter: tuple[float, float] | None = None,
    attenuation: np.ndarray | None = None,
    attenuation_source: str = "a CT",
    device: str | None = None,
) -> SeriesScan:
    """Fit a scan to a series: what a scanner would record of it, from as many counts, filtered as much.

    `liver` is a region of the liver, shape (X, Y, Z); one of `liver_cov`, the coefficient of variation of the noise in
    it, and `fine_liver_noise`, its SD as `fine_noise` measures it [g/mL], says how noisy the series is. `expectation`
    is what the scan would show without noise, SUVbw [g/mL], as far as that is known; None takes the series for it.
    The preset is what the series was scanned with, or what is nearest, see `scanner_of`; its post-filter is replaced
    by one that is fitted to the series' own noise in the liver, or by `post_filter`, in plane and along Z [mm].
    `attenuation` is at 511 keV on the series' grid [1/mm], made from `attenuation_source`; None takes the body for
    water, which makes the noise in the lungs about 30 % too strong. OSEM runs on `device`, see `system_model`.

    Raises
    ------
    PETError
        If the grid does not suit, the measure of the noise does not, or the series is not corrected for attenuation.
    """
    if not series.header.attenuation_corrected:
        raise PETError("the scan is not corrected for attenuation, expected a corrected one to simulate its noise")
    image = series.suv if expectation is None else expectation
    if attenuation is None:
        attenuation = attenuation_from_body(image, voxel_size=series.voxel_size)
        attenuation_source = "the outline of the body, taken for water"
    if post_filter is not None:
        preset = replace(preset, post_filter=post_filter[0], post_filter_axial=post_filter[1])
    own = noise_correlation(series.suv, liver, voxel_size=series.voxel_size)
    settings = InsertionSettings(
        scanner=scanner_of(attenuation, voxel_size=series.voxel_size, preset=preset),
        attenuation=attenuation,
        liver=liver,
        liver_cov=liver_cov,
        fine_liver_noise=fine_liver_noise,
        noise_correlation=own if post_filter is None else None,
        device=device,
    )
    return SeriesScan(
        scan=full_dose_scan(image, settings, rng=rng),
        voxel_size=series.voxel_size,
        liver=liver,
        own_correlation=own,
        is_fitted=post_filter is None,
        attenuation_source=attenuation_source,
    )


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

    The factors are different, above 1 and up to 200. The same seed and input give the same images. The other arguments
    are those of `scan_of_series`.

    Raises
    ------
    PETError
        If a factor is out of range, the grid does not suit, or the series is not corrected for attenuation.
    """
    ordered = check_dose_reduction_factors(factors)
    rng = np.random.default_rng(seed)
    fitted = scan_of_series(
        series,
        liver=liver,
        rng=rng,
        liver_cov=liver_cov,
        preset=preset,
        post_filter=post_filter,
        attenuation=attenuation,
        attenuation_source=attenuation_source,
        device=device,
    )
    images = fitted.scan.low_doses(ordered, rng=rng)
    texture = fitted.texture(images[ordered[0]] - series.suv)
    made_by = (
        f", as by a scan so many times shorter: simulated on scanner {fitted.scan.model.scanner.name}, attenuation "
        f"from {fitted.attenuation_source}, coefficient of variation of the liver {liver_cov:.4f} at full dose, "
        f"{texture}, seed {seed}."
    )
    duration = series.header.frame_duration
    result = {}
    for factor, image in images.items():
        header = replace(series.header, frame_duration=None if duration is None else duration / factor)
        note = f"Noise inserted for a dose reduction factor of {factor:g}{made_by}"
        result[factor] = replace(series.with_suv(image, note=note), header=header)
    return LowDoses(result, texture, fitted.modelled_resolution)
