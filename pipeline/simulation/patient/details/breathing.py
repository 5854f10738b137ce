"""Breathing during the scan, and the attenuation map of another moment that the scan is corrected with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from pipeline.constants import FWHM_PER_SIGMA
from pipeline.simulation.patient.canvas import ATTENUATION

__all__ = ["Breathing", "draw_breathing"]

_N_PHASES = 4
_MEAN_OF_A_BREATH = 0.375  # of the amplitude: the mean of cos^4
_REACH_UP, _REACH_DOWN = 190.0, 260.0  # [mm] from the dome of the diaphragm to where nothing moves any more
_SOFTENING = 20.0  # [mm] full width over which the motion ends at ribs, spine and wall
_METAL_ERROR = np.float32(0.4)
"""What CT numbers of metal say too much beyond bone: SUV beside metal is too high (Goerres 2002, Radiology 226:577)."""
_GRID = 8.0  # [mm] on which the motion is computed


@dataclass(frozen=True)
class Breathing:
    """How the organs at the diaphragm move. Displacements are downwards from the end of expiration [mm]."""

    amplitude: float
    """Of the dome of the diaphragm, from the end of expiration to that of inspiration [mm]."""
    map_displacement: float
    """Of the dome, at the moment when the attenuation map was taken [mm]."""
    map_shift: tuple[float, float, float]
    """Of the whole attenuation map against the emission, along X, Y, Z [mm]."""

    @property
    def displacements(self) -> np.ndarray:
        """Displacement of the dome at equal intervals of a breath [mm].

        A cos^4(pi t): longer at expiration than at inspiration (Lujan 1999, Med Phys 26:715).
        """
        t = (np.arange(_N_PHASES) + 0.5) / (2 * _N_PHASES)
        return self.amplitude * np.cos(np.pi * t) ** 4

    def averaged(self, volume: np.ndarray, motion: Motion) -> np.ndarray:
        """Return the mean of a volume over a breath, float32, shape (X, Y, Z)."""
        result = volume.copy()
        phases = [motion.moved(volume, float(d)) for d in self.displacements]
        result[motion.box] = np.mean(phases, axis=0, dtype=np.float32)
        return result

    def correction_map(self, attenuation: np.ndarray, motion: Motion) -> np.ndarray:
        """Return the attenuation map as it was taken: in another phase, shifted, metal too bright. Shape (X, Y, Z)."""
        bone = np.float32(ATTENUATION["bone"])
        result = attenuation + _METAL_ERROR * np.maximum(attenuation - bone, 0)
        result[motion.box] = motion.moved(result, self.map_displacement)
        shift = np.array(self.map_shift) / motion.voxel_size
        return ndimage.shift(result, shift, order=1, mode="constant") if np.any(shift) else result


@dataclass(frozen=True)
class Motion:
    """Where a patient moves, on one grid."""

    box: tuple[slice, slice, slice]
    """Voxels that may move."""
    weight: np.ndarray
    """Displacement relative to the dome's, 0 to 1, float32, shape of the box."""
    voxel_size: tuple[float, float, float]
    """[mm]."""

    @classmethod
    def of(
        cls, labels: np.ndarray, voxel_size: tuple[float, float, float], *, moving: tuple[int, ...], liver: int
    ) -> Motion:
        """Return the motion of the organs with the labels `moving`, greatest at the top of the label `liver`."""
        nz = labels.shape[2]
        rows = np.nonzero((labels == liver).any(axis=(0, 1)))[0]
        if rows.size == 0:
            return cls((slice(0, 0),) * 3, np.zeros((0, 0, 0), np.float32), voxel_size)
        dz = voxel_size[2]
        dome = int(rows[-1])
        low, high = max(0, dome - int(_REACH_DOWN / dz)), min(nz, dome + int(_REACH_UP / dz) + 1)
        steps = tuple(max(1, round(_GRID / v)) for v in voxel_size)
        box = (slice(0, labels.shape[0]), slice(0, labels.shape[1]), slice(low, high))
        coarse = labels[:: steps[0], :: steps[1], low : high : steps[2]]
        sigma = [_SOFTENING / FWHM_PER_SIGMA / (v * s) for v, s in zip(voxel_size, steps, strict=True)]
        moves = ndimage.gaussian_filter(np.isin(coarse, moving).astype(np.float32), sigma)
        places = [np.arange(s.stop - s.start) / step for s, step in zip(box, steps, strict=True)]
        for axis, place in enumerate(places):
            first = np.minimum(place.astype(int), moves.shape[axis] - 1)
            last = np.minimum(first + 1, moves.shape[axis] - 1)
            part = (place - first).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
            moves = np.take(moves, first, axis) * (1 - part) + np.take(moves, last, axis) * part
        z = (np.arange(low, high) - dome) * dz
        along = np.where(z > 0, 1 - z / _REACH_UP, 1 + z / _REACH_DOWN).clip(0, 1)
        return cls(box, moves * along.astype(np.float32), voxel_size)

    def moved(self, volume: np.ndarray, displacement: float) -> np.ndarray:
        """Return the box of a volume with its organs lower by a displacement of the dome [mm]."""
        part = volume[self.box]
        if part.size == 0:
            return part
        place = np.arange(part.shape[2], dtype=np.float32) + np.float32(displacement / self.voxel_size[2]) * self.weight
        np.clip(place, 0, part.shape[2] - 1, out=place)
        first = place.astype(np.int32)
        place -= first
        below = np.take_along_axis(part, first, 2)
        above = np.take_along_axis(part, np.minimum(first + 1, part.shape[2] - 1), 2)
        return below + place * (above - below)


def draw_breathing(rng: np.random.Generator) -> Breathing:
    """Draw how a patient breathes.

    The diaphragm moves by 3 to 16 mm (quiet breathing: 5 to 25 mm, AAPM report 91, Keall 2006, Med Phys 33:3874).
    One map in five was taken in deeper inspiration than any phase of the scan, which leaves the cold band over the
    dome that readers know (Osman 2003, J Nucl Med 44:240); half of all maps are shifted by 1 to 2 mm: customary.
    """
    amplitude = float(rng.uniform(3, 16))
    deep, shifted = rng.random(2)
    inspired = float(rng.uniform(4, 18))
    x, y, z = (round(float(v), 2) for v in rng.normal(0, 1.5, 3))
    return Breathing(
        amplitude=round(amplitude, 2),
        map_displacement=round(_MEAN_OF_A_BREATH * amplitude + (inspired if deep < 0.2 else 0.0), 2),
        map_shift=(x, y, z) if shifted < 0.5 else (0.0, 0.0, 0.0),
    )
