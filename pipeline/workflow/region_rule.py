"""How the regions of a scan are drawn, in the images before and after denoising alike."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PETError, naming
from pipeline.images import (
    Delineation,
    ReferenceRegion,
    Regions,
    Threshold,
    blood_pool_reference,
    fixed_threshold,
    given_reference,
    liver_reference,
    masked_reference,
    named_threshold,
    percist_threshold,
    voxel_volume,
)
from pipeline.images.percist import Organ
from pipeline.pet import PETSeries
from pipeline.regions import read_regions

__all__ = ["ReadRule", "RegionRule", "ScanRegions"]

SMOOTHED, AS_DRAWN = "smoothed", "as drawn"
SMOOTHED_SUV = 4.0
"""SUV from which voxels form regions by the rule "smoothed" [g/mL]."""
SMOOTHED_FWHM = 8.0
"""Width of the Gaussian of that rule [mm], which keeps outlines from following the noise."""
SMALLEST = 1.0
"""Volume of the smallest region that a rule draws [mL]."""
PERCIST: dict[str, Organ] = {"percist": "liver", "percist-blood": "blood pool"}
"""Rules by a reference region, and its organ."""


@dataclass(frozen=True, kw_only=True)
class RegionRule:
    """How the regions of a scan are drawn.

    Raises
    ------
    PETError
        If a rule is not known, a value is out of range, or options are given that belong to another rule.
    """

    delineation: str | None = None
    """"smoothed": both images under a Gaussian of 8 mm from an SUV on; "percist" and "percist-blood"; or the name of a
    threshold, see `pipeline.images.named_threshold`, on the images as they are. None is smoothed, or takes given
    regions as they were drawn."""
    threshold: float | None = None
    """SUV of the rule "smoothed" [g/mL]; None is 4."""
    min_volume: float | None = None
    """Smaller regions are left out [mL]; None is 1. Regions that are taken as they were drawn keep their sizes."""
    exclude: Path | None = None
    """Physiological uptake, which belongs to no region, see `pipeline.regions.read_regions`."""
    exclude_names: tuple[str, ...] = ()
    """Of what is excluded, the regions that are taken; all if there are none."""
    percist_reference: Path | tuple[float, ...] | None = None
    """A mask of the organ; or mean and SD [g/mL]; or x, y, z of the sphere's or cylinder's centre, RAS+ [mm]. None
    finds the sphere in the liver."""
    given: Path | None = None
    """Regions that somebody drew, see `pipeline.regions.read_regions`, taken as they are, or as the volumes in which
    `delineation` draws."""
    names: tuple[str, ...] = ()
    """Of the given regions, those that are taken; all if there are none."""

    def __post_init__(self) -> None:
        suv, smallest = SMOOTHED_SUV if self.threshold is None else self.threshold, self.smallest
        if not (0 < suv < math.inf and 0 <= smallest < math.inf):
            raise PETError(
                f"threshold {suv:g} g/mL, min_volume {smallest:g} mL: expected finite numbers, the first above 0, the "
                "other 0 or more"
            )
        by = self.drawn_by
        if by not in (SMOOTHED, AS_DRAWN, *PERCIST):
            try:
                named_threshold(by)
            except PETError as error:
                known = ", ".join((SMOOTHED, "suv2.5", "suv4", "41%", "50%", "adaptive", *PERCIST))
                raise PETError(f"regions {by!r} are not known, expected one of: {known}; or other numbers") from error
        if self.threshold is not None and by != SMOOTHED:
            raise PETError(f"threshold {suv:g} belongs to regions {SMOOTHED}, expected none with regions {by}")
        if self.min_volume is not None and by == AS_DRAWN:
            raise PETError(f"min_volume {smallest:g} mL is given, expected none: given regions are taken as they are")
        self._check_belonging(by)

    def _check_belonging(self, by: str) -> None:
        """Refuse options without what they belong to."""
        if self.percist_reference is not None and by not in PERCIST:
            raise PETError(f"a PERCIST reference is given with regions {by}, expected regions {' or '.join(PERCIST)}")
        if by == "percist-blood" and self.percist_reference is None:
            raise PETError("percist-blood without a reference, expected one: nothing finds the aorta in PET alone")
        if isinstance(self.percist_reference, tuple) and len(self.percist_reference) not in (2, 3):
            n = len(self.percist_reference)
            raise PETError(f"a PERCIST reference of {n} numbers, expected MEAN,SD [g/mL] or X,Y,Z of its centre [mm]")
        if isinstance(self.percist_reference, tuple):
            if len(self.percist_reference) == 2:
                given_reference(*self.percist_reference, PERCIST[by])  # refuses what is no mean and SD
            elif not all(map(math.isfinite, self.percist_reference)):
                raise PETError(f"PERCIST reference around {self.percist_reference} mm, expected finite X,Y,Z")
        if self.names and self.given is None:
            raise PETError(f"region {self.names[0]} is asked for, but no regions are given")
        if self.exclude_names and self.exclude is None:
            raise PETError(f"region {self.exclude_names[0]} is to be excluded, but no regions to exclude are given")

    @property
    def drawn_by(self) -> str:
        """Name of the rule, "as drawn" where given regions are taken as they are."""
        return self.delineation or (SMOOTHED if self.given is None else AS_DRAWN)

    @property
    def smallest(self) -> float:
        """Volume of the smallest region that a rule draws [mL]."""
        return SMALLEST if self.min_volume is None else self.min_volume

    @property
    def belongs_to_one_scan(self) -> bool:
        """Whether something was drawn or measured in one scan."""
        return not (self.given is None and self.exclude is None and self.percist_reference is None)

    def record(self) -> dict[str, Any]:
        """Return what draws the regions of any scan; what was drawn in one scan is left out."""
        by = SMOOTHED if self.drawn_by == AS_DRAWN else self.drawn_by
        # One SUV in the words of versions without names of rules.
        if by == SMOOTHED:
            suv = self.threshold or SMOOTHED_SUV
            return {"threshold": suv, "min_volume": self.smallest, "fwhm": SMOOTHED_FWHM}
        if by not in PERCIST and (fixed := named_threshold(by).suv) is not None:
            return {"threshold": fixed, "min_volume": self.smallest, "fwhm": 0.0}
        return {"delineation": by, "min_volume": self.smallest}

    def read(self, scan: PETSeries, *, source: str | Path = "the scan") -> "ReadRule":
        """Read what the rule was given, on the grid of a scan, before anything is done that takes minutes.

        The place of the reference of PERCIST is sought here, in the scan before denoising. `source` is what errors call
        the scan.

        Raises
        ------
        PETError
            Something that is given cannot be read, holds nothing, or does not lie in the scan; or no liver is found.
        """
        given = None if self.given is None else read_regions(self.given, scan, names=self.names or None)
        exclude = None
        if self.exclude is not None:
            exclude = read_regions(self.exclude, scan, names=self.exclude_names or None).labels > 0
            with naming(self.exclude):
                if not exclude.any():
                    raise PETError("holds no voxel, expected a mask of physiological uptake to exclude")
                if exclude.all():
                    raise PETError("excludes every voxel of the scan, expected a mask of physiological uptake")
        return ReadRule(self, given=given, exclude=exclude, reference=self._reference(scan, source))

    def _reference(self, scan: PETSeries, source: str | Path) -> ReferenceRegion | None:
        """Return the reference of PERCIST in the scan before denoising; None by other rules."""
        if self.drawn_by not in PERCIST:
            return None
        organ, given = PERCIST[self.drawn_by], self.percist_reference
        if isinstance(given, Path):
            mask = read_regions(given, scan).labels > 0
            with naming(given):
                return masked_reference(scan, mask, organ)
        if given is not None and len(given) == 2:
            return given_reference(*given, organ)
        with naming(source):
            if given is not None:
                return (liver_reference if organ == "liver" else blood_pool_reference)(scan, center=given)
            try:
                return liver_reference(scan)
            except PETError as error:
                raise PETError(f"{error}; a PERCIST reference can be given") from error


@dataclass(frozen=True)
class ReadRule:
    """A rule with the regions and masks that it was given, on the grid of one scan."""

    rule: RegionRule
    """As the user stated it."""
    given: Regions | None = None
    """Regions that somebody drew."""
    exclude: NDArray[np.bool_] | None = None
    """Voxels that belong to no region, shape (X, Y, Z)."""
    reference: ReferenceRegion | None = None
    """That of PERCIST, in the scan before denoising."""

    def on(self, before: PETSeries, after: PETSeries) -> "ScanRegions":
        """Return the regions of the scan, before and after denoising, and the rule as it is for this scan.

        The reference of PERCIST is measured once, in the image after, and its threshold holds for both images: the SD
        in the liver of a noisy image is its noise, and the threshold would rise with it.
        """
        rule, given, exclude = self.rule, self.given, self.exclude
        if given is not None and rule.drawn_by == AS_DRAWN:
            return ScanRegions(_without(given, exclude), exclude=exclude, given=given)
        references = self._references(after)
        drawing = Delineation(
            threshold=self._threshold(references),
            voxel_size=before.voxel_size,
            min_volume=rule.smallest,
            fwhm=SMOOTHED_FWHM if rule.drawn_by == SMOOTHED else 0.0,
            volumes_of_interest=None if given is None else given.labels,
            exclude=exclude,
        )
        regions = drawing.of_either(before.suv, after.suv)
        if given is not None:
            regions = replace(regions, names={n: given.names[n] for n in regions.numbers if n in given.names})
        return ScanRegions(regions, rule=drawing, references=references, exclude=exclude, given=given)

    def _threshold(self, references: dict[str, ReferenceRegion]) -> Threshold:
        if references:
            return percist_threshold(references["after"])
        if self.rule.drawn_by == SMOOTHED:
            return fixed_threshold(self.rule.threshold or SMOOTHED_SUV)
        return named_threshold(self.rule.drawn_by)

    def _references(self, after: PETSeries) -> dict[str, ReferenceRegion]:
        """Return the reference of PERCIST, "after", and what "before" has in the same place, if there is one."""
        if self.reference is None:
            return {}
        measured = {"after": self.reference.measured_again(after)}
        return measured if self.reference.voxels is None else {"before": self.reference} | measured


def _without(given: Regions, exclude: NDArray[np.bool_] | None) -> Regions:
    """Return given regions without excluded voxels."""
    if exclude is None:
        return given
    labels = np.where(exclude, np.int32(0), given.labels)
    left = Regions(labels, f"{given.method}, without excluded voxels")
    return replace(left, names={number: given.names[number] for number in left.numbers if number in given.names})


@dataclass(frozen=True)
class ScanRegions:
    """The regions of one scan, and the rule that drew them, as it is for this scan."""

    regions: Regions
    """Of both images together; what is measured before and after."""
    rule: Delineation | None = None
    """None if they were taken as somebody drew them."""
    references: Mapping[str, ReferenceRegion] = field(default_factory=dict)
    """That of PERCIST, "after", whose threshold it is, and the same place "before"; none by other rules."""
    exclude: NDArray[np.bool_] | None = None
    """Voxels that belong to no region, shape (X, Y, Z)."""
    given: Regions | None = None
    """Regions that somebody drew, as they were read."""

    @property
    def outline(self) -> tuple[float, float]:
        """SUV without which there is no region [g/mL], after a Gaussian [mm]."""
        return (SMOOTHED_SUV, SMOOTHED_FWHM) if self.rule is None else (self.rule.makes_region, self.rule.fwhm)

    @property
    def noise_may_draw(self) -> bool:
        """Whether noise may have made regions, for nobody said where they are."""
        return self.rule is not None and self.rule.volumes_of_interest is None

    def own(self, images: Mapping[str, NDArray[np.floating]]) -> dict[str, Regions]:
        """Return the regions that the same rule draws in each image; none of regions that somebody drew."""
        return {} if self.rule is None else {name: self.rule.of(suv) for name, suv in images.items()}

    def drawn_in(self, suv: NDArray[np.floating]) -> NDArray[np.bool_] | None:
        """Return what the same rule draws in one image, of any size; None where noise may draw no region."""
        if self.rule is None or not self.noise_may_draw:
            return None
        return replace(self.rule, min_volume=0.0).of(suv).labels > 0

    @property
    def warnings(self) -> list[str]:
        """What a person should know at once."""
        if self.given is not None and not self.given.n_regions:
            return ["what was given as regions holds no voxel: no region was measured"]
        none_left = self.exclude is not None and not self.regions.n_regions
        return ["no region is left outside of the excluded voxels"] if none_left else []

    def record(self, voxel_size: Sequence[float]) -> dict[str, Any]:
        """Return what a run record says of how regions were drawn; voxels have these sides [mm]."""
        stated: dict[str, Any] = {"regions": self.regions.method}
        if self.exclude is not None:
            stated["excluded_ml"] = round(float(self.exclude.sum()) * voxel_volume(voxel_size), 3)
        if self.references:
            stated["percist_reference"] = _in_words(self.references)
            stated["percist"] = {name: _in_numbers(reference) for name, reference in self.references.items()}
        return stated


def _in_words(references: Mapping[str, ReferenceRegion]) -> str:
    """Return a reference in one line, for a page."""
    of = references["after"]
    where = f"{of.organ}, as given"
    if of.center is not None:
        at = "({:.0f}, {:.0f}, {:.0f}) mm".format(*of.center)
        where = f"{of.organ}, {of.measured_in} {'found' if of.found else 'given'} at {at}, after denoising"
    line = f"{where}: mean {of.suv_mean:.3g}, SD {of.suv_sd:.2g}, threshold {of.threshold:.3g} g/mL for both images"
    if (was := references.get("before")) is not None:
        line += f" (before: mean {was.suv_mean:.3g}, SD {was.suv_sd:.2g}, threshold would be {was.threshold:.3g})"
    return line


def _in_numbers(reference: ReferenceRegion) -> dict[str, Any]:
    """Return a reference as JSON keeps it."""
    return {
        "organ": reference.organ,
        "measured_in": reference.measured_in or "given numbers",
        "found": reference.found,
        "center_mm": None if reference.center is None else [round(at, 2) for at in reference.center],
        "suv_mean": reference.suv_mean,
        "suv_sd": reference.suv_sd,
        "n_voxels": reference.n_voxels,
        "threshold": reference.threshold,
    }
