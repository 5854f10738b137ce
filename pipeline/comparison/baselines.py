"""What a network has to beat: the noisy input, the best Gaussian and the best non-local means for each dose."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.comparison.cases import Case, doses_of
from pipeline.errors import PETError
from pipeline.evaluation import PEAK_SUV, noise_sd, psnr
from pipeline.images import body_mask, gaussian_filter_mm
from pipeline.pet import PETSeries

__all__ = [
    "COMPETITORS",
    "Competitors",
    "best_gaussian_fwhm",
    "best_nonlocal_means_strength",
    "nonlocal_means_filter",
    "tune_competitors",
]

COMPETITORS = ("input", "gaussian", "nonlocal_means")
"""Names of the competitors in the measurements, the noisy input first."""

_PATCH_SIZE = 5  # voxels a side
_PATCH_DISTANCE = 3  # voxels to the farthest patch compared, so 7 x 7 x 7 patches
_GIVEN_BACK_FWHM = 30.0  # [mm]
_FWHM_CANDIDATES = (0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16)


@dataclass(frozen=True, kw_only=True)
class Competitors:
    """Filters with settings that were chosen on other subjects."""

    gaussian_fwhm: Mapping[float, float]
    """Dose reduction factor -> full width at half maximum [mm]."""
    nonlocal_means_strength: Mapping[float, float]
    """Dose reduction factor -> strength relative to the noise of the scan."""

    def at(self, factor: float) -> dict[str, Callable[[PETSeries], PETSeries]]:
        """Return the competitors for a dose reduction factor, by name.

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
    cases: Sequence[Case],
    *,
    factors: Sequence[float] | None = None,
    on_dose: Callable[[float], None] = lambda factor: None,
) -> Competitors:
    """Return the settings with the highest mean PSNR against full dose, for each dose.

    Give it other subjects than those measured on. `factors` are the dose reduction factors to tune for, by default all
    that a subject has; `on_dose` is told each one when it is done.

    Raises
    ------
    PETError
        If no subject has one of the doses.
    """
    widths, strengths = {}, {}
    known = doses_of(cases)
    full_dose = {case.name: case.full_dose() for case in cases}
    for factor in known if factors is None else sorted(factors):
        if factor not in known:
            had = ", ".join(f"{f:g}" for f in known) or "none"
            raise PETError(f"no subject to tune on has DRF {factor:g} (found {had}), expected every dose measured")
        having = [case for case in cases if factor in case.doses]
        low_dose = [case.read(case.doses[factor]) for case in having]
        pairs = [(low.suv, full_dose[c.name].suv, low.voxel_size) for c, low in zip(having, low_dose, strict=True)]
        widths[factor] = best_gaussian_fwhm(pairs, data_range=PEAK_SUV)
        strengths[factor] = best_nonlocal_means_strength(pairs, data_range=PEAK_SUV)
        on_dose(factor)
    return Competitors(gaussian_fwhm=widths, nonlocal_means_strength=strengths)


def best_gaussian_fwhm(
    pairs: Iterable[tuple[ArrayLike, ArrayLike, Sequence[float]]],
    *,
    data_range: float,
    candidates: Sequence[float] = _FWHM_CANDIDATES,
) -> float:
    """Return the filter width [mm] with the highest mean PSNR over given subjects; a tie goes to the narrowest.

    Give it other subjects than those it is then compared on: chosen on the test image itself the baseline knows the
    answer.

    `pairs` holds (noisy SUV, reference SUV, voxel size [mm]) of each subject and is read once, so a generator will do.
    `data_range` is the peak of the PSNR [g/mL], `candidates` are the widths to try [mm].

    Raises
    ------
    ValueError
        No pairs or no candidates.
    """
    widths = sorted(candidates)

    def score(noisy: ArrayLike, reference: ArrayLike, voxel_size: Sequence[float], width: float) -> float:
        filtered = gaussian_filter_mm(noisy, fwhm=width, voxel_size=voxel_size)
        return psnr(filtered, reference, data_range=data_range)

    scores = np.array([[score(*pair, width) for width in widths] for pair in pairs])
    if scores.size == 0:
        raise ValueError("best_gaussian_fwhm: no pairs or no candidates to choose from")
    return float(widths[int(np.argmax(scores.mean(axis=0)))])


def nonlocal_means_filter(suv: ArrayLike, *, strength: float, voxel_size: Sequence[float]) -> NDArray[np.float32]:
    """Return non-local means of the square root of SUV (Buades 2005, CVPR 2:60; Darbon 2008, ISBI 1331).

    The variance of a PET image rises with its uptake and non-local means wants it constant: the filter works on the
    square root, and its result is squared. Weights are exp(-d / h^2) with d the mean squared difference of patches of
    5 x 5 x 5 voxels within 7 x 7 x 7, and h = `strength` x noise of the square root, measured in the body of this
    scan. The square of a mean root is less than the mean, by the variance that was averaged away: it is given back as
    the local mean, over a Gaussian of 30 mm, of what the filter took.

    Everything was chosen for the highest PSNR, on 40 planes through the liver of a simulated patient with 5 mm voxels,
    each with its best strength, at a fourth, a twentieth and a hundredth of the dose: without giving back 0.3, 1.3
    and 3.2 dB less, and the liver 1, 5 and 23 % too low; on SUV itself about 1, 0.8 and 0.4 dB less; patches of 3 or
    7 voxels and a search of 9 x 9 x 9 voxels no better anywhere.

    `suv` has shape (X, Y, Z) [g/mL]; negative values count as 0. `strength` is h relative to the noise; 0 returns a
    copy. `voxel_size` is in mm.

    Raises
    ------
    ValueError
        The strength is negative.
    """
    if not strength >= 0:
        raise ValueError(f"nonlocal_means_filter: strength must not be negative, found {strength}")
    volume = np.array(suv, dtype=np.float32)
    if strength == 0:
        return volume
    body = body_mask(volume, voxel_size=voxel_size)
    root = np.sqrt(np.maximum(volume, 0))
    noise = noise_sd(root, mask=body) if body.any() else 0.0
    if noise == 0:
        return volume
    # Imported here: the rest of the package does without.
    from skimage.restoration import denoise_nl_means

    smooth = denoise_nl_means(
        root, patch_size=_PATCH_SIZE, patch_distance=_PATCH_DISTANCE, h=strength * noise, fast_mode=True
    )
    smooth = smooth**2
    return smooth + gaussian_filter_mm(volume - smooth, fwhm=_GIVEN_BACK_FWHM, voxel_size=voxel_size)


def best_nonlocal_means_strength(
    pairs: Iterable[tuple[ArrayLike, ArrayLike, Sequence[float]]],
    *,
    data_range: float,
    candidates: Sequence[float] = (0, 1, 1.5, 1.75, 2, 2.25, 2.5, 3, 3.5, 4, 5),
) -> float:
    """Return the strength with the highest mean PSNR over given subjects; a tie goes to the weakest.

    Give it other subjects than those it is then compared on, and whole scans: of the middle third of the planes the
    noise is up to 8 % less, and the strength that was best there cost 0.5 dB on the whole scan at a hundredth of the
    dose. The search climbs from the middle of the candidates: the curve has one peak, and a scan takes seconds.

    `candidates` are the strengths to try; the other arguments are those of `best_gaussian_fwhm`.

    Raises
    ------
    ValueError
        No pairs or no candidates.
    """
    strengths, scans = sorted(candidates), list(pairs)
    if not (strengths and scans):
        raise ValueError("best_nonlocal_means_strength: no pairs or no candidates to choose from")

    @cache
    def score(i: int) -> float:
        filtered = (
            (nonlocal_means_filter(noisy, strength=strengths[i], voxel_size=voxel_size), reference)
            for noisy, reference, voxel_size in scans
        )
        return float(np.mean([psnr(pred, reference, data_range=data_range) for pred, reference in filtered]))

    best, previous = len(strengths) // 2, -1
    while best != previous:
        previous = best
        best = max(range(max(best - 1, 0), min(best + 2, len(strengths))), key=score)
    return float(strengths[best])
