"""Region numbers against IBSI's digital phantom and against a table computed by hand."""

import numpy as np
import pytest

from pipeline.evaluation import (
    LESION_TABLE_COLUMNS,
    lesion_table,
    suv_max,
    suv_mean,
    suv_peak,
    volume,
)
from pipeline.evaluation.quantification import measure_region
from pipeline.images import Regions
from tests.evaluation.ibsi import IBSI_IMAGE, IBSI_MASK, IBSI_VOXEL_SIZE


def test_ibsi_digital_phantom():
    """Reference values with IBSI's tolerances; they are published to three digits."""
    image, mask, voxel_size = IBSI_IMAGE, IBSI_MASK, IBSI_VOXEL_SIZE
    assert suv_mean(image, mask) == pytest.approx(2.15, abs=0.005)
    assert suv_max(image, mask) == 6
    assert suv_peak(image, mask, voxel_size=voxel_size, kind="local") == pytest.approx(2.6, abs=0.005)
    assert suv_peak(image, mask, voxel_size=voxel_size) == pytest.approx(3.10, abs=0.005)
    assert volume(mask, voxel_size=voxel_size) == pytest.approx(0.592, abs=0.004)
    everything = tuple(slice(0, n) for n in image.shape)
    measured = measure_region(image, everything, mask, voxel_size=voxel_size)
    assert measured["tlg"] == pytest.approx(2.15 * 0.592, rel=0.002)
    assert (measured["suv_max"], measured["suv_peak"]) == (6, suv_peak(image, mask, voxel_size=voxel_size))


def test_peak_of_a_uniform_image_is_its_value_also_at_the_border():
    suv = np.full((9, 9, 9), 3.7)
    mask = np.zeros(suv.shape, bool)
    mask[0, 0, 0] = mask[8, 4, 4] = True
    assert suv_peak(suv, mask, voxel_size=(3.0, 2.0, 5.0)) == pytest.approx(3.7, rel=1e-12)


def test_peak_is_the_mean_of_the_voxels_whose_centres_lie_within_6_204_mm():
    rng = np.random.default_rng(0)
    suv, voxel_size, center = rng.random((15, 15, 15)), np.array([1.65, 2.0, 3.1]), np.array([7, 6, 8])
    distance = np.linalg.norm((np.argwhere(np.ones(suv.shape)) - center) * voxel_size, axis=1)
    expected = suv.ravel()[distance <= 6.204].mean()
    mask = np.zeros(suv.shape, bool)
    mask[tuple(center)] = True
    for kind in ("local", "global"):
        assert suv_peak(suv, mask, voxel_size=voxel_size, kind=kind) == pytest.approx(expected, rel=1e-12)


def test_the_sphere_of_the_peak_has_one_millilitre():
    """The response to one hot voxel is one over the number of voxels in the sphere."""
    suv = np.zeros((27, 27, 27))
    suv[13, 13, 13] = 1.0
    voxels_in_sphere = 1 / suv_peak(suv, suv > 0, voxel_size=(0.5, 0.5, 0.5))
    assert voxels_in_sphere * 0.5**3 / 1000 == pytest.approx(1.0, rel=0.01)


def test_local_peak_takes_the_better_of_two_equal_maxima():
    suv = np.zeros((20, 5, 5))
    suv[3, 2, 2] = suv[15, 2, 2] = 5.0
    suv[15, 2, 3] = 4.0
    alone = np.zeros(suv.shape, bool)
    alone[15, 2, 2] = True
    both = suv == 5.0
    assert suv_peak(suv, both, voxel_size=(2, 2, 2), kind="local") == suv_peak(suv, alone, voxel_size=(2, 2, 2))


def test_an_empty_or_misshapen_region_is_refused():
    suv = np.ones((3, 3, 3))
    with pytest.raises(ValueError, match="no voxel"):
        suv_peak(suv, np.zeros(suv.shape, bool), voxel_size=(1, 1, 1))
    with pytest.raises(ValueError, match="shape"):
        suv_mean(suv, np.ones((2, 2, 2), bool))
    with pytest.raises(ValueError, match="kind"):
        suv_peak(suv, suv > 0, voxel_size=(1, 1, 1), kind="mean")  # type: ignore[arg-type]


def test_lesion_table_by_hand():
    before, labels = np.zeros((10, 10, 10)), np.zeros((10, 10, 10), np.int32)
    labels[1:3, 4, 4] = 1
    before[1, 4, 4], before[2, 4, 4] = 4.0, 8.0
    labels[7, 7, 5:7] = 2
    before[7, 7, 5:7] = 5.0
    after = before.copy()
    after[2, 4, 4] = 6.0
    after[7, 7, 5:7] = 0.0
    affine = np.array([[10.0, 0, 0, -50], [0, 10, 0, -60], [0, 0, 10, 700], [0, 0, 0, 1]])
    regions = Regions(labels, "by hand", ("both", "before only"))
    table = lesion_table(before, after, regions, voxel_size=(10, 10, 10), affine=affine)

    assert list(table.columns) == list(LESION_TABLE_COLUMNS)
    first, second = (row for _, row in table.iterrows())
    assert (first.region, first.found_in, first.method) == (1, "both", "by hand")
    assert (first.centroid_x_mm, first.centroid_y_mm, first.centroid_z_mm) == (-35.0, -20.0, 740.0)
    assert first.volume_ml == pytest.approx(2.0)
    assert (first.suv_max_before, first.suv_max_after) == (8.0, 6.0)
    assert first.suv_max_change_percent == pytest.approx(-25.0)
    assert (first.suv_mean_before, first.suv_mean_after) == (6.0, 5.0)
    assert first.suv_mean_change_percent == pytest.approx(-100 / 6)
    # Voxels of 10 mm: the 1 mL sphere holds one voxel.
    assert (first.suv_peak_before, first.suv_peak_after) == (8.0, 6.0)
    assert (first.tlg_before, first.tlg_after) == (12.0, 10.0)
    assert (second.suv_max_change_percent, second.tlg_after) == (-100.0, 0.0)


def test_a_change_from_nothing_is_undefined_not_infinite():
    labels = np.ones((2, 2, 2), np.int32)
    table = lesion_table(
        np.zeros((2, 2, 2)),
        np.ones((2, 2, 2)),
        Regions(labels, "all"),
        voxel_size=(1, 1, 1),
        affine=np.eye(4),
    )
    assert np.isnan(table.suv_mean_change_percent[0])
    assert table.found_in[0] is None


def test_no_regions_is_a_table_without_rows():
    zeros = np.zeros((4, 4, 4))
    regions = Regions(zeros.astype(np.int32), "none")
    table = lesion_table(zeros, zeros, regions, voxel_size=(1, 1, 1), affine=np.eye(4))
    assert len(table) == 0
    assert list(table.columns) == list(LESION_TABLE_COLUMNS)


def test_images_on_different_grids_are_refused():
    zeros = np.zeros((4, 4, 4))
    with pytest.raises(ValueError, match="shapes differ"):
        lesion_table(zeros, zeros[1:], Regions(zeros.astype(np.int32), ""), voxel_size=(1, 1, 1), affine=np.eye(4))
