"""What a network has to beat: the noisy input, the best Gaussian and the best non-local means for each dose."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.comparison.gaussian_width import best_gaussian_fwhm
from pipeline.comparison.nonlocal_means import best_nonlocal_means_strength, nonlocal_means_filter
from pipeline.data import dose_keys
from pipeline.errors import PETError
from pipeline.evaluation import PEAK_SUV
from pipeline.images import gaussian_filter_mm
from pipeline.pet import PETSeries, read_pet

__all__ = ["COMPETITORS", "Competitors", "tune_competitors"]

COMPETITORS = ("input", "gaussian", "nonlocal_means")
"""Names of the competitors in the measurements, the noisy input first."""

_FWHM_CANDIDATES = (0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16)


@dataclass(frozen=True, kw_only=True)
class Competitors:
    """Filters with settings that were chosen on other subjects."""

    gaussian_fwhm: Mapping[float, float]
    """Dose reduction factor -> full width at half maximum [mm]."""
    nonlocal_means_strength: Mapping[float, float]
    """Dose reduction factor -> strength relative to the noise of the scan."""

    def at(self, factor: float) -> dict[str, Callable[[PETSeries], PETSeries]]:
        """The competitors for a dose reduction factor, by name.

        Raises
        ------
        PETError
            If they were not tuned for that dose.
        """
        if factor not in self.gaussian_fwhm or factor not in self.nonlocal_means_strength:
            tuned = ", ".join(f"{f:g}" for f in self.gaussian_fwhm)
            raise PETError(f"the filters were tuned for DRF {tuned}, expected tuning subjects with DRF {factor:g}")
        fwhm, strength = self.gaussian_fwhm[factor], self.nonlocal_means_strength[factor]

        def gaussian(series: PETSeries) -> PETSeries:
            return series.with_suv(gaussian_filter_mm(series.suv, fwhm=fwhm, voxel_size=series.voxel_size))

        def nonlocal_means(series: PETSeries) -> PETSeries:
            return series.with_suv(nonlocal_means_filter(series.suv, strength=strength, voxel_size=series.voxel_size))

        return dict(zip(COMPETITORS, (lambda series: series, gaussian, nonlocal_means), strict=True))


def tune_competitors(
    items: Sequence[Mapping[str, str]],
    *,
    factors: Sequence[float] | None = None,
    on_dose: Callable[[str], None] = lambda key: None,
) -> Competitors:
    """Settings with the highest mean PSNR against full dose on these subjects, for each dose.

    Parameters
    ----------
    items
        Subjects, from :func:`~pipeline.comparison.subjects_of_cohorts`; others than those measured on.
    factors
        Dose reduction factors to tune for; by default all that the subjects have.
    on_dose
        Is told the key of each dose when it is done.
    """
    widths, strengths = {}, {}
    full_dose = [read_pet(item["label"]) for item in items]
    for key, factor in dose_keys(items[0]).items():
        if factors is not None and factor not in factors:
            continue
        low_dose = [read_pet(item[key]) for item in items]
        pairs = [(low.suv, full.suv, low.voxel_size) for low, full in zip(low_dose, full_dose, strict=True)]
        widths[factor] = best_gaussian_fwhm(pairs, data_range=PEAK_SUV, candidates=_FWHM_CANDIDATES)
        strengths[factor] = best_nonlocal_means_strength(pairs, data_range=PEAK_SUV)
        on_dose(key)
    return Competitors(gaussian_fwhm=widths, nonlocal_means_strength=strengths)
