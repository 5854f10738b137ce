"""The montage of a cohort."""

from io import BytesIO

import numpy as np
import pytest
from matplotlib.image import imread

from pipeline.report import montage_figure, montage_row


def volume(value, shape=(12, 10, 30)):
    suv = np.zeros(shape, dtype=np.float32)
    suv[3:9, 3:7, 5:25] = value
    return suv


def test_a_row_shows_the_projection_of_the_first_image_and_a_plane_of_each():
    full, low = volume(2.0), volume(3.0)
    full[5, 9, 20] = 40.0  # seen in the projection, not in the plane through the centre
    row = montage_row("sub-0001", [("full", full), ("DRF 4", low)], voxel_size=(4.0, 4.0, 2.0))
    assert [title for title, _ in row.panels] == ["full, projection", "full", "DRF 4"]
    assert row.panels[0][1].max() == 40.0
    assert row.panels[1][1].max() == 2.0
    assert row.panels[2][1].max() == 3.0
    assert row.aspect == 0.5


def test_the_head_is_up_and_the_right_side_left():
    suv = volume(1.0)
    suv[8, 5, 24] = 9.0  # right, head
    panel = montage_row("s", [("full", suv)], voxel_size=(4.0, 4.0, 4.0)).panels[0][1]
    row, column = np.unravel_index(panel.argmax(), panel.shape)
    assert row < panel.shape[0] / 2
    assert column < panel.shape[1] / 2


def test_rows_of_different_sizes_share_one_picture():
    rows = [
        montage_row("a", [("full", volume(2.0)), ("DRF 4", volume(2.0))], voxel_size=(4.0, 4.0, 4.0)),
        montage_row("b", [("full", volume(2.0, (20, 16, 50)))], voxel_size=(4.0, 4.0, 2.0)),
    ]
    one, two = (imread(BytesIO(montage_figure(part))) for part in (rows[:1], rows))
    assert two.shape[0] == 2 * one.shape[0]
    assert (one[..., 0] < 0.9).any(), "nothing is drawn"


def test_nothing_to_show_is_refused():
    with pytest.raises(ValueError, match="s: no image"):
        montage_row("s", [], voxel_size=(4.0, 4.0, 4.0))
    with pytest.raises(ValueError, match="no subject"):
        montage_figure([])
