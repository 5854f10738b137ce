"""What is simulated of a scanner: geometry, resolution, time of flight, background, counts, reconstruction."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pipeline.errors import PETError

__all__ = ["MM_PER_PS", "Scanner", "axial_sensitivity", "point_sensitivity"]

MM_PER_PS = 0.1499
"""Half the way of light in a picosecond: what a difference of arrival times is in space [mm/ps]."""

_SMALLEST_VOXEL, _LARGEST_VOXEL = 0.1, 100.0  # [mm]
_LARGEST_WIDTH = 100.0  # [mm] of PSF and post-filter
_END_PLANE = 0.15  # of a bed's central sensitivity: its last planes see few lines of response, yet some


@dataclass(frozen=True)
class Scanner:
    """A PET scanner and its reconstruction. Slices are independent planes joined by an axial blur."""

    name: str
    """Name, for the records."""
    matrix: tuple[int, int, int]
    """Voxels of the reconstructed image along X, Y, Z; X and Y equal."""
    voxel_size: tuple[float, float, float]
    """[mm]; X and Y equal."""
    n_angles: int = 120
    """Projection angles over 180 degrees."""
    n_subsets: int = 12
    """Ordered subsets; divides the number of angles."""
    n_iterations: int = 4
    """Passes over all subsets."""
    psf_in_plane: float = 5.0
    """Resolution of the detectors in plane, full width at half maximum [mm]."""
    psf_axial: float = 7.0
    """The same along Z [mm]. 7 mm gives real images' axial correlation of noise to a model of planes."""
    models_psf: bool = True
    """Whether the reconstruction knows the resolution."""
    tof_fwhm: float | None = None
    """Time-of-flight resolution in space, full width at half maximum [mm]; None without. 1 ns is 150 mm."""
    scatter_fraction: float = 0.35
    """Scatter over scatter and trues."""
    randoms_fraction: float = 0.40
    """Randoms over all prompts, at full dose."""
    post_filter: float = 5.0
    """Gaussian filter after reconstruction, full width at half maximum [mm]."""
    post_filter_axial: float | None = None
    """The same along Z [mm]; None is as wide as in plane."""
    liver_cov: tuple[float, float] = (0.09, 0.12)
    """Range of the liver's coefficient of variation at full dose, drawn for each patient."""
    bed_length: float | None = 200.0
    """Axial field of view of the detectors [mm]; None for the same sensitivity in every slice."""
    bed_overlap: float | None = 0.45
    """Fraction of a bed position shared with the next; None for one position, from which all is seen at once."""
    ring_diameter: float = 800.0
    """Diameter of the detector rings [mm]."""
    largest_ring_difference: float | None = None
    """Axial distance between the two detectors of a line, at most [mm]; None for no limit."""
    supersampling: int = 2
    """How many times finer than the image the object is, per axis."""

    def __post_init__(self) -> None:
        if self.matrix[0] != self.matrix[1] or self.voxel_size[0] != self.voxel_size[1]:
            raise PETError(f"scanner {self.name}: matrix {self.matrix} of {self.voxel_size} mm, expected X equal to Y")
        if not all(_SMALLEST_VOXEL <= side <= _LARGEST_VOXEL for side in self.voxel_size):
            raise PETError(
                f"scanner {self.name}: voxels of {self.voxel_size} mm, expected sides of {_SMALLEST_VOXEL:g} to "
                f"{_LARGEST_VOXEL:g} mm"
            )
        widths = (self.psf_in_plane, self.psf_axial, self.post_filter, self.post_filter_axial or 0.0)
        if not all(0 <= width <= _LARGEST_WIDTH for width in widths):
            raise PETError(f"scanner {self.name}: widths {widths} mm, expected 0 to {_LARGEST_WIDTH:g}")
        if self.n_angles % self.n_subsets:
            raise PETError(f"scanner {self.name}: {self.n_angles} angles, expected a multiple of {self.n_subsets}")
        if not (0 <= self.scatter_fraction < 1 and 0 <= self.randoms_fraction < 1):
            raise PETError(
                f"scanner {self.name}: scatter {self.scatter_fraction}, randoms {self.randoms_fraction}, "
                "expected 0 to 1"
            )
        if not 0 < self.liver_cov[0] <= self.liver_cov[1]:
            raise PETError(f"scanner {self.name}: liver_cov {self.liver_cov}, expected a range above 0")
        length = self.matrix[2] * self.voxel_size[2]
        if self.bed_length is not None and self.bed_overlap is None and self.bed_length < length:
            raise PETError(
                f"scanner {self.name}: one bed position of {self.bed_length:g} mm for an image of {length:g} mm, "
                "expected a longer one, or a bed_overlap"
            )

    @property
    def axial_post_filter(self) -> float:
        """Full width at half maximum of the filter along Z [mm]."""
        return self.post_filter if self.post_filter_axial is None else self.post_filter_axial

    @property
    def post_filter_widths(self) -> tuple[float, float, float]:
        """Full widths at half maximum of the filter along X, Y, Z [mm]."""
        return self.post_filter, self.post_filter, self.axial_post_filter

    @property
    def n_tof_bins(self) -> int:
        """Number of time-of-flight bins; 1 without."""
        if self.tof_fwhm is None:
            return 1
        return 2 * int(self.matrix[0] * self.voxel_size[0] / 2 / self.tof_bin_size) + 1

    @property
    def tof_bin_size(self) -> float:
        """Width of a time-of-flight bin [mm]: about as wide as the resolution, which loses little."""
        return 0.9 * (self.tof_fwhm or 0.0)

    def covering(self, axial_extent: float | None) -> Scanner:
        """Return the same scanner with a scan of at most so many mm along Z, centred; None is all of it.

        Raises
        ------
        PETError
            If fewer than two slices are left.
        """
        if axial_extent is None:
            return self
        n = min(round(axial_extent / self.voxel_size[2]), self.matrix[2])
        if n < 2:
            raise PETError(
                f"scanner {self.name}: axial extent {axial_extent:g} mm, expected two slices of "
                f"{self.voxel_size[2]:g} mm at least"
            )
        return replace(self, matrix=(*self.matrix[:2], n))

    @property
    def object_shape(self) -> tuple[int, int, int]:
        """Voxels along X, Y, Z of what is scanned, `supersampling` times finer than the image."""
        f = self.supersampling
        return self.matrix[0] * f, self.matrix[1] * f, self.matrix[2] * f

    @property
    def object_voxel_size(self) -> tuple[float, float, float]:
        """Voxel size of what is scanned [mm]."""
        f = self.supersampling
        return self.voxel_size[0] / f, self.voxel_size[1] / f, self.voxel_size[2] / f

    @property
    def affine(self) -> np.ndarray:
        """RAS+ affine [mm], shape (4, 4): the centre of the field of view is the origin."""
        affine = np.diag([*self.voxel_size, 1.0])
        affine[:3, 3] = [-(n - 1) / 2 * v for n, v in zip(self.matrix, self.voxel_size, strict=True)]
        return affine


def point_sensitivity(
    z: np.ndarray, *, length: float, ring_diameter: float, largest_ring_difference: float | None = None
) -> np.ndarray:
    """Return the fraction of the photon pairs of a point on the axis that both meet the detectors, without attenuation.

    Both photons leave at the same angle t to the transverse plane and meet a cylinder of radius R at z - R tan t
    and z + R tan t, so t is limited by the nearer end. Of isotropic directions, sin t_max lie below it. For a
    short scanner this is the usual triangle along z, for a long one a plateau with steep ends.

    `z` is the distance from the middle of the scanner [mm], any shape; `length` is the axial field of view [mm],
    `ring_diameter` 2 R [mm], and `largest_ring_difference` 2 R tan t at most [mm], None for no limit. The result has
    the shape of `z`, 0 outside the scanner.
    """
    reach = np.clip(length / 2 - np.abs(z), 0, None)
    if largest_ring_difference is not None:
        reach = np.minimum(reach, largest_ring_difference / 2)
    return reach / np.hypot(reach, ring_diameter / 2)


def axial_sensitivity(scanner: Scanner) -> np.ndarray:
    """Return the relative sensitivity of each slice, mean 1: `point_sensitivity` of the bed positions added up.

    Noise therefore rises towards both ends of the scan and, a little, between beds. The bed positions are
    centred on the image; a scanner with one position sees the image from there.

    The result is float32, shape (Z,).
    """
    n, dz = scanner.matrix[2], scanner.voxel_size[2]
    if scanner.bed_length is None:
        return np.ones(n, dtype=np.float32)
    z = (np.arange(n) - (n - 1) / 2) * dz
    n_beds, step = 1, 0.0
    if scanner.bed_overlap is not None:
        step = scanner.bed_length * (1 - scanner.bed_overlap)
        n_beds = max(1, int(np.ceil((n * dz - scanner.bed_length) / step)) + 1)
    beds = (np.arange(n_beds) - (n_beds - 1) / 2) * step
    distance = np.abs(z[:, None] - beds)
    seen, middle = (
        point_sensitivity(
            place,
            length=scanner.bed_length,
            ring_diameter=scanner.ring_diameter,
            largest_ring_difference=scanner.largest_ring_difference,
        )
        for place in (distance, np.zeros(1))
    )
    seen /= middle
    seen = np.where(distance <= scanner.bed_length / 2, np.maximum(seen, _END_PLANE), 0)
    profile = np.maximum(seen.sum(axis=1), _END_PLANE)
    return (profile / profile.mean()).astype(np.float32)
