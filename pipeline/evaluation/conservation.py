"""Whether a denoised image keeps the activity of its input: means of spheres all over the body."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.images import ball_offsets

__all__ = ["Spheres", "body_spheres", "spheres_in"]

_SPHERE, _SPACING = 50.0, 25.0  # [mm] diameter, and from centre to centre
_AT_ONCE = 128  # spheres gathered in one step, which bounds the memory


@dataclass(frozen=True)
class Spheres:
    """Spheres of one size in images of one shape."""

    centres: NDArray[np.intp]
    """Index of each centre in the flattened image, shape (n,)."""
    offsets: NDArray[np.intp]
    """Steps from a centre to the voxels of its sphere in the flattened image, shape (m,)."""

    def means(self, image: ArrayLike) -> NDArray[np.float64]:
        """Return the mean of an image (X, Y, Z) in each sphere, in its unit, shape (n,)."""
        values = np.ascontiguousarray(image).ravel()
        steps = range(0, len(self.centres), _AT_ONCE)
        parts = [
            values[self.centres[i : i + _AT_ONCE, None] + self.offsets].mean(axis=1, dtype=np.float64) for i in steps
        ]
        return np.concatenate(parts) if parts else np.empty(0)

    def change_percent(self, image: ArrayLike, reference: ArrayLike) -> NDArray[np.float64]:
        """Return 100 (mean(image) / mean(reference) - 1) of each sphere whose reference has activity [%]."""
        new, old = self.means(image), self.means(reference)
        active = old > 0
        return 100 * (new[active] / old[active] - 1)


def spheres_in(mask: NDArray[np.bool_], *, diameter: float, spacing: float, voxel_size: Sequence[float]) -> Spheres:
    """Return the spheres that lie in a mask with all of their voxels, centres on a lattice.

    `mask` has shape (X, Y, Z); `diameter`, the `spacing` of the lattice, and `voxel_size` are in mm. There may be none.
    """
    offsets = ball_offsets(diameter / 2, voxel_size=voxel_size)
    reach = offsets.max(axis=0)
    steps = [max(1, round(spacing / size)) for size in voxel_size]
    axes = [np.arange(r, max(r, n - r), step) for r, n, step in zip(reach, mask.shape, steps, strict=True)]
    strides = np.array([mask.shape[1] * mask.shape[2], mask.shape[2], 1])
    centres = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3) @ strides
    if any(n <= 2 * r for n, r in zip(mask.shape, reach, strict=True)):
        centres = centres[:0]
    flat = offsets @ strides
    centres = centres[mask.ravel()[centres]]
    return Spheres(centres[Spheres(centres, flat).means(mask) == 1], flat)


def body_spheres(body: NDArray[np.bool_], *, voxel_size: Sequence[float]) -> Spheres:
    """Return the spheres of 50 mm that lie in a body, 25 mm apart: where SUV is to be conserved; see `spheres_in`."""
    return spheres_in(body, diameter=_SPHERE, spacing=_SPACING, voxel_size=voxel_size)
