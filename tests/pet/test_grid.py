"""Grids: distances of corners that are known, and geometries that no image of a patient has."""

import numpy as np
import pytest

from pipeline.pet import PETError
from pipeline.pet.grid import Grid, canonical_grid, check_geometry, corner_distance, same_grid, to_canonical, to_native


def grid_of(*, size=(2.0, 2.0, 1.65), origin=(0.0, 0.0, 0.0), shape=(10, 20, 644)):
    affine = np.diag([*size, 1.0])
    affine[:3, 3] = origin
    return Grid(shape, affine)


@pytest.mark.parametrize(
    ("other", "apart"),
    [
        (grid_of(), 0.0),
        (grid_of(origin=(3.0, 4.0, 0.0)), 5.0),
        # Outer corners lie half a voxel beyond the centre of the last: 643.5 steps of 0.09 mm.
        (grid_of(size=(2.0, 2.0, 1.74)), 57.915),
        (grid_of(size=(2.0, 2.0, 1.65005)), 0.032175),
        (grid_of(shape=(10, 20, 643)), np.inf),
    ],
)
def test_distances_of_corners(other, apart):
    assert corner_distance(grid_of(), other) == pytest.approx(apart, abs=1e-9)
    assert same_grid(grid_of(), other) == (apart <= 0.1)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (Grid((4, 4, 4), np.array([[2.0, 2, 0, 0], [2, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])), "not invertible"),
        (Grid((4, 4, 4), np.full((4, 4), np.nan)), "not invertible"),
        (grid_of(size=(0.0, 2.0, 2.0)), "not invertible"),
        (grid_of(size=(1e4, 2.0, 2.0)), "voxels are 10000 x 2 x 2 mm"),
        (grid_of(size=(1e-9, 1e-9, 1e-9)), "voxels are 1e-09 x"),
        (grid_of(origin=(1e15, 0.0, 0.0)), "a corner lies 1e\\+15 mm from the origin"),
        (grid_of(shape=(3000, 3000, 1000)), "9e\\+09 voxels"),
    ],
)
def test_geometries_that_no_patient_has(grid, message):
    with pytest.raises(PETError, match=message):
        check_geometry(grid)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (-1, -1, 1)])
def test_turning_moves_no_voxel_and_can_be_undone(order, signs):
    affine = np.eye(4)
    affine[:3, :3] = np.diag(signs)[:, list(order)] * (2.0, 3.0, 4.0)
    affine[:3, 3] = (7, -8, 9)
    volume = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    turned, new = to_canonical(volume, affine)
    grid = canonical_grid(Grid(volume.shape, affine))
    assert grid.shape == turned.shape
    np.testing.assert_array_equal(grid.affine, new)
    np.testing.assert_array_equal(to_native(turned, affine), volume)
    for index in ((0, 0, 0), (3, 1, 5), (2, 4, 0)):
        place = affine @ (*index, 1)
        there = np.rint(np.linalg.solve(new, place)[:3]).astype(int)
        assert turned[tuple(there)] == volume[index]
    assert (np.diag(new) > 0).all()
