"""Random fields with detail at every scale: tissue is uneven from a whole lobe down to the last voxel."""

from __future__ import annotations

import numpy as np
from scipy import fft

__all__ = ["Texture"]

_PERIOD = 256.0  # [mm] a field repeats itself after this distance
_FEWEST_SAMPLES, _MOST_SAMPLES = 16, 192
_POWER = 1.9  # of 1 + (k L)^2 in the spectrum; 2 is an exponential covariance


class Texture:
    """Power-law fields of one patient, cut from periodic tiles that are computed once for each length.

    The spectrum is 1 / (1 + (k L)^2)^p: flat above the length L, a power law of exponent 2 p below it. Living
    tissue and the uptake in it have such spectra (Bassingthwaighte 1989, Circ Res 65:578); p is customary.
    """

    def __init__(self, rng: np.random.Generator, voxel_size: tuple[float, float, float]) -> None:
        """Take the source of randomness and the voxels [mm]."""
        self._rng = rng
        self._voxel_size = voxel_size
        self._tiles: dict[tuple[float, float], np.ndarray] = {}

    def _tile(self, length: float, stretch: float) -> np.ndarray:
        """Return the tile of a length [mm], zero mean and unit variance; `stretch` makes it longer along Z."""
        key = (length, stretch)
        if key not in self._tiles:
            shape = [
                fft.next_fast_len(int(np.clip(np.ceil(_PERIOD / v), _FEWEST_SAMPLES, _MOST_SAMPLES)), real=True)
                for v in self._voxel_size
            ]
            noise = fft.rfftn(self._rng.standard_normal(shape, dtype=np.float32))
            kx, ky, kz = (
                (2 * np.pi * length * s * (fft.rfftfreq if axis == 2 else fft.fftfreq)(n, v)).astype(np.float32) ** 2
                for axis, (n, v, s) in enumerate(zip(shape, self._voxel_size, (1.0, 1.0, stretch), strict=True))
            )
            noise *= (1 + kx[:, None, None] + ky[:, None] + kz) ** np.float32(-_POWER / 2)
            noise[0, 0, 0] = 0
            tile = fft.irfftn(noise, s=shape).astype(np.float32)
            self._tiles[key] = tile / tile.std()
        return self._tiles[key]

    def field(self, shape: tuple[int, ...], *, length: float, stretch: float = 1.0) -> np.ndarray:
        """Return a field of zero mean and nearly unit variance, float32, of `shape` (X, Y, Z).

        `length` is the largest scale [mm], `stretch` how much longer it is along Z, as in muscle.
        """
        tile = self._tile(length, stretch)
        first = self._rng.integers(0, tile.shape)
        turned = self._rng.choice([-1, 1], 3)
        places = [(o + t * np.arange(n)) % m for o, t, n, m in zip(first, turned, shape, tile.shape, strict=True)]
        field = tile[np.ix_(*places)]
        return field - field.mean()
