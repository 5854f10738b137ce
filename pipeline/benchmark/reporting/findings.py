"""What a benchmark has found: the stored results as tables, rows in the order of the definition."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from pipeline.benchmark.definition import Definition
from pipeline.benchmark.parts.uncertainty import INTERVALS
from pipeline.benchmark.results import Stored, table_of
from pipeline.comparison import Measurements, lesions_in_class
from pipeline.evaluation import jackknife_interval

__all__ = ["LARGE", "Findings"]

LARGE = 10.0
"""Smallest diameter of the lesions whose bias is reported [mm]."""


@dataclass(frozen=True)
class Findings:
    """Stored results of a benchmark, and what follows from them."""

    definition: Definition
    results: Sequence[Stored]

    @cached_property
    def _measured(self) -> dict[tuple[str, tuple[str, ...] | None], Measurements | None]:
        return {}

    @cached_property
    def rows(self) -> pd.DataFrame:
        """One row for each row of the benchmark, by name: entry, label, kind, seed, dose, facts; in order."""
        known = {entry: place for place, entry in enumerate(self.definition.names)}
        found = {stored.name: dict(stored.row) for stored in self.results}
        order = sorted(
            found, key=lambda name: (known.get(found[name]["entry"], len(known)), found[name]["seed"], len(name))
        )
        return pd.DataFrame([found[name] for name in order]).set_index("name", drop=False)

    def label(self, name: str) -> str:
        """Return what a person calls a row of the benchmark."""
        return str(self.rows.loc[name, "label"]) if name in self.rows.index else name

    def table(self, part: str, table: str) -> pd.DataFrame:
        """Return a table of a part with a column ``method``, in the order of the benchmark; empty if there is none."""
        frame = table_of(self.results, part, table)
        if frame.empty:
            return frame
        place = {name: number for number, name in enumerate(self.rows.index)}
        return frame.sort_values("method", key=lambda names: names.map(place), kind="stable", ignore_index=True)

    def measurements(self, part: str, conditions: Sequence[str] | None = None) -> Measurements | None:
        """Return the measurements of a part on images, of all its conditions or of some; None if there are none."""
        key = part, None if conditions is None else tuple(conditions)
        if key not in self._measured:
            self._measured[key] = self._gathered(part, conditions)
        return self._measured[key]

    def _gathered(self, part: str, conditions: Sequence[str] | None) -> Measurements | None:
        scans, lesions = self.table(part, "scans"), self.table(part, "lesions")
        if conditions is not None and not scans.empty:
            scans = scans[scans["condition"].isin(list(conditions))]
            lesions = lesions if lesions.empty else lesions[lesions["condition"].isin(list(conditions))]
        if scans.empty:
            return None
        if lesions.empty:
            lesions = pd.DataFrame(columns=["subject", "dose_reduction_factor", "method", "region", "diameter_mm"])
        return Measurements(_with_texture(scans), lesions, str(scans["truth"].iloc[0]), str(scans["regions"].iloc[0]))

    @cached_property
    def images(self) -> Measurements | None:
        """Measurements on the held-out subjects."""
        return self.measurements("images")

    @cached_property
    def detection(self) -> pd.DataFrame:
        """Areas under the ROC of all lesions of a dose together; empty where detection was not measured."""
        frame = self.table("detection", "detection")
        together = [name for name in ("diameter", "level", "site") if name in frame]
        return frame[(frame[together] == "all").all(axis=1)] if together else frame

    @cached_property
    def detection_differences(self) -> pd.DataFrame:
        """Return areas under the ROC less those of the reference, paired by patient, of all lesions of a dose together.

        The columns are method, dose_reduction_factor, difference, difference_low and difference_high.
        """
        frame, rows = self.detection, []
        if "auc_without_each" in frame:
            of_reference = frame[frame["method"] == self.definition.reference].set_index("dose_reduction_factor")
            for row in frame[frame["method"] != self.definition.reference].to_dict("records"):
                if (factor := row["dose_reduction_factor"]) in of_reference.index:
                    other = of_reference.loc[factor]
                    difference = row["auc"] - other["auc"]
                    without_each = np.subtract(row["auc_without_each"], other["auc_without_each"])
                    low, high = jackknife_interval(difference, without_each)
                    names = ("difference", "difference_low", "difference_high")
                    figures = dict(zip(names, (difference, low, high), strict=True))
                    rows.append({"method": row["method"], "dose_reduction_factor": factor, **figures})
        return pd.DataFrame(rows)

    @cached_property
    def intervals(self) -> Measurements | None:
        """Return how true the stated intervals of the body's voxels are, of draws where a method has them.

        The columns are ``coverage_error``, how far the coverage of intervals of 95 % is from that [points], and
        ``rank_correlation`` of stated and true errors. None where uncertainty was not measured.
        """
        frame = self.table("uncertainty", "coverage")
        if frame.empty:
            return None
        body = frame[(frame["region"] == "body") & (frame["intervals"] == INTERVALS[0])]
        drawn = set(body.loc[body["origin"] == "draws", "method"])
        kept = body[(body["origin"] == "draws") | ~body["method"].isin(drawn)]
        errors = 100 * (kept["coverage_95"] - 0.95).abs()
        return Measurements(kept.assign(coverage_error=errors), pd.DataFrame(), "noise_free", "none")

    @cached_property
    def mixtures(self) -> list[str]:
        """Return a sentence on each row whose parts were measured with different weights."""
        weights: dict[str, set[str]] = {}
        for stored in self.results:
            weights.setdefault(stored.name, set()).add(str(stored.row["facts"].get("weights_sha256")))
        return [
            f"{self.label(name)}: its parts were measured with {len(found)} different weights; measure them again."
            for name, found in weights.items()
            if len(found) > 1
        ]

    def large_lesions(self, measurements: Measurements) -> pd.DataFrame:
        """Return the lesions whose bias is reported."""
        return lesions_in_class(measurements.lesions, diameter_from=LARGE, diameter_below=np.inf)


def _with_texture(scans: pd.DataFrame) -> pd.DataFrame:
    """Add the texture's error, the absolute logarithm of the local variance over that of full dose."""
    if "local_variance_ratio_full" not in scans:
        return scans
    ratio = scans["local_variance_ratio_full"].where(scans["local_variance_ratio_full"] > 0)
    return scans.assign(texture_error=np.log(ratio).abs())
