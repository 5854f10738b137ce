"""Attenuation at 511 keV of a patient who was scanned: from the CT, or from the outline of the body alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from pipeline.errors import PETError
from pipeline.images.regions import BODY_THRESHOLD, body_mask

__all__ = ["WATER", "attenuation_from_body", "attenuation_from_ct", "resampled"]

WATER = 0.0096
"""Linear attenuation of water at 511 keV [1/mm]."""

_ABOVE_WATER = {
    80: (3.64e-6, 6.26e-3),
    100: (4.43e-6, 5.44e-3),
    110: (4.92e-6, 4.88e-3),
    120: (5.10e-6, 4.71e-3),
    130: (5.51e-6, 4.24e-3),
    140: (5.64e-6, 4.08e-3),
}
"""By tube voltage [kV]: slope [1/mm per HU] and intercept [1/mm] of the line for bone, Carney 2006, table I."""

_AIR = -1000.0  # [HU]


def attenuation_from_ct(hu: np.ndarray, *, tube_voltage: int = 120) -> np.ndarray:
    """Convert a CT to attenuation at 511 keV by two straight lines, one for air and water, one with bone.

    Below the break mu = 9.6e-6 (HU + 1000) / mm, above it mu = a (HU + 1000) + b with a and b of the tube voltage
    (Carney 2006, Med Phys 33:976, doi 10.1118/1.2174132). The lines meet between 30 and 52 HU.

    `hu` has any shape; less than air, as outside the field of view, is air. `tube_voltage` is that of the CT [kV]. The
    result is float32 [1/mm], of the shape of `hu`.

    Raises
    ------
    PETError
        If the tube voltage is not in the table.
    """
    if tube_voltage not in _ABOVE_WATER:
        raise PETError(f"tube voltage is {tube_voltage} kV, expected one of {', '.join(map(str, _ABOVE_WATER))}")
    slope, intercept = _ABOVE_WATER[tube_voltage]
    density = np.maximum(np.asarray(hu, dtype=np.float32) - np.float32(_AIR), 0)
    # The line with bone is the flatter one, so below the break it is the upper, above it the lower one.
    water_line = np.float32(WATER / 1000) * density
    return np.minimum(water_line, np.float32(slope) * density + np.float32(intercept))


def attenuation_from_body(suv: np.ndarray, *, voxel_size: Sequence[float]) -> np.ndarray:
    """Return the attenuation of water wherever the PET image shows the body (`body_mask`): what is known without a CT.

    Lungs are taken for water, too: the image cannot tell them from fat.

    `suv` is SUVbw [g/mL], shape (X, Y, Z) with Z along the patient; `voxel_size` is in mm. The result is float32
    [1/mm], of that shape.

    Raises
    ------
    PETError
        If nothing in the image reaches the uptake of a body's surface.
    """
    body = body_mask(np.asarray(suv, dtype=np.float32), voxel_size=voxel_size, border="nearest")
    if not body.any():
        raise PETError(f"no voxel of the smoothed image reaches SUV {BODY_THRESHOLD:g}, expected to see the body")
    return np.where(body, np.float32(WATER), np.float32(0))


def resampled(
    volume: np.ndarray, affine: np.ndarray, *, onto_shape: Sequence[int], onto_affine: np.ndarray, outside: float
) -> np.ndarray:
    """Resample a volume to another grid: average over the larger of the two voxels, interpolate linearly.

    Affines, shape (4, 4), map voxels to RAS+ mm; `outside` is the value where the volume does not reach. The result is
    float32, of shape `onto_shape`.
    """
    mapping = np.linalg.solve(affine, onto_affine)
    # How many of the volume's voxels one voxel of the other grid spans along each of the volume's axes.
    span = np.abs(mapping[:3, :3]).max(axis=1)
    smooth = ndimage.gaussian_filter(
        np.asarray(volume, dtype=np.float32),
        np.sqrt(np.maximum(span**2 - 1, 0) / 12),  # a box of n samples has the variance (n^2 - 1) / 12
        mode="nearest",
    )
    return ndimage.affine_transform(
        smooth, mapping[:3, :3], offset=mapping[:3, 3], output_shape=tuple(onto_shape), order=1, cval=outside
    )
