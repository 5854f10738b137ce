"""Measurements with known figures, and filters that need no tuning."""

from collections.abc import Callable

import pandas as pd
import pytest

from pipeline.comparison import Competitors, Measurements


@pytest.fixture
def competitors() -> Competitors:
    """Filters that do nothing, so that input, Gaussian and non-local means are equal."""
    return Competitors(gaussian_fwhm={4.0: 0.0, 20.0: 0.0}, nonlocal_means_strength={4.0: 0.0, 20.0: 0.0})


@pytest.fixture
def made() -> Callable[..., Measurements]:
    """Measurements of three subjects with a lesion of 12 mm and one of 20 mm each; "net" has the stated figures."""

    def make(
        *, gain: float = 1.5, liver: float = 0.5, small: float = -10.0, large: float = -2.0, spots: float = 0.0
    ) -> Measurements:
        psnr = {"input": 40.0, "gaussian": 42.0, "nonlocal_means": 43.0, "net": 43.0 + gain}
        scans, lesions = [], []
        for i in range(3):
            for factor in (4.0, 20.0):
                for name, value in psnr.items():
                    own = name == "net"
                    which = {"subject": f"sub-{i}", "dose_reduction_factor": factor, "method": name}
                    level = value + i - factor / 10
                    figures = {"psnr_full": level, "psnr_noise_free": level + 1, "ssim_full": 0.9 + 0.05 * own}
                    figures |= {"liver_bias_percent": liver if own else 3.0, "n_false_hot_spots": spots if own else 9.0}
                    scans.append({**which, **figures})
                    for region, diameter, error in ((1, 12.0, small), (2, 20.0, large)):
                        error = error if own else -30.0
                        errors = dict.fromkeys((f"suv_{q}_error_percent" for q in ("max", "peak", "mean")), error)
                        lesions.append({**which, "region": region, "diameter_mm": diameter, **errors})
        return Measurements(pd.DataFrame(scans), pd.DataFrame(lesions), "noise_free")

    return make
