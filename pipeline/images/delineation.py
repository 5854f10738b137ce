"""Delineation: thresholds by which lesions are drawn, whole body or in volumes of interest, as labelled regions.

Volumes by different rules differ by a factor of six (docs/quantification.md): quote `Regions.method` with every one.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from pipeline.errors import PETError, UndefinedMeasureError
from pipeline.images.regions import Regions, label_touching, labelled_hottest_first, voxel_volume

__all__ = [
    "ISOCONTOUR",
    "SEED_SUV",
    "THRESHOLDS",
    "Threshold",
    "background_adapted",
    "connected_to",
    "delineated_regions",
    "fixed_threshold",
    "fraction_of_maximum",
    "named_threshold",
    "region_and_surroundings",
]

ISOCONTOUR = 0.41
"""Fraction of the SUVmax at the outline (EANM procedure guideline for FDG, Boellaard 2015)."""
SEED_SUV = 4.0
"""SUV that makes a lesion to be outlined by a threshold of its own, where no volumes of interest are given [g/mL]."""

_REACH = 10.0  # [mm] from what reaches SEED_SUV to what may belong to it
_SHELL = (10.0, 15.0)  # [mm] from a lesion to its background


@dataclass(frozen=True)
class Threshold:
    """The SUV from which voxels belong to a region: a number, or a fraction of the region's SUVmax."""

    name: str
    """How it is quoted."""
    suv: float | None = None
    """The SUV [g/mL]; None where it depends on the region."""
    fraction: float | None = None
    """Fraction of the region's SUVmax, where it depends on that."""
    above_background: bool = False
    """Whether the fraction is that of the SUVmax above the background around the region."""

    def __post_init__(self) -> None:
        """Raise ValueError unless there is either an SUV above 0 or a fraction between 0 and 1."""
        given = [self.suv is not None and self.suv > 0, self.fraction is not None and 0 < self.fraction < 1]
        if sum(given) != 1 or None not in (self.suv, self.fraction):
            found = f"suv {self.suv} and fraction {self.fraction}"
            raise ValueError(f"Threshold: expected an SUV above 0 or a fraction between 0 and 1, found {found}")


def fixed_threshold(suv: float) -> Threshold:
    """Return one SUV as the threshold of every region [g/mL]; 4.0 is the benchmark of lymphoma (Boellaard 2024)."""
    return Threshold(f"fixed SUV >= {suv:g}", suv=suv)


def fraction_of_maximum(fraction: float) -> Threshold:
    """Return the threshold at a fraction of each region's SUVmax: 0.41 or 0.50 (Boellaard 2015)."""
    return Threshold(f"{100 * fraction:g} % of SUVmax", fraction=fraction)


def background_adapted(fraction: float) -> Threshold:
    """Return the threshold at a fraction of the way from the local background to the region's SUVmax.

    It is T = B + fraction x (SUVmax - B): A50 or A41 of Cheebsumon et al., EJNMMI Res 1 (2011) 35. At 0.5 it is the
    edge of a large uniform object under any symmetric blur; the SUVmax of a lesion of any texture is above its plateau,
    and 0.41 is nearer to its volume (docs/quantification.md). The background B is the median SUV between 10 and 15 mm
    around what reaches 41 % of SUVmax; that shell is a choice of ours. Other regions are left out, and excluded voxels
    where there are others.
    """
    name = f"{100 * fraction:g} % of SUVmax above the median SUV {_SHELL[0]:g} to {_SHELL[1]:g} mm around"
    return Threshold(name, fraction=fraction, above_background=True)


THRESHOLDS: dict[str, Threshold] = {
    "suv2.5": fixed_threshold(2.5),
    "suv4": fixed_threshold(4.0),
    "41%": fraction_of_maximum(ISOCONTOUR),
    "50%": fraction_of_maximum(0.5),
    "adaptive": background_adapted(ISOCONTOUR),
}
"""Thresholds that need nothing but the image, by the name that a user says. `percist_threshold` needs a reference."""


def named_threshold(name: str) -> Threshold:
    """Return a threshold by its name: one of `THRESHOLDS`, or such as "suv3" or "45%".

    Raises
    ------
    PETError
        No threshold has that name.
    """
    if name in THRESHOLDS:
        return THRESHOLDS[name]
    if (found := re.fullmatch(r"suv(\d+\.?\d*)|(\d+\.?\d*)%", name)) is not None:
        suv, percent = (None if text is None else float(text) for text in found.groups())
        if suv is not None and 0 < suv < math.inf:
            return fixed_threshold(suv)
        if percent is not None and 0 < percent < 100:
            return fraction_of_maximum(percent / 100)
    raise PETError(f"threshold {name!r} is not known, expected suv4, 41%, other numbers of these, or adaptive")


def delineated_regions(
    suv: ArrayLike,
    threshold: Threshold,
    *,
    voxel_size: Sequence[float],
    min_volume: float = 0.0,
    volumes_of_interest: NDArray[np.integer] | None = None,
    exclude: NDArray[np.bool_] | None = None,
) -> Regions:
    """Return the regions that a threshold draws in one image.

    In volumes of interest each region is all that reaches the threshold in its volume, in one piece or several. It
    keeps the volume's number, and a number is missing where nothing is left.

    Without them the whole body is searched, and regions are numbered by falling SUVmax. A threshold of one SUV draws
    all connected regions. One that depends on the region needs to know what a region is: what is connected at
    `SEED_SUV`. It is drawn among the voxels up to 10 mm around that and connected to the hottest; the hotter one has
    what two reach for. Where the background reaches the threshold too, the region is as large as these 10 mm let it be.

    Parameters
    ----------
    suv
        SUV image, shape (X, Y, Z) [g/mL].
    threshold
        Such as `THRESHOLDS` holds, or `percist_threshold`.
    voxel_size
        Spacing along X, Y, Z [mm].
    min_volume
        Smaller regions are dropped [mL].
    volumes_of_interest
        Labels, 0 outside, shape (X, Y, Z): one volume around each lesion. None searches the whole body.
    exclude
        Voxels that belong to no region, shape (X, Y, Z): physiological uptake. The blur around an organ reaches beyond
        its true outline; draw the mask on the image.

    Returns
    -------
    Regions
        Labels, and the rule as `method`.

    Raises
    ------
    ValueError
        Shapes differ.
    UndefinedMeasureError
        A background is asked for and every voxel around a region is another's or outside the image.
    """
    image = np.asarray(suv)
    given = {"volumes_of_interest": volumes_of_interest, "exclude": exclude}
    for name, array in given.items():
        if array is not None and array.shape != image.shape:
            raise ValueError(f"delineated_regions: the image has shape {image.shape}, {name} has {array.shape}")
    usable = np.ones(image.shape, bool) if exclude is None else ~exclude.astype(bool)
    fewest = min_volume / voxel_volume(voxel_size)
    where = "" if exclude is None else ", without excluded voxels"
    about = f">= {min_volume:g} mL, 26-connectivity{where}"
    if volumes_of_interest is not None:
        labels = _Search(image, volumes_of_interest, usable, voxel_size, reach=0.0).drawn(threshold)
        labels[_too_small(labels, fewest)[labels]] = 0
        return Regions(labels, f"{threshold.name} in given volumes, >= {min_volume:g} mL{where}")
    if threshold.suv is not None:
        labels = labelled_hottest_first((image >= threshold.suv) & usable, image, min_n_voxels=fewest)
        return Regions(labels, f"{threshold.name}, {about}")
    seeds = labelled_hottest_first((image >= SEED_SUV) & usable, image, min_n_voxels=0)
    labels = _Search(image, seeds, usable, voxel_size, reach=_REACH).drawn(threshold)
    kept = ~_too_small(labels, fewest)
    kept[0] = False
    number = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    seeded = f"around what reaches SUV {SEED_SUV:g}, up to {_REACH:g} mm"
    return Regions(number[labels], f"{threshold.name} {seeded}, {about}")


def _too_small(labels: NDArray[np.int32], fewest: float) -> NDArray[np.bool_]:
    """Return whether each label 0..n has fewer voxels than wanted; an equal volume is enough, whatever its rounding."""
    return np.bincount(labels.ravel()) < max(fewest * (1 - 1e-9), 1)


def region_and_surroundings(
    labels: NDArray[np.integer],
    number: int,
    box: tuple[slice, ...],
    *,
    reach: float,
    voxel_size: Sequence[float],
) -> tuple[tuple[slice, ...], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return a box around a label, the label in it, and what lies in the label or near it and in no other label.

    `labels` has the shape (X, Y, Z), `box` is the bounding box of the label `number`; `reach` says what is near [mm].
    """
    steps = [int(reach / size) + 1 for size in voxel_size]
    sides = zip(box, steps, labels.shape, strict=True)
    around = tuple(slice(max(s.start - r, 0), min(s.stop + r, n)) for s, r, n in sides)
    inside = labels[around] == number
    near = ndimage.distance_transform_edt(~inside, sampling=voxel_size) <= reach if reach else inside
    return around, inside, near & (inside | (labels[around] == 0))


def connected_to(voxel: tuple[np.intp, ...], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the voxels of a mask that are connected (26) to one of its voxels."""
    components, _ = label_touching(mask)
    return (components == components[voxel]) & mask


@dataclass(frozen=True)
class _Search:
    """Where each region is looked for."""

    suv: NDArray[np.floating]
    """Image, shape (X, Y, Z) [g/mL]."""
    volumes: NDArray[np.integer]
    """Labels of the volumes that hold a region each, 0 outside."""
    usable: NDArray[np.bool_]
    """Voxels that may belong to a region or to its background."""
    voxel_size: Sequence[float]
    """Spacing along X, Y, Z [mm]."""
    reach: float
    """How far around its volume a region may lie [mm]."""

    def boxes(self) -> dict[int, tuple[slice, ...]]:
        """Return the bounding box of every volume by its number."""
        found = enumerate(ndimage.find_objects(self.volumes), start=1)
        return {number: box for number, box in found if box is not None}

    def highest(self, number: int, box: tuple[slice, ...]) -> float:
        """Return the highest usable SUV in a volume [g/mL]."""
        return float(self.suv[box][(self.volumes[box] == number) & self.usable[box]].max(initial=-np.inf))

    def threshold(self, number: int, box: tuple[slice, ...], rule: Threshold) -> float:
        """Return the threshold of one region [g/mL]."""
        if rule.suv is not None:
            return rule.suv
        highest, fraction = self.highest(number, box), rule.fraction or 0.0
        background = self.background(number, box, highest) if rule.above_background else 0.0
        return background + fraction * (highest - background)

    def background(self, number: int, box: tuple[slice, ...], highest: float) -> float:
        """Return the median SUV around what reaches 41 % of the highest SUV [g/mL]."""
        inner, outer = _SHELL
        around, inside, mine = region_and_surroundings(
            self.volumes, number, box, reach=self.reach + outer, voxel_size=self.voxel_size
        )
        image, usable = self.suv[around], self.usable[around]
        near = ndimage.distance_transform_edt(~inside, sampling=self.voxel_size) <= self.reach
        core = _connected_to_hottest(image, mine & usable & near, inside, ISOCONTOUR * highest)
        distance = ndimage.distance_transform_edt(~core, sampling=self.voxel_size)
        shell = mine & (distance > inner) & (distance <= outer)
        if not shell.any():
            raise UndefinedMeasureError(f"region {number} has no background {inner:g} to {outer:g} mm around it")
        # A lesion within excluded uptake has that for its background.
        return float(np.median(image[shell & usable] if (shell & usable).any() else image[shell]))

    def drawn(self, rule: Threshold) -> NDArray[np.int32]:
        """Return each volume's region under the volume's number; a hotter one takes what several reach for."""
        labels = np.zeros(self.suv.shape, np.int32)
        boxes = self.boxes()
        highest = {number: self.highest(number, box) for number, box in boxes.items()}
        for number in sorted(boxes, key=lambda n: -highest[n]):
            if not highest[number] > 0:
                continue
            around, inside, allowed = region_and_surroundings(
                self.volumes, number, boxes[number], reach=self.reach, voxel_size=self.voxel_size
            )
            free = allowed & self.usable[around] & (labels[around] == 0)
            image, value = self.suv[around], self.threshold(number, boxes[number], rule)
            in_pieces = not self.reach
            part = free & (image >= value) if in_pieces else _connected_to_hottest(image, free, inside, value)
            labels[around][part] = number
        return labels


def _connected_to_hottest(
    suv: NDArray[np.floating], allowed: NDArray[np.bool_], inside: NDArray[np.bool_], threshold: float
) -> NDArray[np.bool_]:
    """Return what reaches a threshold and is connected to the hottest voxel inside, among the allowed voxels."""
    hottest = np.unravel_index(np.argmax(np.where(inside & allowed, suv, -np.inf)), suv.shape)
    reaches = allowed & (suv >= threshold)
    return connected_to(hottest, reaches) if reaches[hottest] else np.zeros_like(reaches)
