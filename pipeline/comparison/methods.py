"""What is measured: methods that are told the dose or not, and input and filters in the same form."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from pipeline.comparison.cases import scanner_of
from pipeline.comparison.filters import FILTERS, root_noise
from pipeline.pet import PETSeries

__all__ = ["DoseRead", "Method", "StatesDose", "TunedFilter", "filtered", "noisy_input", "with_dose"]

Method = Callable[[PETSeries], PETSeries]
"""A denoised series of a noisy one, on its grid."""


@runtime_checkable
class StatesDose(Protocol):
    """A method that is told the dose reduction factor of a scan."""

    def at_dose(self, factor: float) -> Method:
        """Return the method for scans of a dose reduction factor."""


def with_dose(method: Method, factor: float) -> Method:
    """Return a method for scans of a dose reduction factor, which it is told if it can be."""
    return method.at_dose(factor) if isinstance(method, StatesDose) else method


@dataclass(frozen=True)
class DoseRead:
    """A method that is not told the dose and reads it from the scan, if it needs it."""

    method: Method

    def __call__(self, series: PETSeries) -> PETSeries:
        """Return the denoised series."""
        return self.method(series)


def noisy_input(series: PETSeries) -> PETSeries:
    """Return a scan as it is."""
    return series


@dataclass(frozen=True, kw_only=True)
class TunedFilter:
    """A filter with settings that were chosen on other scans."""

    name: str
    """One of FILTERS."""
    tuned: Mapping[tuple[str, float], float]
    """(Scanner and voxels, dose reduction factor) -> setting."""
    dose_reduction_factor: float | None = None
    """Of the scans; None until it is stated."""

    def at_dose(self, factor: float) -> "TunedFilter":
        """Return the filter for scans of a dose reduction factor."""
        return TunedFilter(name=self.name, tuned=self.tuned, dose_reduction_factor=factor)

    def setting(self, scanner: str) -> float:
        """Return the setting for a scanner, that of the nearest dose which was tuned, by ratio.

        A scanner that was not tuned gets the mean over those that were.

        Raises
        ------
        ValueError
            The dose was not stated, or nothing was tuned.
        """
        if self.dose_reduction_factor is None or not self.tuned:
            raise ValueError(f"{self.name}: no setting without a dose and scans to choose it on")
        own = {factor: value for (name, factor), value in self.tuned.items() if name == scanner}
        factors = own or {factor for _, factor in self.tuned}
        wanted = np.log(self.dose_reduction_factor)
        nearest = min(factors, key=lambda factor: abs(np.log(factor) - wanted))
        if own:
            return own[nearest]
        return float(np.mean([value for (_, factor), value in self.tuned.items() if factor == nearest]))

    def __call__(self, series: PETSeries) -> PETSeries:
        """Return the filtered series."""
        return filtered(series, self.name, self.setting(scanner_of(series)))


def filtered(series: PETSeries, name: str, setting: float) -> PETSeries:
    """Return a series filtered with a setting, relative to the noise of the whole scan where the filter has it so."""
    noise = root_noise(series.suv, voxel_size=series.voxel_size)
    return series.with_suv(FILTERS[name].apply(series.suv, setting, series.voxel_size, noise))
