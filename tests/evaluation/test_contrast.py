"""Contrast, CNR and errors against a reference of regions whose surroundings are known."""

import numpy as np
import pytest
from scipy import ndimage

from pipeline.evaluation import (
    CONTRAST_COLUMNS,
    REFERENCE_COLUMNS,
    lesion_table,
    reference_errors,
    region_contrast,
)
from pipeline.images import Regions

SHAPE, SIZE = (40, 40, 40), (4.0, 4.0, 4.0)


@pytest.fixture
def regions() -> Regions:
    labels = np.zeros(SHAPE, np.int32)
    labels[10:15, 10:15, 10:15] = 1
    labels[28:31, 28:31, 28:31] = 4
    return Regions(labels, "given")


@pytest.fixture
def image(regions) -> np.ndarray:
    """Lesions of 6 in a background of 2 +- 0.5, in which half of the voxels are high and half are low."""
    checkers = np.where(np.indices(SHAPE).sum(axis=0) % 2, 1.5, 2.5)
    return np.where(regions.labels, 6.0, checkers)


def contrast(images, regions, body=None):
    body = np.ones(SHAPE, bool) if body is None else body
    return region_contrast(images, regions, body=body, voxel_size=SIZE)


def test_contrast_and_cnr_follow_their_definition(image, regions):
    found = contrast({"before": image, "after": image / 2}, regions)
    assert found.shape == (2, 4)
    assert found["contrast_before"].to_numpy() == pytest.approx([3, 3], rel=0.02)
    assert found["cnr_before"].to_numpy() == pytest.approx([8, 8], rel=0.02)
    # Neither depends on the unit, and with half of the noise the CNR is twice as high.
    assert found["contrast_after"].to_numpy() == pytest.approx(found["contrast_before"].to_numpy())
    assert found["cnr_after"].to_numpy() == pytest.approx(found["cnr_before"].to_numpy())
    quiet = np.where(regions.labels, 6.0, 2 + (image - 2) / 2)
    halved = contrast({"after": quiet}, regions)
    assert list(halved.columns) == ["contrast_after", "cnr_after"]
    assert halved["cnr_after"].to_numpy() == pytest.approx(16, rel=0.02)


def test_the_background_is_body_and_no_other_region(image, regions):
    near = regions.labels.copy()
    near[17:22, 10:15, 10:15] = 2
    hot = np.where(near == 2, 90.0, image)
    hot[:, :, :9] = -50.0  # outside of the body
    body = np.ones(SHAPE, bool)
    body[:, :, :9] = False
    found = contrast({"before": hot}, Regions(near, "given"), body)
    assert found["contrast_before"][0] == pytest.approx(3, rel=0.03)
    # The shell begins 5 mm away: what blurs out of the lesion is no background.
    touching = ndimage.binary_dilation(regions.labels > 0) & (regions.labels == 0)
    blurred = np.where(touching, 5.0, image)
    again = contrast({"before": blurred}, regions)
    assert again["contrast_before"].to_numpy() == pytest.approx([3, 3], rel=0.03)


def test_what_is_undefined_is_missing(image, regions):
    flat = np.where(regions.labels, 6.0, 2.0)
    assert np.isnan(contrast({"before": flat}, regions)["cnr_before"]).all()
    nowhere = contrast({"before": image}, regions, np.zeros(SHAPE, bool))
    assert nowhere.isna().all(axis=None)
    none = contrast({"before": image}, Regions(np.zeros(SHAPE, np.int32), ""))
    assert list(none.columns) == [name for name in CONTRAST_COLUMNS if name.endswith("before")]
    assert none.empty
    with pytest.raises(ValueError, match="differ"):
        contrast({"before": image[1:]}, regions)


def test_errors_are_differences_without_their_sign(image, regions):
    before, after = image * 1.5, image * 0.9
    lesions = lesion_table(before, after, regions, voxel_size=SIZE, affine=np.eye(4))
    found = reference_errors(lesions, image, regions, voxel_size=SIZE)
    assert list(found.columns) == list(REFERENCE_COLUMNS)
    assert found["suv_mean_reference"].tolist() == [6, 6]
    assert found["suv_mean_error_before"].to_numpy() == pytest.approx([3, 3])
    assert found["suv_mean_error_after"].to_numpy() == pytest.approx([0.6, 0.6])
    equal = lesion_table(image, image, regions, voxel_size=SIZE, affine=np.eye(4))
    same = reference_errors(equal, image, regions, voxel_size=SIZE)
    assert same.filter(like="error").eq(0).all(axis=None)
