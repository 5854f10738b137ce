"""Numbers that several rooms use and that must be the same in all of them."""

import math

__all__ = ["FWHM_PER_SIGMA", "OSEM_NOISE_POWER", "STYLE_RANGE", "STYLIZED_VARIANCE"]

FWHM_PER_SIGMA = 2 * math.sqrt(2 * math.log(2))
"""Full width at half maximum of a Gaussian of standard deviation 1."""

OSEM_NOISE_POWER = 0.6
"""The standard deviation of OSEM noise goes with about this power of the local mean."""

STYLE_RANGE = 3.0
"""Beyond so many standard deviations of the training scans a statistic of the noise counts as that many."""

STYLIZED_VARIANCE = 1e-3
"""Local variance from which a voxel belongs to the stylized region of UniPET (arXiv 2606.11131) [g^2/mL^2]."""
