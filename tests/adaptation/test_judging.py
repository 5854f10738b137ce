"""New weights are kept only if they gain surely and lose nothing."""

import numpy as np
import pandas as pd
import pytest

from pipeline.adaptation.judging import judge
from pipeline.comparison import Measurements

SCANS, DOSES = ("scan-01", "scan-02", "scan-03"), (4.0, 20.0)


def measurements(gain=0.2, *, scans=SCANS, liver=0.0, body=0.0, spots=0.0, lesions=0.0) -> Measurements:
    """Measurements of both weights: what the new ones gain (a number, or one of scan and dose), or lose."""
    rows, regions = [], []
    for number, subject in enumerate(scans):
        for dose in DOSES:
            which = {"subject": subject, "dose_reduction_factor": dose}
            more = gain(number, dose) if callable(gain) else gain
            for method, is_new in (("input", False), ("before", False), ("after", True)):
                rows.append(
                    {
                        **which,
                        "method": method,
                        "psnr_full": 40 - dose / 4 + number + is_new * more,
                        "liver_bias_percent": (-1) ** number * (1 + is_new * liver),
                        "change_percent body": -is_new * body,
                        "n_false_hot_spots": 2 + is_new * spots,
                    }
                )
                error = -(5 + is_new * lesions)
                regions.append(
                    {**which, "method": method, "region": 1, "diameter_mm": 20.0, "suv_mean_error_percent": error}
                )
    return Measurements(pd.DataFrame(rows), pd.DataFrame(regions), "full")


def missed(verdict) -> list[str]:
    return [criterion.what for criterion in verdict.criteria if not criterion.met]


def test_a_gain_on_every_scan_is_kept():
    verdict = judge(measurements())
    assert verdict.is_kept, missed(verdict)
    assert verdict.gain == pytest.approx(0.2)
    assert verdict.interval is not None
    assert verdict.interval.low == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("made", "what"),
    [
        (measurements(0.04), "gain of PSNR, mean of scans and doses [dB]"),
        (measurements(float("nan")), "gain of PSNR, mean of scans and doses [dB]"),
        (measurements(lambda n, dose: 0.5 if dose == 20 else -0.06), "gain of PSNR at the worst dose [dB]"),
        (measurements(lambda n, dose: 0.6 if n else -0.1), "lower end of its 95 % interval [dB]"),
        (measurements(lambda n, dose: 0.6 if n else -0.01, scans=SCANS[:2]), "gain of the worst scan [dB]"),
        (measurements(liver=0.3), "absolute bias of SUV, liver [%]"),
        (measurements(body=0.3), "absolute change of SUV from the noisy scan, body [%]"),
        (measurements(lesions=1.5), "absolute error of SUVmean, regions from 10 mm [%]"),
        (measurements(spots=1), "false hot spots a scan"),
    ],
)
def test_what_is_missed_is_named_and_the_old_weights_stay(made, what):
    verdict = judge(made)
    assert not verdict.is_kept
    assert what in missed(verdict)


def test_the_bias_that_the_noisy_scan_has_already_is_allowed():
    made = measurements(liver=0.3)
    made.scans.loc[made.scans["method"] == "input", "liver_bias_percent"] = -1.2
    assert judge(made).is_kept


def test_a_single_scan_must_gain_more():
    assert judge(measurements(0.08, scans=SCANS[:1])).is_kept
    assert not judge(measurements(0.08, scans=SCANS[:1]), is_one_scan=True).is_kept


def test_what_was_measured_for_neither_demands_nothing():
    made = measurements()
    made.scans["liver_bias_percent"] = np.nan
    assert not any("liver" in criterion.what for criterion in judge(made).criteria)
    made.scans.loc[made.scans["method"] == "before", "liver_bias_percent"] = 1.0
    assert "absolute bias of SUV, liver [%]" in missed(judge(made))
