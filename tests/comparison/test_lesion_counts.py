"""Lost and invented lesions per 100, limits of agreement and the composite over doses, from counts that are known."""

import pandas as pd
import pytest

from pipeline.comparison import lesion_agreement, lesion_concordance, udpet_composite
from pipeline.evaluation import DOSE_WEIGHTS


def scan(subject: str, **counts: int) -> dict[str, object]:
    names = (f"n_{kind}" for kind in ("lesions", "lesions_full", "lesions_seen", "lesions_both"))
    spots = (f"n_spots_{image}" for image in ("full", "seen", "both"))
    zero = dict.fromkeys((*names, *spots), 0)
    return {"subject": subject, "dose_reduction_factor": 2.0, "method": "net", **zero, **counts}


@pytest.fixture
def reading_study():
    """What PMC9399218 reports, as if two subjects had it: 856 in either image, 836 in both, 7 lost, 13 only after."""
    half = {"n_lesions": 430, "n_lesions_both": 418}
    return pd.DataFrame(
        [
            scan("a", **half, n_lesions_full=422, n_lesions_seen=418 + 5, n_spots_seen=2),
            scan("b", **half, n_lesions_full=421, n_lesions_seen=418 + 3, n_spots_seen=3),
        ]
    )


def test_the_published_concordance_follows_from_its_counts(reading_study):
    found = lesion_concordance(reading_study).set_index("figure")
    assert found.loc["concordant", ["count", "of"]].tolist() == [836, 856]
    assert found.loc["concordant", "per_100"] == pytest.approx(97.7, abs=0.05)
    assert found.loc["lost", "per_100"] == pytest.approx(0.8, abs=0.05)
    assert found.loc["only_after", "per_100"] == pytest.approx(1.5, abs=0.05)


def test_both_denominators(reading_study):
    found = lesion_concordance(reading_study).set_index("figure")
    assert found.loc["lost_of_true", ["count", "of"]].tolist() == [7, 860]
    assert found.loc["lost_of_full", ["count", "of"]].tolist() == [7, 843]
    # Of the 13 only after denoising 8 are true lesions.
    assert found.loc["invented_per_true", ["count", "of"]].tolist() == [5, 860]
    assert found.loc["invented_of_found", ["count", "of"]].tolist() == [5, 849]
    assert (found["low"] <= found["per_100"]).all()
    assert (found["per_100"] <= found["high"]).all()


def test_noise_of_the_full_dose_is_neither_invented_nor_lost():
    lesions = {"n_lesions": 1, "n_lesions_full": 1, "n_lesions_seen": 1, "n_lesions_both": 1}
    rows = pd.DataFrame([scan(s, **lesions, n_spots_full=3, n_spots_seen=2, n_spots_both=2) for s in "ab"])
    found = lesion_concordance(rows).set_index("figure")
    assert found.loc["invented_of_found", "count"] == 0
    assert found.loc["concordant", "per_100"] == 100
    assert found.loc["lost", "per_100"] == found.loc["only_after", "per_100"] == 0


def test_nothing_seen_has_no_share_and_one_subject_no_interval(reading_study):
    none = lesion_concordance(pd.DataFrame([scan("a", n_lesions=2)])).set_index("figure")
    assert pd.isna(none.loc["concordant", "per_100"])
    assert none.loc["lost_of_true", "per_100"] == 0
    alone = lesion_concordance(reading_study.iloc[:1])
    assert alone["per_100"].notna().all()
    assert alone[["low", "high"]].isna().all(axis=None)
    assert lesion_concordance(reading_study.drop(columns="n_lesions_both")).empty


def test_limits_of_agreement_of_each_method_and_dose(made):
    found = lesion_agreement(made(small=-10.0, large=-2.0).lesions)
    row = found[(found["quantity"] == "suv_mean") & (found["method"] == "net")].iloc[0]
    sd = 4 * (6 / 5) ** 0.5  # six errors, 4 to either side of their mean
    assert row["n_lesions"] == 6
    assert [row["bias"], row["lower"], row["upper"]] == pytest.approx([-6, -6 - 1.96 * sd, -6 + 1.96 * sd])
    assert len(found) == 3 * 2 * 4
    small = lesion_agreement(made(small=-10.0, large=-2.0).lesions, diameter_below=15.0)
    assert small[small["method"] == "net"]["bias"].eq(-10).all()


def test_the_composite_is_weighted_over_doses():
    rows = [
        {"subject": s, "dose_reduction_factor": factor, "method": "net", "udpet_score": score + 0.1 * i}
        for i, s in enumerate(("a", "b"))
        for factor, score in {**dict.fromkeys(DOSE_WEIGHTS, 0.5), 2.0: 0.9}.items()
    ]
    assert udpet_composite(pd.DataFrame(rows))["net"] == pytest.approx(0.55)
    assert udpet_composite(pd.DataFrame(rows[:3])).isna().all()
