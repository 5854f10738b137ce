"""Forward model and OSEM of a scanner, with matrices that a whole cohort shares."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage, sparse

from pipeline.simulation.projector import strip_matrix
from pipeline.simulation.scanner import Scanner, axial_sensitivity

__all__ = ["Acquisition", "SeparableBlur", "SystemModel", "system_model"]

_FWHM_PER_SIGMA = 2.3548200450309493
_SCATTER_IN_PLANE, _SCATTER_AXIAL = 160.0, 120.0  # [mm] full widths at half maximum: scatter is smooth
_SCATTER_TOF = 1.5  # time-of-flight bins, standard deviation
_FLOOR = np.float32(1e-8)


def _gaussian_matrix(n: int, fwhm: float, *, normalise: bool) -> np.ndarray:
    """Gaussian blur of n samples as a symmetric matrix (rows sum to 1 if normalised). fwhm in samples."""
    sigma = fwhm / _FWHM_PER_SIGMA
    if sigma < 1e-3:
        return np.eye(n, dtype=np.float32)
    lag = np.arange(n)[:, None] - np.arange(n)
    matrix = np.exp(-0.5 * (lag / sigma) ** 2)
    matrix[np.abs(lag) > 4.5 * sigma + 1] = 0
    if normalise:
        matrix /= matrix.sum(axis=1, keepdims=True)
    else:
        matrix /= np.exp(-0.5 * (np.arange(-200, 201) / sigma) ** 2).sum()
    return matrix.astype(np.float32)


class SeparableBlur:
    """Gaussian blur of images as three small matrix products; self-adjoint unless normalised at the ends."""

    def __init__(self, n: int, nz: int, *, in_plane: float, axial: float, normalise: bool = False) -> None:
        """Sizes in voxels; full widths at half maximum in voxels."""
        self.n = n
        self.in_plane = _gaussian_matrix(n, in_plane, normalise=normalise)
        self.axial = _gaussian_matrix(nz, axial, normalise=normalise)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Blur an image of shape (n * n, nz)."""
        nz = self.axial.shape[0]
        blurred = (image @ self.axial.T).reshape(self.n, self.n, nz)
        blurred = np.matmul(self.in_plane, blurred)
        return (self.in_plane @ blurred.reshape(self.n, -1)).reshape(self.n * self.n, nz)


@dataclass(frozen=True)
class Acquisition:
    """What a patient's scan would record on average, before the number of counts is fixed.

    Lists run over subsets; arrays have the shape (angles of the subset * radial bins * TOF bins, Z).
    """

    trues: list[np.ndarray]
    """Attenuated line integrals [SUV mm], float32."""
    background: list[np.ndarray]
    """Scatter and randoms in the same unit, float32."""
    factors: list[np.ndarray]
    """Attenuation times sensitivity of each line, without TOF bins, float32."""
    sensitivity: list[np.ndarray]
    """Back-projected factors, shape (X * Y, Z), float32."""

    @property
    def total(self) -> float:
        """Sum of what is expected [SUV mm]: times the scale it is the expected number of prompts."""
        parts = [*self.trues, *self.background]
        return float(sum(part.sum(dtype=np.float64) for part in parts))

    def expected(self, subset: int) -> np.ndarray:
        """Trues and background of one subset."""
        return self.trues[subset] + self.background[subset]

    def slices(self, part: slice) -> Acquisition:
        """The same for some of the slices."""
        lists = (self.trues, self.background, self.factors, self.sensitivity)
        return Acquisition(*([np.ascontiguousarray(a[:, part]) for a in arrays] for arrays in lists))


class SystemModel:
    """Matrices of one scanner. Use `system_model`, which keeps them."""

    def __init__(self, scanner: Scanner) -> None:
        self.scanner = scanner
        n, _, nz = scanner.matrix
        dx, _, dz = scanner.voxel_size
        self.n, self.nz = n, nz
        self.n_lines = scanner.n_angles // scanner.n_subsets * n
        angles = np.pi * np.arange(scanner.n_angles) / scanner.n_angles
        self._angles = [angles[k :: scanner.n_subsets] for k in range(scanner.n_subsets)]
        self.forward = [self._matrix(a, tof=True) for a in self._angles]
        self.adjoint = [matrix.T.tocsr() for matrix in self.forward]
        self.order = _subset_order(scanner.n_subsets)
        centers = np.arange(n) - (n - 1) / 2
        circle = centers[:, None] ** 2 + centers**2 <= (n / 2 - 1) ** 2
        self.field = circle.reshape(-1, 1).astype(np.float32)
        self._filter = SeparableBlur(
            n, nz, in_plane=scanner.post_filter / dx, axial=scanner.post_filter / dz, normalise=True
        )

    def _blur(self, nz: int) -> SeparableBlur:
        dx, _, dz = self.scanner.voxel_size
        width = (self.scanner.psf_in_plane, self.scanner.psf_axial) if self.scanner.models_psf else (0.0, 0.0)
        return SeparableBlur(self.n, nz, in_plane=width[0] / dx, axial=width[1] / dz)

    def _matrix(self, angles: np.ndarray, *, tof: bool, supersampling: int = 1) -> sparse.csr_array:
        """Projection of an image, or of an object so many times finer, into the scanner's bins."""
        s = self.scanner
        dx = s.voxel_size[0]
        return strip_matrix(
            self.n * supersampling,
            dx / supersampling,
            angles=angles,
            n_bins=self.n,
            bin_size=dx,
            tof_fwhm=s.tof_fwhm if tof else None,
            tof_bin_size=s.tof_bin_size,
            n_tof_bins=s.n_tof_bins if tof else 1,
        )

    def acquire(self, activity: np.ndarray, attenuation: np.ndarray) -> Acquisition:
        """Expected data of an object `supersampling` times finer than the image.

        No step depends on the number of threads: the counts drawn from the result are reproducible.

        Parameters
        ----------
        activity
            SUVbw [g/mL], shape (X * f, Y * f, Z * f).
        attenuation
            [1/mm], same shape.

        Returns
        -------
        Acquisition
            Expected trues, background and factors.
        """
        s = self.scanner
        f = s.supersampling
        dx, _, dz = (v / f for v in s.voxel_size)
        sigma = [s.psf_in_plane / dx, s.psf_in_plane / dx, s.psf_axial / dz]
        blurred = ndimage.gaussian_filter(activity, [w / _FWHM_PER_SIGMA for w in sigma], mode="constant", truncate=3.5)

        def planes(volume: np.ndarray) -> np.ndarray:
            flat = volume.reshape(-1, self.nz, f)
            return flat.mean(axis=2, dtype=np.float32)

        object_planes, attenuation_planes = planes(blurred), planes(attenuation)
        del blurred
        profile = axial_sensitivity(s)
        trues, factors = [], []
        for angles in self._angles:
            plain = self._matrix(angles, tof=False, supersampling=f)
            factors.append(np.exp(-(plain @ attenuation_planes)) * profile)
            timed = plain if s.tof_fwhm is None else self._matrix(angles, tof=True, supersampling=f)
            projection = timed @ object_planes
            projection = projection.reshape(self.n_lines, s.n_tof_bins, self.nz) * factors[-1][:, None]
            trues.append(projection.reshape(-1, self.nz))
        blur = self._blur(self.nz)
        # Without TOF bins: the bins of a line sum to its projection.
        sensitivity = [blur(a @ np.repeat(w, s.n_tof_bins, axis=0)) for a, w in zip(self.adjoint, factors, strict=True)]
        return Acquisition(trues, self._background(trues), factors, sensitivity)

    def _background(self, trues: list[np.ndarray]) -> list[np.ndarray]:
        """Scatter, a wide blur of the trues, and flat randoms, by the scanner's fractions."""
        s = self.scanner
        dx, _, dz = s.voxel_size
        per_angle = (-1, self.n, s.n_tof_bins, self.nz)
        widths = (0.0, _SCATTER_IN_PLANE / dx / _FWHM_PER_SIGMA, _SCATTER_TOF, _SCATTER_AXIAL / dz / _FWHM_PER_SIGMA)
        if s.n_tof_bins == 1:
            widths = (*widths[:2], 0.0, widths[3])
        scatter = [ndimage.gaussian_filter(t.reshape(per_angle), widths, mode="nearest", truncate=3.0) for t in trues]
        total = sum(float(t.sum(dtype=np.float64)) for t in trues)
        scattered = sum(float(t.sum(dtype=np.float64)) for t in scatter)
        n_elements = sum(t.size for t in trues)
        # S / (S + T) and R / (R + S + T).
        weight = np.float32(s.scatter_fraction / (1 - s.scatter_fraction) * total / scattered)
        randoms = s.randoms_fraction / (1 - s.randoms_fraction) * total / (1 - s.scatter_fraction) / n_elements
        return [(t * weight + np.float32(randoms)).reshape(-1, self.nz) for t in scatter]

    def osem(self, data: list[np.ndarray], acquisition: Acquisition, *, scale: float) -> np.ndarray:
        """Ordinary-Poisson OSEM with the PSF in image space (Hudson and Larkin 1994; Shepp and Vardi 1982).

        Parameters
        ----------
        data
            Counts, one array per subset.
        acquisition
            Factors and background of the patient, for the same slices.
        scale
            Counts per unit of the acquisition [1 / (SUV mm)]; divides the data, so that the image is in SUV.

        Returns
        -------
        numpy.ndarray
            SUVbw [g/mL], float32, shape (X, Y, Z), without the post-filter.
        """
        nz = data[0].shape[1]
        n_tof = self.scanner.n_tof_bins
        blur = self._blur(nz)
        image = np.broadcast_to(self.field, (self.n**2, nz)) * np.float32(0.5)
        per_count = np.float32(1 / scale)
        for _ in range(self.scanner.n_iterations):
            for k in self.order:
                weights = acquisition.factors[k][:, None]
                model = (self.forward[k] @ blur(image)).reshape(self.n_lines, n_tof, nz)
                model *= weights
                model += acquisition.background[k].reshape(model.shape)
                np.maximum(model, _FLOOR, out=model)
                ratio = data[k].reshape(model.shape).astype(np.float32)
                ratio *= per_count
                ratio /= model
                ratio *= weights
                correction = blur(self.adjoint[k] @ ratio.reshape(-1, nz))
                sensitivity = acquisition.sensitivity[k]
                correction /= np.maximum(sensitivity, np.float32(1e-6) * sensitivity.max())
                image *= correction
                image *= self.field
        return image.reshape(self.n, self.n, nz)

    def post_filter(self, image: np.ndarray) -> np.ndarray:
        """Gaussian filter after reconstruction. Shape (X, Y, Z)."""
        return self._filter(image.reshape(-1, image.shape[2])).reshape(image.shape)

    def reconstruct(self, data: list[np.ndarray], acquisition: Acquisition, *, scale: float) -> np.ndarray:
        """OSEM and post-filter of a whole scan; see `osem`."""
        return self.post_filter(self.osem(data, acquisition, scale=scale))


def _subset_order(n_subsets: int) -> list[int]:
    """Subsets so that each is far in angle from the ones before it (bit-reversed order)."""
    bits = max(1, int(np.ceil(np.log2(n_subsets))))
    reversed_bits = [int(f"{k:0{bits}b}"[::-1], 2) for k in range(2**bits)]
    return [k for k in reversed_bits if k < n_subsets]


@lru_cache(maxsize=3)
def system_model(scanner: Scanner) -> SystemModel:
    """Matrices of a scanner, computed once and kept for the subjects that follow."""
    return SystemModel(scanner)
