"""Everything that is said about one denoised scan: what its numbers are worth, and what cannot be said of it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import UndefinedMeasureError
from pipeline.evaluation.conservation import body_spheres
from pipeline.images import Regions, body_mask
from pipeline.pet import PETSeries
from pipeline.trust.calibration import TrustCalibration, read_calibration
from pipeline.trust.domain import Domain, domain_of
from pipeline.trust.evidence import Evidence, evidence_fields, evidence_of_change
from pipeline.trust.noise_field import NoiseField
from pipeline.trust.noise_model import scan_noise
from pipeline.trust.regions import RegionTrust, TrustedValue, measured_regions
from pipeline.trust.repeats import QUANTITIES, RegionRepeats
from pipeline.trust.spots import SPOT_FWHM, Spots, spots_of

__all__ = ["TRUST_COLUMNS", "Conservation", "ScanTrust", "scan_trust"]

_MEANING = {
    "suv_mean": "mean of the region [g/mL]",
    "suv_peak": "mean of the 1 mL sphere where the denoised image peaks in the region [g/mL]",
    "tlg": "SUVmean x volume [g]",
}

TRUST_COLUMNS: dict[str, str] = (
    {"diameter_mm": "of the sphere of the region's volume [mm]"}
    | {
        f"{quantity}_{what}": f"{_MEANING[quantity]}, {meaning}"
        for quantity in QUANTITIES
        for what, meaning in (
            ("measured", "in the scan before denoising"),
            ("measured_sd", "standard deviation that counting gives the measured value"),
            ("measured_low", "lower end of the measured value's 95 % interval"),
            ("measured_high", "upper end of the measured value's 95 % interval"),
            ("corrected", "denoised, less the bias that repeats of the scan showed; n/a without repeats"),
            ("recommended", "best by rule of measured and denoised; n/a where there is none, see statement"),
            ("recommended_low", "lower end of the recommended value's 95 % interval"),
            ("recommended_high", "upper end of the recommended value's 95 % interval"),
        )
    }
    | {
        "noise_probability": "that noise alone makes a spot as strong anywhere in such a scan",
        "support": "supported, uncertain, or not supported by the data",
        "found_again_percent": "of the repeats, after denoising, whose image reaches the threshold there [%]",
        "statement": "what cannot be stated of this region, and why; n/a if all is",
    }
)
"""Meaning and unit of the columns that trust adds to the lesion table, in order."""

_TEXTS = ("support", "statement")


@dataclass(frozen=True)
class Conservation:
    """How far denoising changed the SUV of spheres of 50 mm in the body."""

    n_spheres: int
    """Spheres that lie in the body, on a lattice of 25 mm."""
    rms_percent: float
    """Root of the mean square of their changes [%]."""
    largest_percent: float
    """The change farthest from 0 [%]."""

    def __str__(self) -> str:
        """Return the result in one line."""
        if not self.n_spheres:
            return "not assessed: no sphere of 50 mm lies in the body"
        return (
            f"SUVmean of {self.n_spheres} spheres of 50 mm in the body changed by {self.rms_percent:.1f} % (RMS), "
            f"at most by {self.largest_percent:+.1f} %"
        )


@dataclass(frozen=True, kw_only=True)
class ScanTrust:
    """What can be said of how far a denoised scan may be believed, and what cannot."""

    regions: pd.DataFrame
    """One row per region in the order of the lesion table, columns TRUST_COLUMNS."""
    evidence: Evidence
    """Where signal was removed or added."""
    spots: Spots
    """Which local maxima and which regions the data support."""
    conservation: Conservation
    """SUV of large spheres."""
    domain: Domain
    """Its dose, and where it lies outside of the training."""
    not_stated: tuple[str, ...]
    """What could not be stated, a line each."""

    @property
    def warnings(self) -> list[str]:
        """What a person should know at once."""
        changed = [] if self.evidence.regions.empty else [f"{self.evidence.statement}; the places are in changes.tsv"]
        return [*changed, *self.domain.warnings]

    @property
    def record(self) -> dict[str, Any]:
        """What a run record keeps: texts and numbers."""
        changes = self.evidence.regions["change"].value_counts()
        support = self.spots.regions["support"].value_counts()
        dose = self.domain.dose
        return {
            "dose": self.domain.dose_statement,
            "dose_reduction_factor_read": None if dose is None else _rounded(dose.factor),
            "dose_reduction_factor_95": None if dose is None else [_rounded(dose.low), _rounded(dose.high)],
            "outside_of_training": [row.name for row in self.domain.rows if row.outside],
            "changes": self.evidence.statement,
            "n_removed": int(changes.get("removed", 0)),
            "n_added": int(changes.get("added", 0)),
            "spots": self.spots.statement,
            "regions_by_support": {str(word): int(n) for word, n in support.items()},
            "conservation": str(self.conservation),
            "not_stated": list(self.not_stated),
        }


class _KeepingOne:
    """Fields that are gone through once; the one that spots are measured in is kept, the others need no memory."""

    def __init__(self, fields: Iterable[NoiseField]) -> None:
        self.fields = fields
        self.kept: list[NoiseField] = []

    def __iter__(self) -> Iterator[NoiseField]:
        for field in self.fields:
            if field.fwhm == SPOT_FWHM:
                self.kept.append(field)
            yield field


def scan_trust(
    before: PETSeries,
    after: PETSeries,
    regions: Regions,
    *,
    threshold: float | None,
    drawn: NDArray[np.bool_] | None = None,
    style_deviation: Mapping[str, float] | None = None,
    repeats: RegionRepeats | None = None,
    not_stated: Sequence[str] = (),
    calibration: TrustCalibration | None = None,
) -> ScanTrust:
    """Return what can be said of a denoised scan and of its regions.

    Parameters
    ----------
    before, after
        The scan as read, and denoised, on one grid.
    regions
        As `pipeline.images.regions_in_either` draws them on the two, or as a reader did.
    threshold
        SUV that they were drawn at [g/mL]; None if they were drawn otherwise.
    drawn
        What the denoised image alone draws, see `measured_regions`.
    style_deviation
        The noise of the scan beside that of the training scans [SD], see `UniPET.style_deviation`.
    repeats
        Of the regions, by `repeat_scan`; they give the denoised values' bias.
    not_stated
        What could not be stated before, a line each.
    calibration
        By default that of the bundle that comes along.

    Raises
    ------
    PETError
        The calibration cannot be read.
    """
    calibration = read_calibration() if calibration is None else calibration
    body = body_mask(after.suv, voxel_size=after.voxel_size)
    images, voxel_size, affine = (before.suv, after.suv), before.voxel_size, before.affine
    fields = _KeepingOne(evidence_fields(*images, voxel_size=voxel_size, body=body))
    evidence = evidence_of_change(*images, voxel_size=voxel_size, affine=affine, body=body, fields=fields)
    spots = spots_of(
        *images, voxel_size=voxel_size, affine=affine, body=body, labels=regions.labels, fields=fields.kept
    )
    conservation = _conservation(before, after, body)
    domain = domain_of(before, style_deviation=style_deviation or {}, calibration=calibration)
    try:
        noise = scan_noise(before.suv, voxel_size=before.voxel_size, coefficients=calibration.noise)
        bias = None if repeats is None else repeats.bias
        said = measured_regions(
            before.suv,
            after.suv,
            regions.labels,
            noise=noise,
            calibration=calibration,
            threshold=threshold,
            drawn=drawn,
            bias=bias,
        )
        errors = ""
    except UndefinedMeasureError as error:
        said, errors = [], f"not assessed: {error}"
    found = {"errors of regions": errors, "changes": evidence.statement, "spots": spots.statement}
    found["conservation"] = str(conservation)
    return ScanTrust(
        regions=_table(said, errors, spots, repeats, numbers=regions.numbers),
        evidence=evidence,
        spots=spots,
        conservation=conservation,
        domain=domain,
        not_stated=(
            *not_stated,
            *(f"{name} {text}" for name, text in found.items() if text.startswith("not ")),
            *([domain.dose_statement] if domain.dose is None else []),
        ),
    )


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def _table(
    said: Sequence[RegionTrust], errors: str, spots: Spots, repeats: RegionRepeats | None, *, numbers: Sequence[int]
) -> pd.DataFrame:
    """Return a row of TRUST_COLUMNS for each region."""
    of_number = {region.number: region for region in said}
    judged = spots.regions.set_index("region").reindex(numbers)
    rows = []
    for at, number in enumerate(numbers):
        row: dict[str, object] = dict.fromkeys(TRUST_COLUMNS)
        row["statement"] = errors or None
        if (region := of_number.get(number)) is not None:
            row |= {"diameter_mm": region.diameter, "statement": region.statement or None}
            for quantity in QUANTITIES:
                row |= _columns_of(quantity, getattr(region, quantity))
        row |= {"noise_probability": judged["probability"].iloc[at], "support": judged["support"].iloc[at]}
        if repeats is not None and repeats.found is not None:
            row["found_again_percent"] = 100 * float(repeats.found[:, at].mean())
        rows.append(row)
    table = pd.DataFrame(rows, columns=list(TRUST_COLUMNS))
    return table.astype({name: float for name in TRUST_COLUMNS if name not in _TEXTS})


def _columns_of(quantity: str, value: TrustedValue) -> dict[str, float | None]:
    return {
        f"{quantity}_measured": value.measured,
        f"{quantity}_measured_sd": value.measured_sd,
        f"{quantity}_measured_low": value.measured_low,
        f"{quantity}_measured_high": value.measured_high,
        f"{quantity}_corrected": value.corrected,
        f"{quantity}_recommended": value.recommended,
        f"{quantity}_recommended_low": value.low,
        f"{quantity}_recommended_high": value.high,
    }


def _conservation(before: PETSeries, after: PETSeries, body: NDArray[np.bool_]) -> Conservation:
    spheres = body_spheres(body, voxel_size=before.voxel_size)
    changes = spheres.change_percent(after.suv, before.suv)
    if not changes.size:
        return Conservation(0, np.nan, np.nan)
    largest = changes[np.argmax(np.abs(changes))]
    return Conservation(changes.size, float(np.sqrt(np.mean(changes**2))), float(largest))
