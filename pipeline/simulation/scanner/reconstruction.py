"""Forward model and OSEM of a scanner, with matrices that a whole cohort shares."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import ndimage, sparse
from threadpoolctl import threadpool_limits

from pipeline.constants import FWHM_PER_SIGMA
from pipeline.errors import PETError
from pipeline.simulation.scanner.acquisition import Acquisition, expected_randoms, expected_scatter
from pipeline.simulation.scanner.backend import NUMPY, Backend, backend_on
from pipeline.simulation.scanner.blur import SeparableBlur, post_filtered
from pipeline.simulation.scanner.projector import strip_matrix
from pipeline.simulation.scanner.scanner import Scanner, axial_sensitivity

__all__ = ["SystemModel", "system_model"]

_FLOOR = 1e-8  # [SUV mm] below which no line is expected to record


class SystemModel:
    """Matrices of one scanner on one backend. Use `system_model`, which keeps them."""

    def __init__(self, scanner: Scanner, *, backend: Backend = NUMPY) -> None:
        """Compute the matrices of `scanner`; `backend` is where `osem` runs, `acquire` always runs on numpy."""
        self.scanner = scanner
        self.backend = backend
        n, _, nz = scanner.matrix
        self.n, self.nz = n, nz
        self.n_lines = scanner.n_angles // scanner.n_subsets * n
        self._forward, self._adjoint = [], []
        for k in range(scanner.n_subsets):
            matrix = self._matrix(k, tof=True)
            self._forward.append(backend.matrix(matrix))
            self._adjoint.append(backend.matrix(matrix.T.tocsr()))
        self._order = _subset_order(scanner.n_subsets)
        centers = np.arange(n) - (n - 1) / 2
        circle = centers[:, None] ** 2 + centers**2 <= (n / 2 - 1) ** 2
        self._field = backend.array(circle.reshape(-1, 1))

    def _resolution(self, nz: int, backend: Backend) -> SeparableBlur:
        """Blur that the reconstruction knows of; none if it does not model the PSF."""
        dx, _, dz = self.scanner.voxel_size
        width = (self.scanner.psf_in_plane, self.scanner.psf_axial) if self.scanner.models_psf else (0.0, 0.0)
        return SeparableBlur(self.n, nz, in_plane=width[0] / dx, axial=width[1] / dz, backend=backend)

    def _matrix(self, subset: int, *, tof: bool, supersampling: int = 1) -> sparse.csr_array:
        """Return the matrix that projects an image, or an object so many times finer, into the scanner's bins."""
        s = self.scanner
        size = (s.matrix[0], s.voxel_size[0], s.n_angles, s.n_subsets)
        timing = (s.tof_fwhm, s.tof_bin_size, s.n_tof_bins) if tof else (None, 0.0, 1)
        if supersampling == 1:
            return _matrices_of_image(*size, *timing)[subset]
        return _subset_matrix(subset, *size, *timing, supersampling)

    # The sparse products, which take the time, run on one thread; more of them for the small dense ones only get in
    # each other's way, fivefold on a busy machine.
    @threadpool_limits.wrap(limits=1, user_api="blas")
    def acquire(
        self,
        activity: np.ndarray,
        attenuation: np.ndarray,
        *,
        correction_map: np.ndarray | None = None,
        supersampling: int | None = None,
        blurred: bool = True,
    ) -> Acquisition:
        """Return the expected data of an object.

        No step of trues, scatter and randoms depends on the number of threads: the counts drawn from them are
        reproducible.

        `activity` is SUVbw [g/mL] and `attenuation` at 511 keV [1/mm], both of shape (X * f, Y * f, Z * f). f, the
        supersampling, says how many times finer than the image the object is; by default it is the scanner's, and 1 is
        for an image on the scanner's own grid. The scanner's resolution blurs the activity, unless `blurred` is False,
        for an image that has been through it.

        `correction_map` is the attenuation [1/mm] that the reconstruction believes in, on the image's grid, shape
        (X, Y, Z): of another breath than the scan, as with a CT. None for the true one.

        Raises
        ------
        PETError
            If the shapes do not fit the scanner.
        """
        s = self.scanner
        f = s.supersampling if supersampling is None else supersampling
        expected_shape = tuple(v * f for v in s.matrix)
        if activity.shape != expected_shape or attenuation.shape != expected_shape:
            raise PETError(
                f"scanner {s.name}: activity of {activity.shape} and attenuation of {attenuation.shape} voxels, "
                f"expected {expected_shape}"
            )
        if correction_map is not None and correction_map.shape != s.matrix:
            raise PETError(f"scanner {s.name}: correction map of {correction_map.shape} voxels, expected {s.matrix}")
        if blurred:
            widths = (s.psf_in_plane, s.psf_in_plane, s.psf_axial)
            sigma = [w * f / v / FWHM_PER_SIGMA for w, v in zip(widths, s.voxel_size, strict=True)]
            activity = ndimage.gaussian_filter(activity, sigma, mode="constant", truncate=3.5)

        def planes(volume: np.ndarray) -> np.ndarray:
            return volume.reshape(-1, self.nz, f).mean(axis=2, dtype=np.float32)

        object_planes, attenuation_planes = planes(activity), planes(attenuation)
        del activity
        profile = axial_sensitivity(s)
        resolution = self._resolution(self.nz, NUMPY)
        trues, factors, sensitivity = [], [], []
        for k in range(s.n_subsets):
            plain = self._matrix(k, tof=False, supersampling=f)
            weights = np.exp(-(plain @ attenuation_planes)) * profile
            timed = plain if s.tof_fwhm is None else self._matrix(k, tof=True, supersampling=f)
            projection = (timed @ object_planes).reshape(self.n_lines, s.n_tof_bins, self.nz)
            projection *= weights[:, None]
            trues.append(projection.reshape(-1, self.nz))
            # The TOF bins of a line sum to its projection, so the sensitivity needs none.
            coarse = plain if f == 1 else self._matrix(k, tof=False)
            if correction_map is not None:
                weights = np.exp(-(coarse @ correction_map.reshape(-1, self.nz))) * profile
            factors.append(weights)
            sensitivity.append(resolution(np.ascontiguousarray(coarse.T @ weights)))
        return Acquisition(trues, expected_scatter(trues, s), expected_randoms(trues, s, profile), factors, sensitivity)

    @threadpool_limits.wrap(limits=1, user_api="blas")
    def osem(self, data: list[np.ndarray], acquisition: Acquisition, *, scale: float) -> np.ndarray:
        """Reconstruct by ordinary-Poisson OSEM, PSF in image space (Hudson and Larkin 1994; Shepp and Vardi 1982).

        `data` are the counts, one array per subset; `acquisition` has factors and background of the patient for the
        same slices. `scale` is the counts per unit of the acquisition [1 / (SUV mm)]; it divides the data, so that the
        image is in SUVbw [g/mL]. The result is float32, shape (X, Y, Z), without the post-filter.
        """
        device = self.backend
        nz = data[0].shape[1]
        lines = (self.n_lines, self.scanner.n_tof_bins, nz)
        resolution = self._resolution(nz, device)
        per_count = np.float32(1 / scale)
        subsets = range(self.scanner.n_subsets)
        measured = [device.array(np.multiply(d, per_count, dtype=np.float32)).reshape(lines) for d in data]
        background = [device.array(acquisition.background(k)).reshape(lines) for k in subsets]
        weights = [device.array(f[:, None]) for f in acquisition.factors]
        sensitivity = [device.array(s) for s in acquisition.sensitivity]
        for s in sensitivity:
            device.raise_to(1e-6 * float(s.max()), s)
        image = self._field * device.array(np.full(nz, 0.5))
        for _ in range(self.scanner.n_iterations):
            for k in self._order:
                model = (self._forward[k] @ resolution(image)).reshape(lines)
                model *= weights[k]
                model += background[k]
                device.raise_to(_FLOOR, model)
                ratio = measured[k] / model
                ratio *= weights[k]
                correction = resolution(self._adjoint[k] @ ratio.reshape(-1, nz))
                correction /= sensitivity[k]
                image *= correction
                image *= self._field
        return device.numpy(image).reshape(self.n, self.n, nz)

    def post_filter(self, image: np.ndarray) -> np.ndarray:
        """Apply the Gaussian filter after reconstruction. Shape (X, Y, Z)."""
        return post_filtered(image, self.scanner.post_filter_widths, voxel_size=self.scanner.voxel_size)

    def reconstruct(self, data: list[np.ndarray], acquisition: Acquisition, *, scale: float) -> np.ndarray:
        """Reconstruct and post-filter a whole scan; see `osem`."""
        return self.post_filter(self.osem(data, acquisition, scale=scale))


def _subset_matrix(
    subset: int,
    n: int,
    pixel_size: float,
    n_angles: int,
    n_subsets: int,
    tof_fwhm: float | None,
    tof_bin_size: float,
    n_tof_bins: int,
    supersampling: int,
) -> sparse.csr_array:
    """Return `strip_matrix` of a subset's angles, for an object so many times finer than the n x n image [mm]."""
    return strip_matrix(
        n * supersampling,
        pixel_size / supersampling,
        angles=(np.pi * np.arange(n_angles) / n_angles)[subset::n_subsets],
        n_bins=n,
        bin_size=pixel_size,
        tof_fwhm=tof_fwhm,
        tof_bin_size=tof_bin_size,
        n_tof_bins=n_tof_bins,
    )


@lru_cache(maxsize=4)
def _matrices_of_image(
    n: int,
    pixel_size: float,
    n_angles: int,
    n_subsets: int,
    tof_fwhm: float | None,
    tof_bin_size: float,
    n_tof_bins: int,
) -> list[sparse.csr_array]:
    """Return the matrices of all subsets, kept: scans of any length, on any device, have the same."""
    timing = (tof_fwhm, tof_bin_size, n_tof_bins)
    matrices = [_subset_matrix(k, n, pixel_size, n_angles, n_subsets, *timing, 1) for k in range(n_subsets)]
    for matrix in matrices:
        matrix.sort_indices()  # now, so that no backend changes the order of sums later
    return matrices


def _subset_order(n_subsets: int) -> list[int]:
    """Order subsets so that each is far in angle from the ones before it (bit-reversed order)."""
    bits = max(1, int(np.ceil(np.log2(n_subsets))))
    reversed_bits = [int(f"{k:0{bits}b}"[::-1], 2) for k in range(2**bits)]
    return [k for k in reversed_bits if k < n_subsets]


@lru_cache(maxsize=3)
def system_model(scanner: Scanner, device: str | None = None) -> SystemModel:
    """Return the matrices of a scanner, computed once and kept for the subjects that follow.

    OSEM runs on `device`: None is numpy, else a device of torch (``"cpu"``, ``"cuda"``). Both give the same images to
    rounding (tested: 1e-5 of the maximum); bytes are promised for numpy only.
    """
    return SystemModel(scanner, backend=backend_on(device))
