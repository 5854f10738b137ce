"""Spheres all over the body: where they lie, what they hold, and how their means change."""

import numpy as np
import pytest

from pipeline.evaluation import count_by_distance_from_ends, spheres_in

VOXEL_SIZE = (5.0, 5.0, 10.0)


@pytest.fixture
def box() -> np.ndarray:
    """A body that leaves a border of air."""
    mask = np.zeros((40, 36, 30), dtype=bool)
    mask[4:36, 6:30, 2:28] = True
    return mask


def test_spheres_lie_in_the_body_with_every_voxel(box):
    spheres = spheres_in(box, diameter=50, spacing=25, voxel_size=VOXEL_SIZE)
    assert len(spheres.centres) > 20
    voxels = (spheres.centres[:, None] + spheres.offsets).ravel()
    assert box.ravel()[voxels].all()
    assert len(spheres.offsets) * np.prod(VOXEL_SIZE) == pytest.approx(np.pi / 6 * 50**3, rel=0.1)


def test_means_are_those_of_the_voxels_within_the_radius(box):
    image = np.random.default_rng(0).gamma(2.0, 1.0, box.shape)
    spheres = spheres_in(box, diameter=50, spacing=25, voxel_size=VOXEL_SIZE)
    places = (np.indices(box.shape).reshape(3, -1).T) * VOXEL_SIZE
    for centre, mean in zip(spheres.centres[:5], spheres.means(image)[:5], strict=True):
        inside = np.linalg.norm(places - places[centre], axis=1) <= 25
        assert mean == pytest.approx(image.ravel()[inside].mean())


def test_a_change_of_scale_is_seen_in_each_and_fine_texture_cancels(box):
    image = np.ones(box.shape)
    spheres = spheres_in(box, diameter=50, spacing=25, voxel_size=VOXEL_SIZE)
    np.testing.assert_allclose(spheres.change_percent(0.98 * image, image), -2)
    checked = image + 0.5 * (-1.0) ** np.indices(box.shape).sum(axis=0)
    assert np.abs(spheres.change_percent(checked, image)).max() < 5  # of 50 in every voxel


def test_a_body_smaller_than_a_sphere_has_none():
    for shape in ((4, 4, 4), (11, 11, 11)):
        mask = np.zeros(shape, dtype=bool)
        mask[3:5, 3:5, 3:5] = True
        spheres = spheres_in(mask, diameter=50, spacing=25, voxel_size=(5.0, 5.0, 5.0))
        assert len(spheres.means(np.ones(shape))) == 0


def test_hot_spots_are_counted_by_the_nearer_end():
    spots = np.array([[9, 9, z] for z in (0, 2, 3, 9, 10, 50, 89, 90, 96, 97, 99)])
    assert list(count_by_distance_from_ends(spots, n_slices=100).values()) == [4, 4, 3]
    assert sum(count_by_distance_from_ends(spots[:0], n_slices=100).values()) == 0
