"""What is simulated of a scanner: geometry, resolution, time of flight, background, counts, reconstruction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.pet import PETError

__all__ = ["DISCOVERY_ST", "GENERIC", "GENERIC_TOF", "Scanner", "axial_sensitivity", "scanner_preset"]


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
    """Randoms over all prompts."""
    post_filter: float = 5.0
    """Gaussian filter after reconstruction, full width at half maximum [mm]."""
    liver_cov: tuple[float, float] = (0.09, 0.12)
    """Range of the liver's coefficient of variation at full dose, drawn for each patient."""
    bed_length: float | None = 200.0
    """Axial field of view of one bed position [mm]; None for a scanner that sees the body at once."""
    bed_overlap: float = 0.45
    """Fraction of a bed position shared with the next."""
    supersampling: int = 2
    """How many times finer than the image the object is, per axis."""

    def __post_init__(self) -> None:
        if self.matrix[0] != self.matrix[1] or self.voxel_size[0] != self.voxel_size[1]:
            raise PETError(f"scanner {self.name}: matrix {self.matrix} of {self.voxel_size} mm, expected X equal to Y")
        if self.n_angles % self.n_subsets:
            raise PETError(f"scanner {self.name}: {self.n_angles} angles, expected a multiple of {self.n_subsets}")
        if not (0 <= self.scatter_fraction < 1 and 0 <= self.randoms_fraction < 1):
            raise PETError(
                f"scanner {self.name}: scatter {self.scatter_fraction}, randoms {self.randoms_fraction}, "
                "expected 0 to 1"
            )
        if not 0 < self.liver_cov[0] <= self.liver_cov[1]:
            raise PETError(f"scanner {self.name}: liver_cov {self.liver_cov}, expected a range above 0")

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

    @property
    def affine(self) -> np.ndarray:
        """RAS+ affine [mm], shape (4, 4): the centre of the field of view is the origin."""
        affine = np.diag([*self.voxel_size, 1.0])
        affine[:3, 3] = [-(n - 1) / 2 * v for n, v in zip(self.matrix, self.voxel_size, strict=True)]
        return affine


def axial_sensitivity(scanner: Scanner) -> np.ndarray:
    """Relative sensitivity of each slice, mean 1: overlapping triangles of bed positions, from the feet up.

    Noise therefore rises towards both ends of the scan and, a little, between beds.

    Returns
    -------
    numpy.ndarray
        float32, shape (Z,).
    """
    n, dz = scanner.matrix[2], scanner.voxel_size[2]
    if scanner.bed_length is None:
        return np.ones(n, dtype=np.float32)
    half = scanner.bed_length / 2
    step = scanner.bed_length * (1 - scanner.bed_overlap)
    z = (np.arange(n) + 0.5) * dz
    n_beds = max(1, int(np.ceil((n * dz - scanner.bed_length) / step)) + 1)
    centers = n * dz / 2 + (np.arange(n_beds) - (n_beds - 1) / 2) * step
    # A bed's first and last planes see few lines of response, yet some: 15 % of the middle.
    distance = np.abs(z[:, None] - centers)
    triangles = np.clip(1 - distance / half, 0, None) + 0.15 * (distance <= half)
    profile = np.maximum(triangles.sum(axis=1), 0.15)
    return (profile / profile.mean()).astype(np.float32)


GENERIC = Scanner(name="generic", matrix=(96, 96, 192), voxel_size=(5.0, 5.0, 5.0))
"""A present-day scanner without time of flight: body up to 960 mm at 5 mm."""

GENERIC_TOF = Scanner(
    name="generic_tof",
    matrix=(96, 96, 192),
    voxel_size=(5.0, 5.0, 5.0),
    n_subsets=10,
    n_iterations=3,
    psf_in_plane=4.5,
    tof_fwhm=60.0,
)
"""The same with time of flight of 400 ps."""

DISCOVERY_ST = Scanner(
    name="discovery_st",
    matrix=(128, 128, 288),
    voxel_size=(4.6875, 4.6875, 3.27),
    n_angles=144,
    n_subsets=12,
    n_iterations=4,
    psf_in_plane=5.5,
    psf_axial=6.0,
    models_psf=False,
    post_filter=4.5,
    bed_length=157.0,
    bed_overlap=0.23,
    liver_cov=(0.10, 0.14),
)
"""Like a GE Discovery ST: no time of flight, no PSF in the reconstruction, about 7 mm in the image."""

_PRESETS = {scanner.name: scanner for scanner in (GENERIC, GENERIC_TOF, DISCOVERY_ST)}


def scanner_preset(name: str) -> Scanner:
    """Scanner of that name, "generic", "generic_tof" or "discovery_st".

    Raises
    ------
    PETError
        If there is none.
    """
    if name not in _PRESETS:
        raise PETError(f"no scanner preset is called {name!r}, expected one of {', '.join(_PRESETS)}")
    return _PRESETS[name]
