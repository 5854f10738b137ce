"""Measurements with known figures, and filters that need no tuning."""

from collections.abc import Callable

import pandas as pd
import pytest

from pipeline.comparison import Competitors, Measurements
from pipeline.evaluation import END_CLASSES


@pytest.fixture
def competitors() -> Competitors:
    """Filters that do nothing on the tiny scanner, so that input, Gaussian and non-local means are equal."""
    scanner = "simulated tiny, 15 x 15 x 15 mm"
    filters = ("gaussian", "nonlocal_means")
    return Competitors(filters=filters, tuned={(name, scanner, f): 0.0 for name in filters for f in (4.0, 20.0)})


@pytest.fixture
def made() -> Callable[..., Measurements]:
    """Measurements of three subjects with a lesion of 12 mm and one of 20 mm each; "net" has the stated figures."""

    def make(
        *,
        gain: float = 1.5,
        change: float = 0.2,
        small: float = -10.0,
        large: float = -2.0,
        spots: float = 0.0,
        scanners: tuple[str, ...] = ("A",),
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
                    figures |= {"liver_bias_percent": 0.5 if own else 3.0, "n_false_hot_spots": spots if own else 9.0}
                    figures |= {f"n_false_hot_spots {place}": spots / 3 if own else 3.0 for place in END_CLASSES}
                    # Of either sign, so that only the absolute change tells.
                    figures |= {"change_percent liver": (-1) ** i * change if own else 0.0}
                    figures |= {"scanner": scanners[i % len(scanners)]}
                    scans.append({**which, **figures})
                    for region, diameter, error in ((1, 12.0, small), (2, 20.0, large)):
                        error = error if own else -30.0
                        quantities = ("suv_max", "suv_peak", "suv_mean", "mtv", "tlg")
                        errors = dict.fromkeys((f"{quantity}_error_percent" for quantity in quantities), error)
                        lesions.append({**which, "region": region, "diameter_mm": diameter, **errors})
        return Measurements(pd.DataFrame(scans), pd.DataFrame(lesions), "noise_free")

    return make
