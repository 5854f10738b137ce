"""The composite score and the metabolic volume: identities, known losses, and regions of known size."""

import numpy as np
import pytest
from scipy import ndimage

from pipeline.evaluation import DOSE_WEIGHTS, composite_reference, lesion_bias, metabolic_volumes, weighted_over_doses
from pipeline.evaluation.composite import _GLOBAL, _REGION
from pipeline.images import ball_offsets

SHAPE, VOXEL_SIZE = (40, 40, 40), (2.0, 2.0, 2.0)


@pytest.fixture(scope="module")
def full():
    return 2 + ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 2, SHAPE), 1)


@pytest.fixture(scope="module")
def reference(full):
    organ = np.zeros(SHAPE, dtype=bool)
    organ[4:16, 4:16, 4:16] = True
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[24:28, 24:28, 24:28], labels[30:34, 4:8, 4:8], labels[0, 0, 0] = 1, 2, 3
    return composite_reference(full, organs=[organ], lesion_labels=labels)


PERFECT = {"nrmse": 0.0, "psnr_at_maximum": np.inf, "ssim": 1.0}


def test_all_shares_add_up_to_one():
    for shares in (DOSE_WEIGHTS, _GLOBAL, _REGION):
        assert sum(shares.values()) == pytest.approx(1)


def test_the_full_dose_has_all_points_and_an_empty_image_few(reference, full):
    assert reference.score(full, **PERFECT) == pytest.approx(1)
    nothing = reference.score(np.zeros(SHAPE), nrmse=1.0, psnr_at_maximum=10.0, ssim=0.0)
    assert nothing == pytest.approx(0, abs=0.05)
    assert [len(kind) for kind in (reference.organs, reference.lesions)] == [1, 2]  # one voxel has no texture


def test_a_scaled_image_loses_what_the_rule_says(reference, full):
    # 10 % off in max, mean, TLM, RMS, P90 and median; 19 % in contrast; correlation and entropy are their own.
    region = reference.organs[0]
    share = 0.25 + 0.20 + 0.15 + 3 * 0.05
    rest = _REGION["psnr"] + _REGION["correlation"] + _REGION["entropy"]
    found = region.score(0.9 * full)
    expected = 0.9 * share + 0.05 * 0.81
    assert expected < found < expected + rest
    assert region.score(full) == pytest.approx(1)


def test_the_image_weighs_thirty_percent(reference, full):
    assert reference.score(full, nrmse=1.0, psnr_at_maximum=0.0, ssim=0.0) == pytest.approx(0.7)
    assert reference.score(full, nrmse=0.5, psnr_at_maximum=40.0, ssim=0.5) == pytest.approx(0.85)


def test_without_lesions_there_is_no_score(full):
    none = composite_reference(full, organs=[full > 0], lesion_labels=np.zeros(SHAPE, dtype=np.uint8))
    assert np.isnan(none.score(full, **PERFECT))


def test_the_doses_weigh_as_published():
    assert weighted_over_doses(dict.fromkeys(DOSE_WEIGHTS, 0.8)) == pytest.approx(0.8)
    only = dict.fromkeys(DOSE_WEIGHTS, 0.0) | {100.0: 1.0, 2.0: 1.0}
    assert weighted_over_doses(only) == pytest.approx(0.35)
    assert np.isnan(weighted_over_doses({4.0: 1.0}))


def ball(centre: tuple[int, int, int], radius: float) -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[tuple((ball_offsets(radius, voxel_size=VOXEL_SIZE) + np.array(centre)).T)] = True
    return mask


def test_metabolic_volume_of_a_ball_is_its_voxels_times_its_suv():
    lesion, bladder = ball((20, 20, 20), 8.0), ball((20, 20, 30), 6.0)
    suv = np.where(lesion, 5.0, 1.0) + 40.0 * bladder
    labels = lesion.astype(np.uint8)
    number, box = 1, ndimage.find_objects(labels)[0]
    volumes = metabolic_volumes((suv, 2 * suv), labels, number, box, voxel_size=VOXEL_SIZE)
    millilitres = lesion.sum() * 0.008
    assert volumes[0] == pytest.approx((millilitres, 5 * millilitres))
    assert volumes[1] == pytest.approx((millilitres, 10 * millilitres))


def test_a_lesion_that_spreads_has_more_volume_up_to_the_reach():
    lesion = ball((20, 20, 20), 6.0)
    labels = lesion.astype(np.uint8)
    wide = np.where(ball((20, 20, 20), 10.0), 5.0, 1.0)
    everywhere = np.full(SHAPE, 5.0)
    for image, size in ((wide, ball((20, 20, 20), 10.0)), (everywhere, None)):
        table = lesion_bias(image, np.where(lesion, 5.0, 1.0), labels, voxel_size=VOXEL_SIZE)
        if size is None:  # 10 mm from the surface of the label, not the whole image
            assert ball((20, 20, 20), 15.0).sum() < table.mtv_pred[0] / 0.008 < ball((20, 20, 20), 17.0).sum()
        else:
            assert table.mtv_error_percent[0] == pytest.approx(100 * (size.sum() / lesion.sum() - 1))
            assert table.tlg_error_percent[0] == pytest.approx(table.mtv_error_percent[0])


def test_voxels_of_another_lesion_do_not_belong_to_it():
    one, two = ball((20, 20, 17), 4.0), ball((20, 20, 22), 4.0) & ~ball((20, 20, 17), 4.0)
    labels = one.astype(np.uint8) + 2 * two.astype(np.uint8)
    table = lesion_bias(np.where(one | two, 5.0, 1.0), np.where(one | two, 5.0, 1.0), labels, voxel_size=VOXEL_SIZE)
    np.testing.assert_allclose(table.mtv_pred, [one.sum() * 0.008, two.sum() * 0.008])


def test_nothing_has_no_volume():
    lesion = ball((20, 20, 20), 6.0)
    table = lesion_bias(np.zeros(SHAPE), np.where(lesion, 5.0, 1.0), lesion.astype(np.uint8), voxel_size=VOXEL_SIZE)
    assert table.mtv_pred[0] == table.tlg_pred[0] == 0
    assert table.tlg_error_percent[0] == -100
