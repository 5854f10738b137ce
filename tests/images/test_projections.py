"""Panels show the patient the right way round."""

import numpy as np
import pytest

from pipeline.images.projections import body_box, center_of_activity, maximum_projection, plane


@pytest.fixture
def marked() -> np.ndarray:
    """A volume of 5 x 6 x 7 with one voxel at the patient's right, front, head end."""
    volume = np.zeros((5, 6, 7))
    volume[4, 5, 6] = 1.0
    return volume


def test_head_is_up_right_is_left_and_the_front_is_left(marked):
    coronal, sagittal = (maximum_projection(marked, view) for view in ("coronal", "sagittal"))
    assert (coronal.shape, sagittal.shape) == ((7, 5), (7, 6))
    assert np.argwhere(coronal).tolist() == [[0, 0]]
    assert np.argwhere(sagittal).tolist() == [[0, 0]]


def test_a_plane_shows_its_own_index_only(marked):
    assert plane(marked, "coronal", index=5).sum() == 1
    assert plane(marked, "coronal", index=4).sum() == 0
    assert plane(marked, "sagittal", index=4).sum() == 1


def test_the_box_holds_the_body_and_its_margin():
    mask = np.zeros((50, 40, 30), bool)
    mask[20:30, 10:20, 5:6] = True
    box = body_box(mask, voxel_size=(5.0, 3.0, 2.0), margin=15.0)
    assert box == (slice(17, 33), slice(5, 25), slice(0, 30))
    assert body_box(np.zeros_like(mask), voxel_size=(5, 5, 5)) == (slice(0, 50), slice(0, 40), slice(0, 30))


def test_a_full_bladder_does_not_pull_the_centre_of_activity():
    suv = np.ones((11, 11, 11))
    suv[0, 0, 0] = 1000.0
    assert center_of_activity(suv) == (5, 5, 5)
