"""The burden before and after: sums of what regions have, and intervals by hand."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation import half_width, region_quantities
from pipeline.images import Delineation, named_threshold
from pipeline.trust import BURDEN_COLUMNS, burden_changes, burden_table

SIZE = (5.0, 5.0, 4.0)
RULE = Delineation(threshold=named_threshold("suv5"), voxel_size=SIZE)


@pytest.fixture(scope="module")
def scan():
    before = np.random.default_rng(0).normal(1, 0.2, (30, 30, 30))
    before[3:8, 3:8, 3:8], before[18:22, 20:24, 20:25] = 8.0, 5.5
    after = 0.9 * before
    images = {"before": before, "after": after, "reference": 1.1 * before}
    own = {name: RULE.of(image) for name, image in images.items()}
    return images, RULE.of_either(before, after), own


def table_of(scan, **options):
    images, regions, own = scan
    found = burden_table(images, regions, voxel_size=SIZE, own=own, **options)
    assert list(found.columns) == list(BURDEN_COLUMNS)
    return found.set_index(["outlines", "image"])


def test_the_burden_is_the_sum_of_the_regions(scan):
    images, regions, own = scan
    table = table_of(scan)
    for outlines, name in table.index:
        of = regions if outlines == "common" else own[name]
        each = region_quantities(images[name], of, voxel_size=SIZE, affine=np.eye(4))
        row = table.loc[(outlines, name)]
        assert row.n_regions == len(each)
        assert row.tlg == pytest.approx((each.suv_mean * each.mtv_ml).sum())
        assert row.tmtv_ml == pytest.approx(each.mtv_ml.sum())
        assert row.suv_max == each.suv_max.max()
        assert row.suv_peak == each.suv_peak.max()


def test_the_change_is_that_after_less_before(scan):
    table = table_of(scan)
    assert table.drop(("common", "after")).drop(("own", "after")).filter(like="change").isna().all(axis=None)
    same = table.loc[("common", "after")]
    assert same.tlg_change_percent == pytest.approx(-10)
    assert np.isnan(same.tmtv_change_ml)  # one volume
    own = table.loc[("own", "after")]
    assert own.n_regions == 1  # 0.9 x 5.5 is below the threshold of 5
    assert own.tmtv_change_ml == pytest.approx(-8)
    assert own.tlg_change == pytest.approx(own.tlg - table.loc[("own", "before")].tlg)


def test_intervals_by_counting_are_of_fixed_outlines_alone(scan):
    table = table_of(scan, tlg_sd=3.0)
    same, own = table.loc[("common", "after")], table.loc[("own", "after")]
    assert same.interval_by == "counting"
    assert (same.tlg_change_high - same.tlg_change_low) / 2 == pytest.approx(1.96 * 3, rel=1e-3)
    assert pd.isna(own.interval_by)
    assert np.isnan(own.tlg_change_low)
    assert np.isnan(own.tmtv_change_low_ml)


def test_intervals_by_repeats_are_the_spread_of_the_change(scan):
    changes = np.random.default_rng(1).normal(10, (1, 2, 3), (6, 3))
    table = table_of(scan, tlg_sd=3.0, repeats=SimpleNamespace(changes=changes))
    same, own = table.loc[("common", "after")], table.loc[("own", "after")]
    assert same.interval_by == own.interval_by == "repeats"
    by_hand = changes.std(axis=0, ddof=1) * half_width(0.95, n_draws=6)
    assert own.tmtv_change_high_ml - own.tmtv_change_ml == pytest.approx(by_hand[0])
    assert own.tlg_change_high - own.tlg_change == pytest.approx(by_hand[1])
    assert same.tlg_change_high - same.tlg_change == pytest.approx(by_hand[2])
    assert same.tlg_change - same.tlg_change_low == pytest.approx(by_hand[2])


def test_the_changes_of_a_repeat_are_those_of_the_table(scan):
    images, regions, _ = scan
    pair = {"before": images["before"], "after": images["after"]}
    changes = burden_changes(**pair, rule=RULE, regions=regions, voxel_size=SIZE)
    table = table_of(scan)
    same, own = table.loc[("common", "after")], table.loc[("own", "after")]
    assert changes == pytest.approx((own.tmtv_change_ml, own.tlg_change, same.tlg_change))
    fixed = burden_changes(**pair, rule=None, regions=regions, voxel_size=SIZE)
    assert np.isnan(fixed[:2]).all()
    assert fixed[2] == changes[2]


def test_given_regions_have_no_outlines_of_their_own_and_none_is_a_burden_of_0(scan):
    images, regions, _ = scan
    assert set(burden_table(images, regions, voxel_size=SIZE).outlines) == {"common"}
    nothing = Delineation(threshold=named_threshold("suv99"), voxel_size=SIZE).of(images["before"])
    table = burden_table(images, nothing, voxel_size=SIZE, own=dict.fromkeys(images, nothing), tlg_sd=0.0)
    assert (table[["n_regions", "tmtv_ml", "tlg"]] == 0).all(axis=None)
    assert table.filter(like="percent").isna().all(axis=None)
