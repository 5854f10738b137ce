"""Seam ratio: 1 without seams, what is computed by hand with them."""

import numpy as np
import pytest

from pipeline.evaluation import seam_ratio

BORDERS = [[8, 16, 24], [], []]


def test_a_ramp_has_no_seam():
    ramp = np.arange(32.0)[:, None, None] * np.ones((1, 5, 6))
    assert seam_ratio(ramp, BORDERS) == pytest.approx(1, abs=1e-12)


def test_a_gradient_that_changes_steadily_has_no_seam():
    parabola = np.arange(32.0)[:, None, None] ** 2 * np.ones((1, 5, 6))
    assert seam_ratio(parabola, BORDERS) == pytest.approx(1, abs=1e-12)


def test_steps_at_borders_count_by_their_size():
    # Slope 1 in tiles, 4 across each border.
    x = np.arange(32.0) + 3 * (np.arange(32) // 8)
    assert seam_ratio(x[:, None, None] * np.ones((1, 5, 6)), BORDERS) == pytest.approx(4, abs=1e-12)


def test_all_axes_are_looked_at():
    x = np.zeros((16, 16, 16)) + np.arange(16.0) + np.arange(16.0)[:, None] + np.arange(16.0)[:, None, None]
    x[:, :, 8:] += 1
    # Along Z a gradient of 2 at the border and 1 nearby, along X of 1 and 1.
    assert seam_ratio(x, [[8], [], [8]]) == pytest.approx(1.5, abs=1e-12)


def test_noise_without_tiles_is_one():
    noise = np.random.default_rng(0).standard_normal((64, 40, 40))
    assert seam_ratio(noise, [range(8, 64, 8), [], []]) == pytest.approx(1, abs=0.02)


def test_tiles_of_different_offset_are_seen_in_noise():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 40, 40)) + np.repeat(rng.choice([-1.0, 1.0], 8), 8)[:, None, None]
    assert seam_ratio(x, [range(8, 64, 8), [], []]) > 1.1


def test_mask_leaves_out_what_is_outside():
    x = np.arange(32.0)[:, None, None] * np.ones((1, 4, 4))
    x[8:, :2] += 100
    mask = np.zeros(x.shape, dtype=bool)
    mask[:, 2:] = True
    assert seam_ratio(x, [[8], [], []], mask=mask) == pytest.approx(1, abs=1e-12)
    assert seam_ratio(x, [[8], [], []]) > 10


@pytest.mark.parametrize(
    ("volume", "borders", "message"),
    [
        (np.zeros((4, 4)), BORDERS, "2 axes"),
        (np.zeros((32, 4, 4)), BORDERS, "flat"),
        (np.zeros((32, 4, 4)), [[], [], []], "no tile border"),
        (np.zeros((4, 4, 4)), [[1], [], []], "no tile border"),
    ],
)
def test_what_has_no_ratio_is_refused(volume, borders, message):
    with pytest.raises(ValueError, match=message):
        seam_ratio(volume, borders)


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="mask has shape"):
        seam_ratio(np.zeros((32, 4, 4)), BORDERS, mask=np.ones((4, 4, 4)))


def test_an_edge_of_anatomy_at_a_border_is_taken_out_by_the_reference():
    edge = np.arange(32.0)[:, None, None] * np.ones((1, 4, 4))
    edge[16:] += 10
    tiled = edge.copy()
    tiled[8:16] += 0.5
    assert seam_ratio(edge, BORDERS) == pytest.approx((1 + 11 + 1) / 3, abs=1e-12)
    assert seam_ratio(edge, BORDERS, reference=edge) == 1
    # 1.5, 10.5 and 1 across the three borders.
    assert seam_ratio(tiled, [[8], [], []], reference=edge) == pytest.approx(1.5, abs=1e-12)


def test_a_reference_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="reference has shape"):
        seam_ratio(np.zeros((32, 4, 4)), BORDERS, reference=np.ones((4, 4, 4)))
