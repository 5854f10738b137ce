"""The outline of the patient, and connected regions of high uptake.

A threshold finds brain, heart, kidneys and bladder as well as lesions. Nothing here tells them apart, and the
word lesion is left to the reader.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from pipeline.images.gaussian import gaussian_filter_mm

__all__ = [
    "BODY_FWHM",
    "BODY_THRESHOLD",
    "Regions",
    "ball_offsets",
    "body_mask",
    "equivalent_diameter",
    "label_touching",
    "labelled_hottest_first",
    "numbered_lesions",
    "shell_around",
    "voxel_volume",
]

BODY_THRESHOLD = 0.12
"""SUV of the smoothed image at the skin [g/mL]: a little under half that of subcutaneous fat (0.28)."""
BODY_FWHM = 15.0
"""Width of the Gaussian that finds the skin [mm]."""
_SMALLEST_PART = 0.1  # of the largest component: legs below the pelvis are two components


def body_mask(
    suv: ArrayLike,
    *,
    voxel_size: Sequence[float],
    threshold: float = BODY_THRESHOLD,
    fwhm: float = BODY_FWHM,
    border: Literal["reflect", "nearest"] = "reflect",
) -> NDArray[np.bool_]:
    """Return the outline of the patient.

    Smooth with a Gaussian of `fwhm`, keep SUV >= `threshold`, drop every component (6-connected) smaller than a
    tenth of the largest, and fill the holes of every axial plane (lungs, airways).

    Against the true outline of a simulated patient with 5 mm voxels the defaults reach a Dice coefficient of 0.984
    at full dose, 0.978 at a twentieth and 0.961 at a hundredth.

    Parameters
    ----------
    suv
        SUV image, shape (X, Y, Z), Z along the patient [g/mL].
    voxel_size
        Spacing along X, Y, Z [mm].
    threshold
        SUV [g/mL]; lower it for tracers that leave fat and muscle dark.
    fwhm
        Width of the Gaussian [mm].
    border
        How the smoothing continues the image, see `gaussian_filter_mm`.

    Returns
    -------
    numpy.ndarray
        Boolean, shape (X, Y, Z); empty where nothing reaches the threshold.
    """
    mask = gaussian_filter_mm(suv, fwhm=fwhm, voxel_size=voxel_size, border=border) >= threshold
    labels, n_labels = ndimage.label(mask)
    if n_labels == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    mask = (sizes >= _SMALLEST_PART * sizes.max())[labels]
    for z in range(mask.shape[2]):
        mask[..., z] = ndimage.binary_fill_holes(mask[..., z])
    return mask


_TOUCHING = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class Regions:
    """Labelled regions and the name of the method that made them, to be quoted with every number."""

    labels: NDArray[np.int32]
    """0 outside, 1..n_regions inside, hottest first, or the numbers of given volumes; shape (X, Y, Z)."""
    method: str
    """How they were delineated, to be quoted with the results."""
    found_in: tuple[str, ...] | None = None
    """The image that shows each region: both, before only, after only or neither; None where one image was used."""
    names: Mapping[int, str] = field(default_factory=dict)
    """What given regions are called, by their number; those that were drawn here have no names."""

    @property
    def n_regions(self) -> int:
        """Number of regions."""
        return len(self.numbers)

    @property
    def numbers(self) -> list[int]:
        """Numbers of the regions, rising."""
        return [int(number) for number in np.flatnonzero(np.bincount(self.labels.ravel())) if number]

    def check_shapes(self, caller: str, *images: NDArray) -> None:
        """Raise ValueError, which names the function that was called, unless images have the shape of the labels."""
        shapes = [image.shape for image in images]
        if set(shapes) - {self.labels.shape}:
            found = ", ".join(map(str, shapes))
            raise ValueError(f"{caller}: shapes differ: images {found}, labels {self.labels.shape}")


def voxel_volume(voxel_size: Sequence[float]) -> float:
    """Return the volume of a voxel [mL] from its sides [mm]."""
    return float(np.prod(np.asarray(voxel_size, dtype=np.float64))) / 1000


def equivalent_diameter(n_voxels: int, *, voxel_size: Sequence[float]) -> float:
    """Return the diameter of the sphere of the volume of so many voxels [mm]."""
    return float((6000 / np.pi * n_voxels * voxel_volume(voxel_size)) ** (1 / 3))


def numbered_lesions(labels: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    """Return lesions with numbers of their own: a mask of 0 and 1 is split into its connected (26) components."""
    if labels.max() > 1:
        return labels
    components, n_lesions = label_touching(labels)
    return components.astype(np.min_scalar_type(n_lesions))


def label_touching(mask: ArrayLike) -> tuple[NDArray[np.int32], int]:
    """Number the regions of a mask whose voxels touch by a face, an edge or a corner (26-connectivity), in array order.

    Returns
    -------
    tuple
        Labels of the mask's shape, 0 outside, and the number of regions.
    """
    return ndimage.label(mask, _TOUCHING)


def shell_around(
    labels: NDArray[np.integer],
    number: int,
    box: tuple[slice, ...],
    *,
    inner: float,
    outer: float,
    voxel_size: Sequence[float],
) -> tuple[tuple[slice, ...], NDArray[np.bool_]]:
    """Return a box around a label, and what lies so far from the label in it and in no other label: its background.

    `labels` has the shape (X, Y, Z), `box` is the bounding box of the label `number`; `inner` and `outer` are the least
    and the greatest distance from the nearest voxel of the label, centre to centre [mm].
    """
    reach = [int(np.ceil(outer / size)) for size in voxel_size]
    sides = zip(box, reach, labels.shape, strict=True)
    around = tuple(slice(max(s.start - r, 0), min(s.stop + r, n)) for s, r, n in sides)
    distance = ndimage.distance_transform_edt(labels[around] != number, sampling=voxel_size)
    return around, (distance >= inner) & (distance <= outer) & (labels[around] == 0)


def labelled_hottest_first(
    mask: NDArray[np.bool_], suv: NDArray[np.floating], *, min_n_voxels: float
) -> NDArray[np.int32]:
    """Number the connected (26) regions of a mask by falling SUVmax, those with fewer voxels dropped, 0 outside."""
    raw, n_raw = label_touching(mask)
    sizes = np.bincount(raw.ravel(), minlength=n_raw + 1)
    sizes[0] = 0
    # A volume equal to the limit stays in whatever the rounding of the voxel volume.
    kept = np.flatnonzero(sizes >= max(min_n_voxels * (1 - 1e-9), 1))
    new_number = np.zeros(n_raw + 1, dtype=np.int32)
    hottest = _highest_in_each(suv, raw)[kept - 1]
    # ndimage.label numbers in array order, which a stable sort keeps among equals.
    new_number[kept[np.argsort(-hottest, kind="stable")]] = np.arange(1, kept.size + 1)
    return new_number[raw]


def _highest_in_each(suv: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.floating]:
    """Return the highest value of each label 1..n. Unlike ndimage.maximum it reads the labelled voxels only."""
    inside = labels > 0
    highest = np.full(int(labels.max(initial=0)) + 1, -np.inf)
    np.maximum.at(highest, labels[inside], suv[inside])
    return highest[1:]


def ball_offsets(radius: float, *, voxel_size: Sequence[float]) -> NDArray[np.intp]:
    """Return the steps from a voxel to all whose centres lie within a radius [mm], itself included; shape (n, 3)."""
    sides = np.asarray(voxel_size, dtype=np.float64)
    ranges = [np.arange(-reach, reach + 1) for reach in np.floor(radius / sides).astype(int)]
    grid = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    return grid[((grid * sides) ** 2).sum(axis=1) <= radius**2]
