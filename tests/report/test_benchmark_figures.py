"""Names of a benchmark's points: none covers another, whichever points stand close."""

import numpy as np
import pytest

from pipeline.report import Point, points_figure
from pipeline.report.benchmark_figures import _LINE, _apart, _close_together


def test_names_of_one_place_are_a_line_apart_around_it():
    np.testing.assert_allclose(_apart(np.array([50.0, 50.0, 50.0])), [50 + _LINE, 50, 50 - _LINE])


def test_names_that_are_apart_stay():
    heights = -np.cumsum(np.random.default_rng(0).uniform(1.01, 3, size=9) * _LINE)
    np.testing.assert_allclose(_apart(heights), heights)


def test_names_keep_their_order_and_move_no_more_than_they_must():
    heights = np.sort(np.random.default_rng(1).uniform(0, 100, size=8))[::-1]
    moved = _apart(heights)
    assert (-np.diff(moved) >= _LINE - 1e-9).all()
    assert moved.mean() == pytest.approx(heights.mean())


def test_points_are_close_through_others_and_far_in_either_direction():
    places = np.array([[300.0, 0.0], [0.0, 0.0], [100.0, 20.0], [200.0, 0.0], [100.0, 400.0]])
    assert _close_together(places) == [[1, 2, 3, 0], [4]]


def test_points_without_a_cost_are_refused():
    with pytest.raises(ValueError, match="a cost that is not above 0"):
        points_figure([Point(name="a", group="b", cost=0, quality=1)], x_label="", y_label="")
