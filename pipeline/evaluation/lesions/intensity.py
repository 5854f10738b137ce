"""Statistics and histogram of the SUV in a region, as the Image Biomarker Standardisation Initiative defines them.

Zwanenburg et al., Radiology 295 (2020) 328, and the reference manual, arXiv 1612.07003.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from pipeline.evaluation.quantification import values_in

__all__ = ["INTENSITY_STATISTICS", "Histogram", "intensity_histogram", "intensity_statistics"]

INTENSITY_STATISTICS: dict[str, str] = {
    "mean": "mean [g/mL]",
    "variance": "variance, divided by the number of voxels [g2/mL2]",
    "skewness": "skewness, 0 where all voxels are equal",
    "kurtosis": "excess kurtosis, 0 where all voxels are equal",
    "median": "median [g/mL]",
    "minimum": "lowest voxel [g/mL]",
    "p10": "10th percentile, interpolated linearly [g/mL]",
    "p25": "25th percentile [g/mL]",
    "p75": "75th percentile [g/mL]",
    "p90": "90th percentile [g/mL]",
    "maximum": "highest voxel [g/mL]",
    "interquartile_range": "75th less 25th percentile [g/mL]",
    "range": "highest less lowest voxel [g/mL]",
    "mean_absolute_deviation": "mean distance from the mean [g/mL]",
    "robust_mean_absolute_deviation": "the same of the voxels from the 10th to the 90th percentile [g/mL]",
    "median_absolute_deviation": "mean distance from the median [g/mL]",
    "coefficient_of_variation": "SD / mean, SD with the number of voxels as divisor",
    "quartile_coefficient_of_dispersion": "(75th - 25th) / (75th + 25th percentile)",
    "energy": "sum of squares over the voxels, which grows with their number [g2/mL2]",
    "root_mean_square": "root of the mean square [g/mL]",
}
"""Meaning and unit of every key of `intensity_statistics`, in order."""


def intensity_statistics(suv: ArrayLike, mask: NDArray[np.bool_]) -> dict[str, float]:
    """Return the intensity-based statistics of a region, by the names in `INTENSITY_STATISTICS`.

    Image [g/mL] and mask have one shape. A quotient by 0 is NaN.

    Raises
    ------
    ValueError
        The mask is of another shape, or empty.
    """
    x = values_in(suv, mask).astype(np.float64)
    mean, variance, rms = x.mean(), x.var(), np.sqrt((x**2).mean())
    p10, p25, median, p75, p90 = np.percentile(x, [10, 25, 50, 75, 90])
    robust = x[(x >= p10) & (x <= p90)]
    shaped = x.min() < x.max()
    values = {
        "mean": mean,
        "variance": variance,
        "skewness": stats.skew(x) if shaped else 0.0,
        "kurtosis": stats.kurtosis(x) if shaped else 0.0,
        "median": median,
        "minimum": x.min(),
        "p10": p10,
        "p25": p25,
        "p75": p75,
        "p90": p90,
        "maximum": x.max(),
        "interquartile_range": p75 - p25,
        "range": x.max() - x.min(),
        "mean_absolute_deviation": np.abs(x - mean).mean(),
        "robust_mean_absolute_deviation": np.abs(robust - robust.mean()).mean() if robust.size else np.nan,
        "median_absolute_deviation": np.abs(x - median).mean(),
        "coefficient_of_variation": np.sqrt(variance) / mean if mean else np.nan,
        "quartile_coefficient_of_dispersion": (p75 - p25) / (p75 + p25) if p75 + p25 else np.nan,
        "energy": (x**2).sum(),
        "root_mean_square": rms,
    }
    return {name: float(value) for name, value in values.items()}


@dataclass(frozen=True)
class Histogram:
    """How many voxels of a region have which SUV."""

    edges: NDArray[np.float64]
    """Edges of the bins [g/mL], one more than bins; a bin holds its lower edge."""
    counts: NDArray[np.int64]
    """Voxels in each bin."""

    @property
    def mode(self) -> float:
        """Centre of the fullest bin [g/mL]; of several the one nearest to the histogram's mean."""
        centers = (self.edges[:-1] + self.edges[1:]) / 2
        mean = np.average(centers, weights=self.counts)
        fullest = centers[self.counts == self.counts.max()]
        return float(fullest[np.argmin(np.abs(fullest - mean))])

    @property
    def entropy(self) -> float:
        """Entropy of the bins [bit]; it falls with their width."""
        p = self.counts[self.counts > 0] / self.counts.sum()
        return float(-(p * np.log2(p)).sum())

    @property
    def uniformity(self) -> float:
        """Sum of the squared shares of the bins."""
        return float(((self.counts / self.counts.sum()) ** 2).sum())


def intensity_histogram(suv: ArrayLike, mask: NDArray[np.bool_], *, bin_width: float) -> Histogram:
    """Return the histogram of a region with bins of one width [g/mL], one of whose edges is at SUV 0.

    So bins are the same for every region, and for an image before and after denoising. Image [g/mL] and mask have one
    shape.

    Raises
    ------
    ValueError
        The mask is of another shape, or empty, or the width is not positive.
    """
    if not bin_width > 0:
        raise ValueError(f"intensity_histogram: bin_width must be above 0, found {bin_width}")
    bins = np.floor(values_in(suv, mask).astype(np.float64) / bin_width).astype(np.int64)
    first = bins.min()
    counts = np.bincount(bins - first)
    return Histogram((first + np.arange(len(counts) + 1)) * bin_width, counts)
