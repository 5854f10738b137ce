"""Gaussian blur of whole volumes as three small matrix products, the same on every backend."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.constants import FWHM_PER_SIGMA
from pipeline.simulation.scanner.backend import NUMPY, Backend

__all__ = ["SeparableBlur"]

_NO_WIDTH = 2e-3  # voxels


def _gaussian_matrix(n: int, fwhm: float, *, normalise: bool) -> np.ndarray:
    """Return the Gaussian blur of n samples as a symmetric matrix (rows sum to 1 if normalised); fwhm in samples."""
    sigma = fwhm / FWHM_PER_SIGMA
    lag = np.arange(n)[:, None] - np.arange(n)
    matrix = np.exp(-0.5 * (lag / sigma) ** 2)
    matrix[np.abs(lag) > 4.5 * sigma + 1] = 0
    if normalise:
        matrix /= matrix.sum(axis=1, keepdims=True)
    else:
        matrix /= np.exp(-0.5 * (np.arange(-200, 201) / sigma) ** 2).sum()
    return matrix.astype(np.float32)


class SeparableBlur:
    """Gaussian blur of images; its own adjoint unless normalised at the ends."""

    def __init__(
        self, n: int, nz: int, *, in_plane: float, axial: float, normalise: bool = False, backend: Backend = NUMPY
    ) -> None:
        """Make the blur of a volume; sizes and full widths at half maximum are in voxels."""
        self.n, self.nz = n, nz
        self._in_plane: Any = None
        self._axial: Any = None
        if in_plane > _NO_WIDTH:
            self._in_plane = backend.array(_gaussian_matrix(n, in_plane, normalise=normalise))
        if axial > _NO_WIDTH:
            self._axial = backend.array(_gaussian_matrix(nz, axial, normalise=normalise).T)

    def __call__(self, image: Any) -> Any:
        """Blur an image of the backend, shape (n * n, nz); a width of 0 copies nothing."""
        if self._axial is not None:
            image = image @ self._axial
        if self._in_plane is None:
            return image
        blurred = self._in_plane @ image.reshape(self.n, self.n, self.nz)
        return (self._in_plane @ blurred.reshape(self.n, -1)).reshape(self.n * self.n, self.nz)
