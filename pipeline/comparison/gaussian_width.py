"""The baseline that every denoiser has to beat: a Gaussian filter whose width was chosen on other subjects."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from pipeline.evaluation import psnr
from pipeline.images import gaussian_filter_mm

__all__ = ["best_gaussian_fwhm"]


def best_gaussian_fwhm(
    pairs: Iterable[tuple[ArrayLike, ArrayLike, Sequence[float]]],
    *,
    data_range: float,
    candidates: Sequence[float] = (0, 2, 3, 4, 5, 6, 7, 8, 10, 12),
) -> float:
    """The filter width [mm] with the highest mean PSNR over given subjects.

    Give it other subjects than those it is then compared on: chosen on the test image itself the baseline
    knows the answer.

    Parameters
    ----------
    pairs
        (noisy SUV, reference SUV, voxel size [mm]) of each subject; read once, so a generator will do.
    data_range
        Peak of the PSNR [g/mL].
    candidates
        Widths to try [mm]. A tie goes to the narrowest.

    Raises
    ------
    ValueError
        No pairs or no candidates.
    """
    widths = sorted(candidates)
    scores = np.array(
        [
            [
                psnr(
                    gaussian_filter_mm(noisy, fwhm=width, voxel_size=voxel_size),
                    reference,
                    data_range=data_range,
                )
                for width in widths
            ]
            for noisy, reference, voxel_size in pairs
        ]
    )
    if scores.size == 0:
        raise ValueError("best_gaussian_fwhm: no pairs or no candidates to choose from")
    return float(widths[int(np.argmax(scores.mean(axis=0)))])
