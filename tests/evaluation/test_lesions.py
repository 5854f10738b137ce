"""Quantities of lesions: IBSI's values for its digital phantom, identities, and tables computed by hand."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation import (
    INTENSITY_STATISTICS,
    REGION_QUANTITIES,
    TOTAL_BURDEN,
    intensity_histogram,
    intensity_statistics,
    lesion_distances,
    mesh_volume,
    region_quantities,
    suvbw_per_sul,
    total_burden,
)
from pipeline.evaluation.lesions.extent import largest_distance
from pipeline.images import Regions
from pipeline.pet import PETHeader
from tests.evaluation.ibsi import IBSI_IMAGE, IBSI_MASK, IBSI_VOXEL_SIZE

# Reference values of IBSI 1, published to three digits with tolerance 0.
IBSI_STATISTICS = {
    "mean": 2.15,
    "variance": 3.05,
    "skewness": 1.08,
    "kurtosis": -0.355,
    "median": 1.0,
    "minimum": 1.0,
    "p10": 1.0,
    "p90": 4.0,
    "maximum": 6.0,
    "interquartile_range": 3.0,
    "range": 5.0,
    "mean_absolute_deviation": 1.55,
    "robust_mean_absolute_deviation": 1.11,
    "median_absolute_deviation": 1.15,
    "coefficient_of_variation": 0.812,
    "quartile_coefficient_of_dispersion": 0.6,
    "energy": 567.0,
    "root_mean_square": 2.77,
}

IBSI_TAGS = {
    "mean": "stat_mean",
    "variance": "stat_var",
    "skewness": "stat_skew",
    "kurtosis": "stat_kurt",
    "median": "stat_median",
    "minimum": "stat_min",
    "p10": "stat_p10",
    "p90": "stat_p90",
    "maximum": "stat_max",
    "interquartile_range": "stat_iqr",
    "range": "stat_range",
    "mean_absolute_deviation": "stat_mad",
    "robust_mean_absolute_deviation": "stat_rmad",
    "median_absolute_deviation": "stat_medad",
    "coefficient_of_variation": "stat_cov",
    "quartile_coefficient_of_dispersion": "stat_qcod",
    "energy": "stat_energy",
    "root_mean_square": "stat_rms",
}


@pytest.mark.parametrize("name", list(IBSI_STATISTICS))
def test_statistics_of_ibsis_phantom(name):
    found = intensity_statistics(IBSI_IMAGE, IBSI_MASK)[name]
    assert float(f"{found:.3g}") == IBSI_STATISTICS[name]


def test_the_statistics_are_those_that_are_explained():
    assert list(intensity_statistics(IBSI_IMAGE, IBSI_MASK)) == list(INTENSITY_STATISTICS)
    assert set(INTENSITY_STATISTICS) - set(IBSI_STATISTICS) == {"p25", "p75"}


def test_the_histogram_of_ibsis_phantom():
    histogram = intensity_histogram(IBSI_IMAGE, IBSI_MASK, bin_width=1.0)
    np.testing.assert_array_equal(histogram.edges, [1, 2, 3, 4, 5, 6, 7])
    np.testing.assert_array_equal(histogram.counts, [50, 0, 1, 16, 0, 7])
    assert (float(f"{histogram.entropy:.3g}"), float(f"{histogram.uniformity:.3g}")) == (1.27, 0.512)
    assert histogram.mode == 1.5  # the first grey level, IBSI's 1


def test_volumes_and_integrated_intensity_of_ibsis_phantom():
    volume = mesh_volume(IBSI_MASK, voxel_size=IBSI_VOXEL_SIZE)
    assert 1000 * volume == pytest.approx(556, abs=4)
    row = region_quantities(
        IBSI_IMAGE, Regions(IBSI_MASK.astype(np.int32), "all"), voxel_size=IBSI_VOXEL_SIZE, affine=np.eye(4)
    ).iloc[0]
    assert 1000 * row.mtv_ml == pytest.approx(592, abs=4)
    assert row.mesh_volume_ml == volume
    assert (float(f"{row.suv_peak_local:.3g}"), float(f"{row.suv_peak:.3g}")) == (2.6, 3.1)
    assert 1000 * row.suv_mean * row.mesh_volume_ml == pytest.approx(1200, abs=10)


def test_bins_do_not_depend_on_the_region():
    rng = np.random.default_rng(0)
    suv = rng.gamma(2.0, 2.0, (12, 12, 12))
    part = np.zeros(suv.shape, bool)
    part[:5] = True
    whole = intensity_histogram(suv, np.ones(suv.shape, bool), bin_width=0.5)
    of_part = intensity_histogram(suv, part, bin_width=0.5)
    expected, _ = np.histogram(suv[part], bins=np.append(of_part.edges[:-1], np.inf))
    assert set(of_part.edges) <= set(whole.edges)
    np.testing.assert_array_equal(of_part.counts, expected)
    assert whole.counts.sum() == suv.size
    below = intensity_histogram(np.full((2, 2, 2), -0.2), np.ones((2, 2, 2), bool), bin_width=0.5)
    np.testing.assert_array_equal(below.edges, [-0.5, 0.0])


def test_a_uniform_region_has_no_shape_and_one_of_zeros_no_quotients():
    mask = np.ones((3, 3, 3), bool)
    uniform, zeros = (intensity_statistics(np.full(mask.shape, value, np.float32), mask) for value in (0.1, 0.0))
    assert (uniform["skewness"], uniform["kurtosis"], uniform["range"]) == (0, 0, 0)
    assert uniform["root_mean_square"] == pytest.approx(0.1)
    assert np.isnan(zeros["coefficient_of_variation"])
    assert np.isnan(zeros["quartile_coefficient_of_dispersion"])


def test_the_mesh_volume_of_a_ball_is_its_volume():
    grid = np.ogrid[:40, :40, :20]
    sizes = (1.0, 1.0, 2.0)
    ball = sum(((g - c) * s) ** 2 for g, c, s in zip(grid, (19.5, 19.5, 9.5), sizes, strict=True)) <= 15.0**2
    assert mesh_volume(ball, voxel_size=sizes) == pytest.approx(4 / 3 * np.pi * 15.0**3 / 1000, rel=0.03)
    assert mesh_volume(np.zeros((3, 3, 3), bool), voxel_size=sizes) == 0


def test_distances_by_hand():
    labels = np.zeros((20, 10, 10), np.int32)
    labels[1:4, 2, 2], labels[10, 2, 2], labels[10, 7, 2:5] = 1, 2, 4
    pairs = lesion_distances(labels, voxel_size=(2.0, 3.0, 4.0)).set_index(["region_a", "region_b"])
    assert list(pairs.index) == [(1, 2), (1, 4), (2, 4)]
    assert tuple(pairs.loc[(1, 2)]) == (16.0, 14.0)
    assert tuple(pairs.loc[(2, 4)]) == pytest.approx((np.hypot(15, 4), 15.0))
    assert largest_distance(labels, voxel_size=(2.0, 3.0, 4.0)) == pytest.approx(np.linalg.norm([18, 15, 8]))


@pytest.mark.parametrize("shape", [(9, 8, 7), (30, 20, 1), (300, 1, 1), (1, 1, 1)])
def test_the_largest_distance_in_a_block_is_its_diagonal(shape):
    sizes = np.array([1.5, 2.0, 4.0])
    expected = np.linalg.norm((np.array(shape) - 1) * sizes)
    assert largest_distance(np.ones(shape, np.int32), voxel_size=sizes) == pytest.approx(expected)


def two_lesions() -> tuple[np.ndarray, Regions]:
    suv, labels = np.zeros((10, 10, 10)), np.zeros((10, 10, 10), np.int32)
    labels[1:3, 4, 4], labels[7, 7, 5:7] = 1, 2
    suv[1, 4, 4], suv[2, 4, 4], suv[7, 7, 5:7] = 4.0, 8.0, 5.0
    return suv, Regions(labels, "by hand")


def test_the_table_by_hand():
    suv, regions = two_lesions()
    header = PETHeader(units="GML", patient_weight=70.0, patient_height=1.75, patient_sex="F")
    factors = suvbw_per_sul(header)
    table = region_quantities(
        suv, regions, voxel_size=(10, 10, 10), affine=np.diag([10.0, 10, 10, 1]), suvbw_per_sul=factors
    )
    assert list(table.columns) == list(REGION_QUANTITIES)
    assert table.attrs["method"] == "by hand"
    first = table.iloc[0]
    assert (first.centroid_x_mm, first.mtv_ml, first.suv_max, first.suv_mean, first.tlg) == (15, 2, 8, 6, 12)
    assert (first.suv_median, first.suv_range, first.suv_energy, first.suv_variance) == (6, 4, 80, 4)
    # Janmahasatian: 9270 W / (8780 + 244 BMI); James: 1.07 W - 148 (W / H)^2.
    assert first.sul_peak_janmahasatian == pytest.approx(8 * 9270 / (8780 + 244 * 70 / 1.75**2))
    assert first.sul_mean_james == pytest.approx(6 * (1.07 * 70 - 148 * 0.4**2) / 70)


def test_sul_without_a_height_is_not_guessed():
    suv, regions = two_lesions()
    factors = suvbw_per_sul(PETHeader(units="GML", patient_weight=70.0))
    table = region_quantities(suv, regions, voxel_size=(10, 10, 10), affine=np.eye(4), suvbw_per_sul=factors)
    assert table.filter(like="sul_").isna().all(axis=None)
    assert table.suv_peak.notna().all()


def test_the_burden_by_hand():
    suv, regions = two_lesions()
    burden = total_burden(suv, regions, voxel_size=(10, 10, 10))
    assert list(burden) == list(TOTAL_BURDEN)
    assert (burden["n_regions"], burden["tmtv_ml"], burden["tlg"]) == (2, 4, 22)
    assert (burden["suv_max"], burden["suv_peak"]) == (8, 8)
    assert burden["dmax_centroid_mm"] == pytest.approx(10 * np.linalg.norm([5.5, 3, 1.5]))
    assert burden["dmax_voxel_mm"] == pytest.approx(10 * np.linalg.norm([6, 3, 2]))


def test_no_lesion_is_no_burden():
    nothing = Regions(np.zeros((4, 4, 4), np.int32), "none")
    burden = total_burden(np.zeros((4, 4, 4)), nothing, voxel_size=(1, 1, 1))
    assert (burden["n_regions"], burden["tmtv_ml"], burden["tlg"]) == (0, 0, 0)
    assert np.isnan([burden["suv_max"], burden["dmax_centroid_mm"], burden["dmax_voxel_mm"]]).all()
    table = region_quantities(np.zeros((4, 4, 4)), nothing, voxel_size=(1, 1, 1), affine=np.eye(4))
    assert (len(table), table.attrs["method"]) == (0, "none")


def test_one_lesion_is_no_spread():
    suv, regions = two_lesions()
    one = Regions(np.where(regions.labels == 1, 1, 0).astype(np.int32), "one")
    burden = total_burden(suv, one, voxel_size=(10, 10, 10))
    assert (burden["dmax_centroid_mm"], burden["dmax_voxel_mm"]) == (0, 10)


def test_an_image_on_another_grid_is_refused():
    _, regions = two_lesions()
    with pytest.raises(ValueError, match="shape"):
        region_quantities(np.zeros((3, 3, 3)), regions, voxel_size=(1, 1, 1), affine=np.eye(4))
    with pytest.raises(ValueError, match="shape"):
        total_burden(np.zeros((3, 3, 3)), regions, voxel_size=(1, 1, 1))
    with pytest.raises(ValueError, match="bin_width"):
        intensity_histogram(IBSI_IMAGE, IBSI_MASK, bin_width=0)


def test_the_published_table_of_ibsi(reference_data):
    """The phantom's files and the whole published table, where they lie; their tolerances are absolute."""
    folder = reference_data / "ibsi1_digital_phantom"
    image, mask = (
        np.asarray(nib.load(folder / "nifti" / name).dataobj) for name in ("image/phantom.nii.gz", "mask/mask.nii.gz")
    )
    table = folder / "ibsi_1_reference_values_digital_phantom.csv"
    published = pd.read_csv(table, encoding="utf-8-sig").set_index("tag")
    regions = Regions(mask.astype(np.int32), "all")
    row = region_quantities(image, regions, voxel_size=(2, 2, 2), affine=np.eye(4)).iloc[0]
    names = {f"suv_{name}": tag for name, tag in IBSI_TAGS.items() if name not in ("mean", "maximum")}
    names |= {
        "suv_mean": "stat_mean",
        "suv_max": "stat_max",
        "suv_peak": "loc_peak_glob",
        "suv_peak_local": "loc_peak_loc",
    }
    for name, tag in names.items():
        assert float(f"{row[name]:.3g}") == float(published["reference value"][tag]), name
    for name, tag in {"mtv_ml": "morph_vol_approx", "mesh_volume_ml": "morph_volume"}.items():
        expected, tolerance = (float(published[column][tag]) for column in ("reference value", "tolerance"))
        assert 1000 * row[name] == pytest.approx(expected, abs=tolerance), name
