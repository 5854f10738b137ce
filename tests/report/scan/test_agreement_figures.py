"""Agreement of regions: the formula of Bland and Altman, and what is refused."""

import numpy as np
import pytest

from pipeline.report import agreement_figure, suv_agreement


def test_bias_and_limits_are_those_of_the_relative_differences():
    second = np.array([2.0, 4.0, 8.0, 10.0])
    percent = np.array([-10.0, -6.0, 2.0, 6.0])
    first = second * (1 + percent / 200) / (1 - percent / 200)
    found = suv_agreement(first, second)
    assert found.difference == pytest.approx(percent)
    assert found.limits is not None
    assert found.limits.bias.mean == pytest.approx(-2.0)
    assert found.limits.upper.mean == pytest.approx(-2.0 + 1.96 * np.std(percent, ddof=1))


def test_equal_images_agree():
    found = suv_agreement([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert found.limits is not None
    assert (found.limits.lower.mean, found.limits.upper.mean) == (0, 0)
    assert agreement_figure(found, quantity="SUVmax", comparison="after − before").startswith(b"\x89PNG")


def test_two_regions_have_no_limits():
    found = suv_agreement([1.0, 2.0], [1.1, 2.1])
    assert found.limits is None
    assert agreement_figure(found, quantity="SUVmax", comparison="after − before").startswith(b"\x89PNG")


def test_what_is_undefined_is_left_out():
    assert suv_agreement([np.nan, 0.0, 2.0], [1.0, 0.0, 2.0]).mean.tolist() == [2.0]


def test_no_region_is_refused():
    with pytest.raises(ValueError, match="no regions"):
        agreement_figure(suv_agreement([], []), quantity="SUVmax", comparison="after − before")
