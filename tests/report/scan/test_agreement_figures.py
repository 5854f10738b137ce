"""Agreement of regions: the formula of Bland and Altman, and what is refused."""

from io import BytesIO

import numpy as np
import pytest
from matplotlib.image import imread

from pipeline.report import absolute_error_figure, agreement_figure, error_figure, suv_agreement, voxel_error_figure


def pixels(png: bytes) -> np.ndarray:
    return imread(BytesIO(png), format="png")[..., :3]


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


def test_absolute_errors_are_drawn_to_an_end_that_holds_them():
    errors = {"Before": [0.1, 0.4, 3.2, np.nan], "After": [0.05, 0.2, 1.1, 0.3]}
    image = pixels(absolute_error_figure(errors, quantity="SUVpeak"))
    assert image.shape == pixels(error_figure(errors, quantity="SUVpeak")).shape
    nothing = absolute_error_figure({"Before": [], "After": []}, quantity="SUVpeak")
    assert nothing != absolute_error_figure(errors, quantity="SUVpeak")


def test_the_errors_of_voxels_are_those_of_each_image():
    """An image that is the reference has one bar at 0; exchanged images have other colours, and nothing else."""
    reference = np.linspace(0, 5, 5000)
    wrong = reference + np.random.default_rng(0).normal(0, 0.3, 5000)
    figures = [
        pixels(voxel_error_figure(images, reference))
        for images in ({"Before": wrong, "After": reference}, {"Before": wrong, "After": wrong})
    ]
    blue = [(np.abs(image - np.array([0x0B, 0x5C, 0xAD]) / 255).max(axis=-1) < 0.02).sum() for image in figures]
    assert blue[0] < blue[1] / 2
