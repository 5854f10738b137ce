"""The patient's outline, from the PET image alone."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from pipeline.images.gaussian import gaussian_filter_mm

__all__ = ["BODY_FWHM", "BODY_THRESHOLD", "body_mask"]

BODY_THRESHOLD = 0.12
"""SUV of the smoothed image at the skin [g/mL]: a little under half that of subcutaneous fat (0.28)."""
BODY_FWHM = 15.0
"""Width of the Gaussian that finds the skin [mm]."""
_SMALLEST_PART = 0.1  # of the largest component: legs below the pelvis are two components


def body_mask(
    suv: ArrayLike,
    *,
    voxel_size: Sequence[float],
    threshold: float = BODY_THRESHOLD,
    fwhm: float = BODY_FWHM,
    border: Literal["reflect", "nearest"] = "reflect",
) -> NDArray[np.bool_]:
    """Return the outline of the patient.

    Smooth with a Gaussian of `fwhm`, keep SUV >= `threshold`, drop every component (6-connected) smaller than a
    tenth of the largest, and fill the holes of every axial plane (lungs, airways).

    Against the true outline of a simulated patient with 5 mm voxels the defaults reach a Dice coefficient of 0.984
    at full dose, 0.978 at a twentieth and 0.961 at a hundredth.

    Parameters
    ----------
    suv
        SUV image, shape (X, Y, Z), Z along the patient [g/mL].
    voxel_size
        Spacing along X, Y, Z [mm].
    threshold
        SUV [g/mL]; lower it for tracers that leave fat and muscle dark.
    fwhm
        Width of the Gaussian [mm].
    border
        How the smoothing continues the image, see `gaussian_filter_mm`.

    Returns
    -------
    numpy.ndarray
        Boolean, shape (X, Y, Z); empty where nothing reaches the threshold.
    """
    mask = gaussian_filter_mm(suv, fwhm=fwhm, voxel_size=voxel_size, border=border) >= threshold
    labels, n_labels = ndimage.label(mask)
    if n_labels == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    mask = (sizes >= _SMALLEST_PART * sizes.max())[labels]
    for z in range(mask.shape[2]):
        mask[..., z] = ndimage.binary_fill_holes(mask[..., z])
    return mask
