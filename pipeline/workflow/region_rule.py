"""How the regions of a scan are drawn, before and after."""

import math
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PETError
from pipeline.images import Regions, regions_in_either
from pipeline.pet import PETSeries
from pipeline.regions import read_regions

__all__ = ["RegionRule"]


@dataclass(frozen=True, kw_only=True)
class RegionRule:
    """How the regions of the lesion table are drawn.

    Raises
    ------
    PETError
        If a value is out of range.
    """

    threshold: float = 4.0
    """SUV from which voxels form regions [g/mL]."""
    min_volume: float = 1.0
    """Smaller regions are left out [mL]."""
    fwhm: float = 8.0
    """Width of the Gaussian [mm] on both images before the outline is drawn, which keeps it from following the noise.
    0 is the published rule of a fixed SUV, on the images as they are."""
    given: Path | None = None
    """Regions that somebody drew, see `pipeline.regions.read_regions`, in place of those that these rules draw."""
    names: tuple[str, ...] = ()
    """Of the given regions, those that are taken; all if there are none."""

    def __post_init__(self) -> None:
        if not (0 < self.threshold < math.inf and 0 <= self.min_volume < math.inf and 0 <= self.fwhm < math.inf):
            raise PETError(
                f"threshold {self.threshold:g} g/mL, min_volume {self.min_volume:g} mL, fwhm {self.fwhm:g} mm: "
                "expected finite numbers, the first above 0, the others 0 or more"
            )
        if self.names and self.given is None:
            raise PETError(f"region {self.names[0]} is asked for, but no regions are given")

    def regions_of(self, before: PETSeries, after: PETSeries) -> Regions:
        """Return the regions of a scan, before and after.

        Raises
        ------
        PETError
            Given regions cannot be read, or do not lie in the scan.
        """
        if self.given is not None:
            return read_regions(self.given, before, names=self.names or None)
        return regions_in_either(
            before.suv,
            after.suv,
            voxel_size=before.voxel_size,
            threshold=self.threshold,
            min_volume=self.min_volume,
            fwhm=self.fwhm,
        )

    def own(self, series: PETSeries) -> Regions | None:
        """Return the regions that the rule draws in one image; None of regions that somebody drew."""
        return None if self.given is not None else self.regions_of(series, series)
