"""Where denoising took signal away or put some in: differences too large for the noise of this scan."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.optimize import brentq

from pipeline.images import label_touching, voxel_volume
from pipeline.trust.noise_field import FieldSize, NoiseField, affine_of, compared_images, noise_fields

__all__ = [
    "EVIDENCE_COLUMNS",
    "EVIDENCE_SCALES",
    "FALSE_ALARMS",
    "Evidence",
    "evidence_fields",
    "evidence_of_change",
    "height_of",
]

EVIDENCE_SCALES = (6.0, 10.0, 17.0, 30.0)
"""Widths of the Gaussians that changes are sought with [mm], about equal steps of their logarithm."""

FALSE_ALARMS = 0.2
"""Changes that noise alone is allowed to show in a scan, of both signs together."""

EVIDENCE_COLUMNS: dict[str, str] = {
    "change": "removed where the measured scan has more, added where the denoised one has",
    "x_mm": "place of the peak, +x is the patient's right [mm]",
    "y_mm": "place of the peak, +y is anterior [mm]",
    "z_mm": "place of the peak, +z is superior [mm]",
    "scale_mm": "width (FWHM) of the Gaussian that shows the change best [mm]",
    "volume_ml": "of the voxels above the threshold [mL]",
    "suv_measured": "of the measured scan at the peak, under that Gaussian [g/mL]",
    "suv_denoised": "of the denoised scan at the peak, under that Gaussian [g/mL]",
    "suv_removed": "measured less denoised [g/mL]",
    "significance": "of the change at the peak, in standard deviations of the noise of this scan",
    "expected_by_noise": "places as significant that noise alone makes in such a scan",
}
"""Meaning and unit of the columns of `Evidence.regions`, in order."""

_RANK = 20  # the peak that tells a scan's tail: a few true changes hardly move it
_HEAVIER = np.float32(1.1)  # the highest peaks of noise over Gaussian ones, beyond what the 20th tells
_LOWEST = 1.5  # SD, below which no peak is counted


@dataclass(frozen=True)
class Evidence:
    """What was significantly removed or added, or why that cannot be said."""

    statement: str
    """The result in one line."""
    regions: pd.DataFrame
    """One row per region, most significant first, columns EVIDENCE_COLUMNS."""
    map: NDArray[np.float32] | None
    """Of all scales the most significant value of each voxel, shape (X, Y, Z), SD, positive where signal was removed;
    0 outside of the body."""
    threshold: float
    """Significance from which a change is listed."""


def evidence_fields(
    noisy: ArrayLike, denoised: ArrayLike, *, voxel_size: Sequence[float], body: NDArray[np.bool_] | None = None
) -> Iterator[NoiseField]:
    """Yield the noise fields of EVIDENCE_SCALES, which `spots_of` can use, too; none where noise cannot be told.

    SUV [g/mL] on one grid and the body have the shape (X, Y, Z), `voxel_size` is in mm; None finds the body.

    Raises
    ------
    ValueError
        Shapes differ.
    """
    y, x, mask, reason = compared_images(noisy, denoised, voxel_size=voxel_size, body=body)
    if reason is None:
        yield from noise_fields(y, x, voxel_size=voxel_size, scales=EVIDENCE_SCALES, body=mask)


def evidence_of_change(
    noisy: ArrayLike,
    denoised: ArrayLike,
    *,
    voxel_size: Sequence[float],
    affine: NDArray[np.floating] | None = None,
    body: NDArray[np.bool_] | None = None,
    fields: Iterable[NoiseField] | None = None,
    false_alarms: float = FALSE_ALARMS,
) -> Evidence:
    """Return where the denoised image lacks signal of the noisy one, or has signal that the noisy one lacks.

    Both are smoothed at each scale; see `noise_fields` for their difference in units of the noise. What a denoiser
    leaves of the noise is not quite Gaussian: each sign is divided by the height of its 20th peak in the scan over the
    height that 20 peaks of a Gaussian field pass, and by 1.1, because the highest peaks stand out more than the 20th
    does, most of all at 6 mm: measured on 65 simulated scans of 12 subjects that are not in the training. The threshold
    is the height that noise alone then passes in `false_alarms` places of all scales and both signs.

    Parameters
    ----------
    noisy, denoised
        SUV on one grid, shape (X, Y, Z) [g/mL].
    voxel_size
        Spacing along X, Y, Z [mm].
    affine
        From voxel to mm (RAS+); None counts from the centre of voxel (0, 0, 0).
    body
        Outline of the patient, shape (X, Y, Z); None finds it in the denoised image.
    fields
        What `evidence_fields` gives for these images; None makes it. They are gone through once, one at a time.
    false_alarms
        Expected number of places that noise alone passes the threshold at, in a scan.

    Raises
    ------
    ValueError
        Shapes differ.
    """
    y, x, mask, reason = compared_images(noisy, denoised, voxel_size=voxel_size, body=body)
    if reason is not None:
        return Evidence(reason, pd.DataFrame(columns=list(EVIDENCE_COLUMNS)), None, np.inf)
    if fields is None:
        fields = noise_fields(y, x, voxel_size=voxel_size, scales=EVIDENCE_SCALES, body=mask)
    found = _Strongest(fields)
    threshold = height_of(found.sizes, false_alarms / 2)
    for sign in (1, -1):
        found.z[sign * found.z > 0] /= _HEAVIER * _tail(sign * found.z, found.sizes)
    regions = _regions(found, threshold, voxel_size, affine_of(affine, voxel_size))
    whole = np.zeros(x.shape, dtype=np.float32)
    whole[found.box] = found.z
    return Evidence(_statement(regions, false_alarms), regions, whole, threshold)


class _Strongest:
    """Of fields that come one after the other, in each voxel the one whose value is farthest from 0."""

    z: NDArray[np.float32]  # 0 outside of the body
    first: NDArray[np.float32]
    second: NDArray[np.float32]
    best: NDArray[np.int8]  # number of the field
    box: tuple[slice, ...]

    def __init__(self, fields: Iterable[NoiseField]) -> None:
        self.scales: list[float] = []
        self.sizes: list[FieldSize] = []
        for number, field in enumerate(fields):
            self.scales.append(field.fwhm)
            self.sizes.append(field.size)
            if number == 0:
                self.box, self.z = field.box, np.where(field.body, field.z, np.float32(0))
                self.best = np.zeros(self.z.shape, dtype=np.int8)
                self.first, self.second = field.first.copy(), field.second.copy()
                continue
            stronger = field.body & (np.abs(field.z) > np.abs(self.z))
            self.best[stronger] = number
            for mine, theirs in ((self.z, field.z), (self.first, field.first), (self.second, field.second)):
                mine[stronger] = theirs[stronger]


def height_of(fields: Sequence[FieldSize], expected: float) -> float:
    """Return the height that noise alone lifts an expected number of places of all fields together above, 1.5 to 12."""
    too_many = _expected(fields, _LOWEST) < expected
    return _LOWEST if too_many else float(brentq(lambda u: _expected(fields, u) - expected, _LOWEST, 12.0))


def _expected(fields: Sequence[FieldSize], height: float) -> float:
    """Return how many places of all fields noise alone is expected to lift above a height, of one sign."""
    return float(sum(field.expected_maxima(height) for field in fields))


def _tail(signed: NDArray[np.float32], fields: Sequence[FieldSize]) -> np.float32:
    """Return by how much the peaks of a scan are higher than those of Gaussian fields; 1 where too few are expected."""
    expected = height_of(fields, _RANK)
    peaks = signed[(signed > _LOWEST) & (signed == ndimage.maximum_filter(signed, 3))]
    if expected <= 2 * _LOWEST or peaks.size < _RANK:
        return np.float32(1)
    return np.float32(np.partition(peaks, -_RANK)[-_RANK] / expected)


def _regions(
    found: _Strongest,
    threshold: float,
    voxel_size: Sequence[float],
    to_mm: NDArray[np.float64],
) -> pd.DataFrame:
    corner = np.array([part.start for part in found.box])
    rows = []
    for change, signed in (("removed", found.z), ("added", -found.z)):
        labels, _ = label_touching(signed > threshold)
        for number, part in enumerate(ndimage.find_objects(labels), start=1):
            inside = labels[part] == number
            within = np.unravel_index(np.argmax(np.where(inside, signed[part], -np.inf)), inside.shape)
            peak = tuple(int(i) + axis.start for i, axis in zip(within, part, strict=True))
            place = to_mm[:3, :3] @ (corner + peak) + to_mm[:3, 3]
            first, second, height = float(found.first[peak]), float(found.second[peak]), float(signed[peak])
            volume = np.count_nonzero(inside) * voxel_volume(voxel_size)
            by_noise = 2 * _expected(found.sizes, height)
            rows.append(
                [
                    change,
                    *place,
                    found.scales[found.best[peak]],
                    volume,
                    first,
                    second,
                    first - second,
                    height,
                    by_noise,
                ]
            )
    table = pd.DataFrame(rows, columns=list(EVIDENCE_COLUMNS))
    return table.sort_values("significance", ascending=False, kind="stable", ignore_index=True)


def _statement(regions: pd.DataFrame, false_alarms: float) -> str:
    n_removed = int((regions["change"] == "removed").sum())
    counts = f"removed in {n_removed} places, added in {len(regions) - n_removed}"
    return f"signal significantly {counts}; noise alone is expected to show {false_alarms:g}"
