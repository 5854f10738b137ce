"""Projections that turn: where things are in each view, at which grey, and a picture that stands still."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from pipeline.report import turning_projections
from pipeline.report.scan.turning import N_VIEWS, views_around

SIZE = (4.0, 4.0, 4.0)


def spot(x: int, y: int, z: int, shape: tuple[int, int, int] = (21, 21, 30)) -> np.ndarray:
    volume = np.zeros(shape, np.uint8)
    volume[x, y, z] = 200
    return volume


def place(view: np.ndarray) -> tuple[float, int]:
    """Steps to the right of the middle, and row from above, of the only spot."""
    ((row, column),) = np.argwhere(view == 200)
    return float(column) - (view.shape[1] - 1) / 2, int(row)


def test_from_the_front_the_patients_right_is_on_the_left_and_the_head_is_up():
    views = views_around(spot(17, 10, 25))
    assert views.shape == (N_VIEWS, 30, 30)
    assert place(views[0]) == (pytest.approx(-7, abs=0.6), 4)
    # From behind it is on the other side.
    assert place(views[N_VIEWS // 2])[0] == -place(views[0])[0]


def test_a_quarter_of_a_turn_later_the_front_is_on_the_right():
    views = views_around(spot(10, 17, 25))
    assert place(views[0])[0] == pytest.approx(0, abs=0.6)
    assert place(views[N_VIEWS // 4]) == (pytest.approx(7, abs=0.6), 4)


@pytest.mark.parametrize("shape", [(21, 21, 30), (20, 21, 30), (20, 20, 3)])
def test_every_voxel_is_in_the_views_along_an_axis(shape):
    """Whatever is odd and even: no ray skips a voxel, and nothing from outside is seen."""
    rng = np.random.default_rng(0)
    volume = rng.integers(1, 255, shape).astype(np.uint8)
    views = views_around(volume)
    for view, projection in ((views[0], volume.max(axis=1)[::-1]), (views[N_VIEWS // 4], volume.max(axis=0))):
        shown = view[::-1].T
        occupied = shown[shown.any(axis=1)]
        np.testing.assert_array_equal(occupied, projection)


def test_a_lesion_is_at_its_height_from_every_side():
    volume = np.zeros((30, 24, 9), np.uint8)
    volume[4:6, 17:19, 4] = 200
    assert (views_around(volume).max(axis=(1, 2)) == 200).all()


def test_the_picture_has_a_turn_and_its_first_view_stands_still():
    suv = np.zeros((20, 20, 40), np.float32)
    suv[1:9, 3:11, 10:30] = 3.5
    made = turning_projections({"Before": suv, "After": 2 * suv}, voxel_size=SIZE)
    moving, still = (Image.open(BytesIO(data)) for data in (made.animated, made.still))
    assert moving.format == still.format == "WEBP"
    assert (moving.n_frames, still.n_frames) == (N_VIEWS, 1)
    assert moving.info["loop"] == 0
    assert moving.size == still.size
    grey = np.asarray(still.convert("L")).astype(float)[30:-60]  # without names and scale
    # Half of the window is mid grey, and twice of it black.
    assert np.isclose(grey, 127, atol=6).mean() == pytest.approx((grey < 12).mean(), rel=0.15)
    again = turning_projections({"Before": suv, "After": 2 * suv}, voxel_size=SIZE)
    assert again == made


def test_images_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        turning_projections({"Before": np.zeros((5, 5, 5)), "After": np.zeros((5, 5, 6))}, voxel_size=SIZE)
