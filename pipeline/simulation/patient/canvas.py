"""The volume that a phantom is painted on: patient coordinates, gentle warping and anti-aliased painting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, sparse

from pipeline.simulation.attenuation import WATER
from pipeline.simulation.patient.physique import TOP_MARGIN, Physique
from pipeline.simulation.patient.shapes import Shape
from pipeline.simulation.patient.texture import Texture

__all__ = ["ATTENUATION", "Canvas", "smooth_field"]

ATTENUATION: dict[str, float] = {
    "air": 0.0,
    "lung": 0.0028,
    "fat": 0.0090,
    "soft": WATER,
    "bone": 0.0130,
    "metal": 0.036,
}
"""Linear attenuation at 511 keV [1/mm]: what a bilinear CT conversion gives for the usual tissues; metal is titanium
(4.5 g/cm3, 0.08 cm2/g: NIST XCOM)."""

_WARP_AMPLITUDE = 4.5  # [mm] standard deviation: organs are no longer ellipsoids, and stay in place
_WARP_CORRELATION = 90.0  # [mm]
_WARP_LIMIT = 2.8  # standard deviations: bounds how far a painted box must reach
_SLOPE = 1.9  # of a smooth field per correlation length, root mean square
_SLAB_VOXELS = 1_500_000  # larger boxes are painted slab by slab, to bound the temporaries


def _bspline_matrix(n: int, spacing: float) -> sparse.csr_array:
    """Return the cubic B-spline interpolation from knots `spacing` samples apart to n samples, shape (n, n_knots)."""
    u = np.arange(n) / spacing
    first = np.floor(u).astype(int)
    t = u - first
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
    columns = first[:, None] + np.arange(4)
    rows = np.repeat(np.arange(n), 4)
    return sparse.csr_array((weights.ravel().astype(np.float32), (rows, columns.ravel())), shape=(n, first[-1] + 4))


def smooth_field(
    rng: np.random.Generator, shape: tuple[int, ...], *, correlation: float, voxel_size: tuple[float, float, float]
) -> np.ndarray:
    """Smooth random field of zero mean and unit variance: coarse white noise, B-spline interpolated.

    Sparse products only: the result does not depend on the number of BLAS threads.

    `correlation` is the correlation length [mm], like the voxels. The result is float32, of `shape` (X, Y, Z).
    """
    spacing = [max(correlation / 1.6 / v, 1.0) for v in voxel_size]
    bx, by, bz = (_bspline_matrix(n, s) for n, s in zip(shape, spacing, strict=True))
    nx, ny, nz = shape
    kx, ky, kz = bx.shape[1], by.shape[1], bz.shape[1]
    knots = rng.standard_normal((kx, ky, kz), dtype=np.float32)
    field = (bz @ knots.reshape(kx * ky, kz).T).T.reshape(kx, ky, nz)
    field = by @ np.ascontiguousarray(field.transpose(1, 0, 2)).reshape(ky, kx * nz)
    field = field.reshape(ny, kx, nz).transpose(1, 0, 2)
    field = (bx @ np.ascontiguousarray(field).reshape(kx, ny * nz)).reshape(nx, ny, nz)
    field -= field.mean()
    field /= field.std() + np.float32(1e-6)
    return field


@dataclass
class Canvas:
    """Activity, attenuation and labels, painted in the coordinates of a reference body.

    They are in mm: x to the patient's right, y to anterior, z downwards from the vertex. They are stretched and warped
    to the patient, so that organs are described once for everybody.
    """

    shape: tuple[int, int, int]
    """Voxels along X, Y, Z."""
    voxel_size: tuple[float, float, float]
    """[mm]."""
    rng: np.random.Generator
    physique: Physique
    """Stretches the reference body to the patient."""

    def __post_init__(self) -> None:
        nx, ny, nz = self.shape
        dx, dy, dz = self.voxel_size
        shift_x, shift_y = self.rng.uniform(-6, 6, 2)
        self._x = ((np.arange(nx) - (nx - 1) / 2) * dx).astype(np.float32) + np.float32(shift_x)
        self._y = ((np.arange(ny) - (ny - 1) / 2) * dy).astype(np.float32) + np.float32(shift_y)
        depth = ((nz - np.arange(nz) - 0.5) * dz - TOP_MARGIN).astype(np.float32)
        self._z = self.physique.reference_depth(depth).astype(np.float32)
        stretch_x, stretch_y, _ = self.physique.stretch(self._z)
        self._stretch = (stretch_x.astype(np.float32), stretch_y.astype(np.float32))
        self._warp = []
        for _ in range(3):
            field = self.field(self.shape, correlation=_WARP_CORRELATION)
            np.clip(field, -_WARP_LIMIT, _WARP_LIMIT, out=field)
            # The skull is stiff: the head warps less than the trunk.
            field *= (_WARP_AMPLITUDE * np.interp(self._z, [200, 330], [0.35, 1.0])).astype(np.float32)
            self._warp.append(field)
        self.activity = np.zeros(self.shape, dtype=np.float32)
        self.attenuation = np.zeros(self.shape, dtype=np.float32)
        self.labels = np.zeros(self.shape, dtype=np.uint8)
        self._texture = Texture(self.rng, self.voxel_size)

    @property
    def edge(self) -> float:
        """Width over which a surface is anti-aliased [mm]."""
        return float(np.cbrt(np.prod(self.voxel_size)))

    def field(self, shape: tuple[int, ...], *, correlation: float, stretch: float = 1.0) -> np.ndarray:
        """Smooth random field on the canvas' voxels, `stretch` times longer along Z, see `smooth_field`."""
        dx, dy, dz = self.voxel_size
        return smooth_field(self.rng, shape, correlation=correlation, voxel_size=(dx, dy, dz / stretch))

    def sheets(
        self, box: tuple[slice, slice, slice], *, spacing: float, thickness: float, stretch: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return thin irregular sheets, as fasciae and septa are: the zeros of a smooth field.

        They lie about `spacing` [mm] apart, `thickness` [mm] is their mean one. The result is the fraction of each
        voxel of the box that lies in a sheet, and the side of the sheet that it lies on, -1 to 1, both float32.
        """
        shape = tuple(s.stop - s.start for s in box)
        field = self.field(shape, correlation=spacing, stretch=stretch)
        # Root mean square slope of the field across a sheet.
        distance = field * np.float32(spacing / _SLOPE)
        fraction = np.clip(0.5 + (np.float32(thickness / 2) - np.abs(distance)) / np.float32(self.edge), 0, 1)
        fraction *= np.float32(min(1.0, thickness / self.edge))
        return fraction, np.clip(distance / np.float32(self.edge), -1, 1)

    def texture(self, shape: tuple[int, ...], *, sd: float, length: float, stretch: float = 1.0) -> np.ndarray:
        """Return factors of mean 1, log-normal with standard deviation `sd` of the logarithm, see `Texture`."""
        field = self._texture.field(shape, length=length, stretch=stretch)
        field *= np.float32(sd)
        np.exp(field, out=field)
        field /= field.mean()
        return field

    def hold_mean(self, label: int, suv: float, box: tuple[slice, slice, slice]) -> None:
        """Scale an organ in a box so that its mean, away from its surface, is `suv` [g/mL] again."""
        organ = self.labels[box] == label
        core = ndimage.binary_erosion(organ)
        if core.any():
            activity = self.activity[box]
            activity[organ] *= np.float32(suv / activity[core].mean(dtype=np.float64))

    def box(self, lower: np.ndarray, upper: np.ndarray) -> tuple[slice, slice, slice]:
        """Return the voxels that may see a solid between two corners [mm], with room for the warp."""
        margin = _WARP_AMPLITUDE * _WARP_LIMIT + 2 * self.edge
        inside = np.nonzero((self._z >= lower[2] - margin) & (self._z <= upper[2] + margin))[0]
        if inside.size == 0:
            return (slice(0, 0),) * 3
        sz = slice(int(inside[0]), int(inside[-1]) + 1)
        slices = []
        for axis, (coordinate, stretch) in enumerate(zip((self._x, self._y), self._stretch, strict=True)):
            s = stretch[sz]
            low = min(((lower[axis] - margin) * s).min(), ((lower[axis] - margin) * s).max())
            high = ((upper[axis] + margin) * s).max()
            first, last = np.searchsorted(coordinate, [low, high])
            slices.append(slice(int(first), int(last)))
        return slices[0], slices[1], sz

    def coordinates(self, box: tuple[slice, slice, slice]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the reference coordinates x, y, z [mm] of the voxels of a box, each of the box's shape."""
        sx, sy, sz = box
        x = self._x[sx][:, None, None] / self._stretch[0][sz] + self._warp[0][box]
        y = self._y[sy][None, :, None] / self._stretch[1][sz] + self._warp[1][box]
        return x, y, self._z[sz] + self._warp[2][box]

    def reference_point(self, index: np.ndarray) -> np.ndarray:
        """Return the reference coordinates x, y, z [mm] of one voxel. Shape (3,)."""
        i, j, k = (int(v) for v in index)
        box = (slice(i, i + 1), slice(j, j + 1), slice(k, k + 1))
        return np.array([float(c.ravel()[0]) for c in self.coordinates(box)])

    def natural(self, center: tuple[float, float, float], half_axes: tuple[float, float, float]) -> np.ndarray:
        """Return the half axes in the reference body of an organ that has the given half axes [mm] in the patient.

        Organs do not grow with girth as the body does.
        """
        sx, sy, sz = self.physique.stretch(np.array([center[2]]))
        return np.asarray(half_axes) / np.array([sx[0], sy[0], sz])

    def coverage(self, shape: Shape, box: tuple[slice, slice, slice]) -> np.ndarray:
        """Return the fraction of each voxel of a box that lies in the solid, 0 to 1, float32."""
        return np.clip(0.5 - shape.distance(*self.coordinates(box)) / np.float32(self.edge), 0, 1).astype(np.float32)

    def paint(
        self,
        shape: Shape,
        suv: float,
        *,
        tissue: str | None = "soft",
        label: int = 0,
        texture: float = 0.0,
        texture_length: float = 25.0,
        stretch: float = 1.0,
        inside: np.ndarray | None = None,
    ) -> None:
        """Paint a solid over what is there, weighted by how much of each voxel it covers.

        `shape` is in reference coordinates, `suv` in g/mL. `tissue` is a key of `ATTENUATION` (None leaves the
        attenuation alone), `label` an organ's label (0 leaves the labels alone). `texture` is the standard deviation of
        the uptake relative to its mean, `texture_length` its largest scale [mm], `stretch` how much longer it is along
        Z. `inside` is a fraction, 0 to 1, that the coverage is multiplied with (for instance: inside the muscle wall),
        shape (X, Y, Z).
        """
        box = self.box(shape.lower, shape.upper)
        extent = tuple(s.stop - s.start for s in box)
        if min(extent) < 1:
            return
        modulation = self.texture(extent, sd=texture, length=texture_length, stretch=stretch) if texture else None
        step = max(1, _SLAB_VOXELS // (extent[0] * extent[1]))
        for first in range(box[2].start, box[2].stop, step):
            slab = (box[0], box[1], slice(first, min(first + step, box[2].stop)))
            alpha = self.coverage(shape, slab)
            if inside is not None:
                alpha *= inside[slab]
            value: np.ndarray | np.float32 = np.float32(suv)
            if modulation is not None:
                value = value * modulation[:, :, slab[2].start - box[2].start : slab[2].stop - box[2].start]
            self.activity[slab] += alpha * (value - self.activity[slab])
            if tissue is not None:
                self.attenuation[slab] += alpha * (np.float32(ATTENUATION[tissue]) - self.attenuation[slab])
            if label:
                self.labels[slab][alpha > 0.5] = label
