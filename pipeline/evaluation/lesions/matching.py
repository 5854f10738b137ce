"""Lesions matched between two images of one scan, each with its own regions: kept, lost or new, and how many agree."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from pipeline.evaluation.quantification import centroid, each_region, measure_region, volume
from pipeline.evaluation.reading import SAME_PLACE
from pipeline.images import Regions

__all__ = [
    "MATCHING_RULE",
    "MATCH_COLUMNS",
    "PUBLISHED_CONCORDANCE",
    "MatchCounts",
    "MatchStatus",
    "Matching",
    "compared_images",
    "match_counts",
    "match_regions",
    "match_table",
    "matches_of_images",
]

MatchStatus = Literal["kept", "lost", "new"]

MATCHING_RULE = (
    "regions that share a voxel are one lesion, however many pieces it has in either image; of the others the nearest "
    f"two, each to the other, whose centres lie within {SAME_PLACE:g} mm"
)
"""The rule, to be quoted with every number."""

PUBLISHED_CONCORDANCE = {"kept": 97.7, "lost": 0.8, "new": 1.5}
"""Percent of 856 lesions that readers saw in either image, of a commercial product at DRF 2 (Weyts, PMC9399218)."""

MATCH_COLUMNS: dict[str, str] = {
    "image": "the image whose lesions are judged: after denoising, or before as a scale for it",
    "against": "the image that it is judged by: before, or reference",
    "match": "kept: in both; lost: only in the image that it is judged by; new: only in the image that is judged",
    "region": "number in lesions.tsv of the regions there; n/a if there are none",
    "x_mm": "centre of the lesion, +x is the patient's right [mm]",
    "y_mm": "centre of the lesion, +y is anterior [mm]",
    "z_mm": "centre of the lesion, +z is superior [mm]",
    "numbers_against": "numbers of its regions among those of the image that it is judged by; n/a if lost there",
    "numbers_image": "numbers of its regions among those of the image that is judged; n/a if it is lost",
    "dice": "overlap: twice the common volume over the sum of both, 0 to 1",
    "distance_mm": "from centre to centre of what both images show of it; n/a unless kept [mm]",
    "volume_against_ml": "volume in the image that it is judged by [mL]",
    "volume_image_ml": "volume in the image that is judged [mL]",
    "suv_peak_against": "SUVpeak in the image that it is judged by, in the regions of both [g/mL]",
    "suv_peak_image": "SUVpeak in the image that is judged, in the regions of both [g/mL]",
    "in_third": "whether the third of before, after and reference shows it, too: yes or no; n/a without a reference",
    "method": "how the regions of each image were delineated",
}
"""Meaning and unit of every column of `match_table` and `matches_of_images`, in order."""


@dataclass(frozen=True)
class MatchCounts:
    """How many lesions two images agree on."""

    n_kept: int
    """In both images."""
    n_lost: int
    """Only in the image that is the measure."""
    n_new: int
    """Only in the image that is judged."""

    @property
    def n_either(self) -> int:
        """In either image."""
        return self.n_kept + self.n_lost + self.n_new

    @property
    def n_against(self) -> int:
        """In the image that is the measure."""
        return self.n_kept + self.n_lost

    @property
    def n_image(self) -> int:
        """In the image that is judged."""
        return self.n_kept + self.n_new

    @property
    def percent_of_either(self) -> dict[MatchStatus, float]:
        """Kept, lost and new in percent of the lesions in either image, as PUBLISHED_CONCORDANCE; NaN of none."""
        counts: dict[MatchStatus, int] = {"kept": self.n_kept, "lost": self.n_lost, "new": self.n_new}
        return {status: _percent(n, self.n_either) for status, n in counts.items()}

    @property
    def lost_percent(self) -> float:
        """Lost in percent of the lesions in the image that is the measure; NaN of none."""
        return _percent(self.n_lost, self.n_against)

    @property
    def new_percent(self) -> float:
        """New in percent of the lesions in the image that is judged; NaN of none."""
        return _percent(self.n_new, self.n_image)


@dataclass(frozen=True)
class Matching:
    """The lesions of two images on one grid, each with its regions in both."""

    lesions: NDArray[np.int32]
    """Numbers 1..n where either image shows a lesion, 0 outside, shape (X, Y, Z)."""
    numbers: list[tuple[list[int], list[int]]]
    """Of each lesion the numbers of its regions in the first and in the second image."""

    @property
    def status(self) -> list[MatchStatus]:
        """What became of each lesion from the first image to the second."""
        return ["kept" if a and b else "lost" if a else "new" for a, b in self.numbers]

    @property
    def counts(self) -> MatchCounts:
        """How many became what."""
        status = self.status
        return MatchCounts(status.count("kept"), status.count("lost"), status.count("new"))


def match_regions(first: Regions, second: Regions, *, voxel_size: Sequence[float]) -> Matching:
    """Match the regions of two images of a scan, each delineated on its own, see MATCHING_RULE.

    A region of one image that is two in the other is one lesion: split or merged, it is kept. Lesions are numbered by
    their least number in the first image, those that are new after them. With the images exchanged the same lesions are
    found, and what was lost is new.

    Labels have one shape (X, Y, Z); `voxel_size` is in mm.

    Raises
    ------
    ValueError
        Shapes differ.
    """
    if first.labels.shape != second.labels.shape:
        raise ValueError(f"match_regions: shapes {first.labels.shape} and {second.labels.shape} differ")
    numbers = [np.array(regions.numbers, dtype=int) for regions in (first, second)]
    inside = first.labels > 0, second.labels > 0
    shared = inside[0] & inside[1]
    sides = zip(numbers, (first.labels, second.labels), strict=True)
    pairs = np.unique(np.stack([np.searchsorted(own, labels[shared]) for own, labels in sides], axis=1), axis=0)
    pairs = np.concatenate([pairs, _near_pairs(first, second, pairs, voxel_size)])
    n_first, n_all = len(numbers[0]), len(numbers[0]) + len(numbers[1])
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], n_first + pairs[:, 1])), shape=(n_all, n_all))
    _, component = connected_components(links, directed=False)
    # Numbers of lesions, in the order in which the regions of the first image and then of the second come to them.
    _, earliest, inverse = np.unique(component, return_index=True, return_inverse=True)
    lesion_of = np.argsort(np.argsort(earliest))[inverse] + 1
    found: list[tuple[list[int], list[int]]] = [([], []) for _ in earliest]
    lesions = np.zeros(first.labels.shape, dtype=np.int32)
    for side, part in enumerate((lesion_of[:n_first], lesion_of[n_first:])):
        for number, lesion in zip(numbers[side], part, strict=True):
            found[lesion - 1][side].append(int(number))
        labels = (first, second)[side].labels[inside[side]]
        lesions[inside[side]] = part[np.searchsorted(numbers[side], labels)] if part.size else 0
    return Matching(lesions, found)


def match_table(
    images: tuple[NDArray[np.floating], NDArray[np.floating]],
    regions: tuple[Regions, Regions],
    *,
    voxel_size: Sequence[float],
    affine: NDArray[np.floating],
    common: Regions | None = None,
    third: Regions | None = None,
) -> pd.DataFrame:
    """Return one row per lesion of two images; its columns are those of MATCH_COLUMNS, less the two images' names.

    `images` are the SUV [g/mL] that is the measure and the SUV that is judged, `regions` those of each, all on one grid
    (X, Y, Z); `voxel_size` is in mm, and `affine` (4, 4) leads from voxel indices to RAS+ [mm]. `common` are the
    regions of lesions.tsv, and `third` those of the third image.

    Raises
    ------
    ValueError
        Shapes differ.
    """
    matching = match_regions(*regions, voxel_size=voxel_size)
    in_third = _also_in(third, matching, voxel_size)
    rows = []
    for number, box, mask in each_region(matching.lesions):
        own = [mask & (part.labels[box] > 0) for part in regions]
        volumes = [volume(part, voxel_size=voxel_size) for part in own]
        centers = [centroid(part, box, affine) if part.any() else np.full(3, np.nan) for part in own]
        peaks = [measure_region(image, box, mask, voxel_size=voxel_size)["suv_peak"] for image in images]
        shared = 2 * volume(own[0] & own[1], voxel_size=voxel_size)
        there = [] if common is None else np.unique(common.labels[box][mask]).tolist()
        rows.append(
            [
                matching.status[number - 1],
                _text(n for n in there if n),
                *centroid(mask, box, affine),
                *(_text(numbers) for numbers in matching.numbers[number - 1]),
                shared / sum(volumes),
                float(np.linalg.norm(centers[0] - centers[1])),
                *volumes,
                *peaks,
                None if in_third is None else "yes" if number in in_third else "no",
                regions[1].method,
            ]
        )
    return pd.DataFrame(rows, columns=[name for name in MATCH_COLUMNS if name not in ("image", "against")])


def matches_of_images(
    images: Mapping[str, NDArray[np.floating]],
    regions: Mapping[str, Regions],
    *,
    voxel_size: Sequence[float],
    affine: NDArray[np.floating],
    common: Regions | None = None,
) -> pd.DataFrame:
    """Return the lesions of a scan matched between its images: after against before, and both against a reference.

    `images` and `regions` are those before and after denoising and, if there is one, of the reference, by these names;
    see `match_table` for the rest and MATCH_COLUMNS for the columns. Of the scan before denoising the comparison with
    the reference is the scale: that much is lost and new without any denoising.
    """
    tables = []
    for image, against in compared_images(has_reference="reference" in images):
        third = next((regions[name] for name in images if name not in (against, image)), None)
        table = match_table(
            (images[against], images[image]),
            (regions[against], regions[image]),
            voxel_size=voxel_size,
            affine=affine,
            common=common,
            third=third,
        )
        table.insert(0, "against", against)
        table.insert(0, "image", image)
        tables.append(table)
    return pd.concat(tables, ignore_index=True) if len(tables) > 1 else tables[0]


def compared_images(*, has_reference: bool) -> list[tuple[str, str]]:
    """Return the images of a scan that are compared: the one that is judged, and the one that is the measure."""
    return [("after", "before"), *([("after", "reference"), ("before", "reference")] if has_reference else [])]


def match_counts(matches: pd.DataFrame) -> MatchCounts:
    """Return how many rows of one comparison, see `match_table`, are kept, lost and new."""
    n = matches["match"].value_counts()
    return MatchCounts(*(int(n.get(status, 0)) for status in ("kept", "lost", "new")))


def _near_pairs(
    first: Regions, second: Regions, shared: NDArray[np.integer], voxel_size: Sequence[float]
) -> NDArray[np.integer]:
    """Return pairs (n, 2) of regions that share no voxel with any and are each other's nearest, places in `numbers`."""
    free = [np.setdiff1d(np.arange(len(part.numbers)), shared[:, side]) for side, part in enumerate((first, second))]
    if not all(part.size for part in free):
        return np.zeros((0, 2), dtype=int)
    scale = np.diag([*voxel_size, 1.0])
    centers = [
        np.array([centroid(mask, box, scale) for _, box, mask in each_region(part.labels)])[places]
        for part, places in zip((first, second), free, strict=True)
    ]
    distance, nearest = cKDTree(centers[1]).query(centers[0], distance_upper_bound=SAME_PLACE * (1 + 1e-9))
    _, back = cKDTree(centers[0]).query(centers[1])
    near = np.flatnonzero(np.isfinite(distance))
    mutual = near[back[nearest[near]] == near]
    return np.stack([free[0][mutual], free[1][nearest[mutual]]], axis=1)


def _also_in(third: Regions | None, matching: Matching, voxel_size: Sequence[float]) -> set[int] | None:
    """Return the numbers of the lesions that a third image shows, too; None without one."""
    if third is None:
        return None
    both = match_regions(Regions(matching.lesions, ""), third, voxel_size=voxel_size)
    return {number for lesions, others in both.numbers if others for number in lesions}


def _text(numbers: Iterable[int]) -> str | None:
    return ", ".join(map(str, numbers)) or None


def _percent(count: int, of: int) -> float:
    return 100 * count / of if of else float("nan")
