"""The second baseline a denoiser has to beat: non-local means, its strength chosen on other subjects."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.evaluation.image_quality import noise_sd, psnr
from pipeline.evaluation.regions import body_mask

__all__ = ["best_nonlocal_means_strength", "nonlocal_means_filter"]

_PATCH_SIZE = 5  # voxels a side
_PATCH_DISTANCE = 3  # voxels to the farthest patch compared, so 7 x 7 x 7 patches


def nonlocal_means_filter(suv: ArrayLike, *, strength: float, voxel_size: Sequence[float]) -> NDArray[np.float32]:
    """Non-local means of the square root of SUV (Buades 2005, CVPR 2:60; Darbon 2008, ISBI 1331).

    The variance of a PET image rises with its uptake and non-local means wants it constant: the filter works on the
    square root, and its result is squared. Weights are exp(-d / h^2) with d the mean squared difference of patches of
    5 x 5 x 5 voxels within 7 x 7 x 7, and h = `strength` x noise of the square root, measured in the body of this
    scan. On a simulated patient with 5 mm voxels the square root gave 1.4 dB more than SUV at a fourth of the dose,
    patches of 5 voxels 0.5 to 1.0 dB more than of 3, and a search of 11 x 11 x 11 less at four times the cost.

    Parameters
    ----------
    suv
        SUV image, shape (X, Y, Z) [g/mL]. Negative values count as 0.
    strength
        h relative to the noise; 0 returns a copy.
    voxel_size
        Spacing along X, Y, Z [mm].

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
    return (smooth**2).astype(np.float32)


def best_nonlocal_means_strength(
    pairs: Iterable[tuple[ArrayLike, ArrayLike, Sequence[float]]],
    *,
    data_range: float,
    candidates: Sequence[float] = (0, 1, 1.5, 1.75, 2, 2.25, 2.5),
) -> float:
    """The strength with the highest mean PSNR over given subjects; give it others than it is then compared on.

    Parameters
    ----------
    pairs
        (noisy SUV, reference SUV, voxel size [mm]) of each subject; read once, so a generator will do.
    data_range
        Peak of the PSNR [g/mL].
    candidates
        Strengths to try. A tie goes to the weakest.

    Raises
    ------
    ValueError
        No pairs or no candidates.
    """
    strengths = sorted(candidates)
    scores = np.array(
        [
            [
                psnr(
                    nonlocal_means_filter(noisy, strength=strength, voxel_size=voxel_size),
                    reference,
                    data_range=data_range,
                )
                for strength in strengths
            ]
            for noisy, reference, voxel_size in pairs
        ]
    )
    if scores.size == 0:
        raise ValueError("best_nonlocal_means_strength: no pairs or no candidates to choose from")
    return float(strengths[int(np.argmax(scores.mean(axis=0)))])
