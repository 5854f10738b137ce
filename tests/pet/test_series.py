"""PETSeries holds one finite volume on one RAS+ grid."""

import numpy as np
import pytest

from pipeline.pet import PETError, PETSeries


def test_other_voxels_on_the_same_grid(series):
    doubled = series.with_suv(2.0 * series.suv.astype(np.float64), note="Doubled.")
    np.testing.assert_array_equal(doubled.suv, 2 * series.suv)
    assert doubled.suv.dtype == np.float32
    assert doubled.provenance == (*series.provenance, "Doubled.")
    assert doubled.header is series.header
    np.testing.assert_array_equal(doubled.affine, series.affine)


def test_voxel_size_of_an_oblique_grid(series):
    turn = np.eye(4)
    turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    oblique = PETSeries(suv=series.suv, affine=turn @ series.affine, header=series.header)
    assert oblique.voxel_size == pytest.approx((4.0, 5.0, 3.0))


def test_other_shapes_and_values_are_refused(series):
    with pytest.raises(PETError, match=r"shape \(8, 10, 11\), expected \(8, 10, 12\)"):
        series.with_suv(series.suv[..., :-1])
    bad = series.suv.copy()
    bad[0, 0, :2] = np.nan
    with pytest.raises(PETError, match="2 voxels are not finite"):
        series.with_suv(bad)
    with pytest.raises(PETError, match="not finite"):
        series.with_suv(np.full(series.suv.shape, 1e300))


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (np.diag([-2.0, 2.0, 2.0, 1.0]), "point to LAS, expected RAS"),
        (np.diag([2.0, 0.0, 2.0, 1.0]), "invertible"),
        (np.eye(3), "expected an invertible 4x4"),
        (np.full((4, 4), np.nan), "invertible"),
    ],
)
def test_grids_that_are_refused(series, affine, message):
    with pytest.raises(PETError, match=message):
        PETSeries(suv=series.suv, affine=affine, header=series.header)


def test_volumes_that_are_refused(series):
    for suv in (np.zeros((3, 3)), np.zeros((0, 3, 3)), np.zeros((2, 2, 2, 2))):
        with pytest.raises(PETError, match="expected \\(X, Y, Z\\)"):
            PETSeries(suv=suv, affine=np.eye(4), header=series.header)


def test_padding_stays_zero_whatever_a_network_gives(series):
    padding = np.zeros(series.suv.shape, bool)
    padding[0] = True
    padded = PETSeries(
        suv=np.where(padding, 0, series.suv), affine=series.affine, header=series.header, padding=padding
    )
    doubled = padded.with_suv(2 * series.suv)
    np.testing.assert_array_equal(doubled.suv, np.where(padding, 0, 2 * series.suv))
    np.testing.assert_array_equal(doubled.padding, padding)
    assert doubled.suv.dtype == np.float32


def test_padding_is_none_or_fits(series):
    def with_padding(padding):
        return PETSeries(suv=series.suv, affine=series.affine, header=series.header, padding=padding)

    assert with_padding(np.zeros(series.suv.shape, bool)).padding is None
    with pytest.raises(PETError, match=r"padding has shape \(2, 2\), expected \(8, 10, 12\)"):
        with_padding(np.ones((2, 2), bool))
    with pytest.raises(PETError, match="voxels of padding have an SUV"):
        with_padding(np.ones(series.suv.shape, bool))
