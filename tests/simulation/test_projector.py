"""The projector against geometry: adjoint, areas, the chord of a disc, time-of-flight bins."""

import numpy as np
import pytest

from pipeline.simulation import GENERIC_TOF, strip_matrix

ANGLES = np.pi * np.arange(9) / 9


def test_adjoint_is_the_transpose():
    rng = np.random.default_rng(0)
    matrix = strip_matrix(24, 4.0, angles=ANGLES, n_bins=24, bin_size=4.0).astype(np.float64)
    x, y = rng.random((24 * 24, 3)), rng.random((9 * 24, 3))
    assert np.vdot(matrix @ x, y) == pytest.approx(np.vdot(x, matrix.T @ y), rel=1e-6)


def test_every_angle_sees_the_whole_area_of_a_pixel():
    pixel, bin_size = 3.0, 2.0
    matrix = strip_matrix(20, pixel, angles=ANGLES, n_bins=60, bin_size=bin_size)
    image = np.zeros((20, 20))
    image[7, 12] = 1.0
    projection = (matrix @ image.ravel()).reshape(9, 60)
    np.testing.assert_allclose(projection.sum(axis=1) * bin_size, pixel**2, rtol=1e-5)


def test_a_pixel_projects_to_where_it_is():
    n, size = 40, 2.0
    matrix = strip_matrix(n, size, angles=ANGLES, n_bins=n, bin_size=size)
    image = np.zeros((n, n))
    image[28, 11] = 1.0
    center = (np.array([28, 11]) - (n - 1) / 2) * size
    bins = (np.arange(n) - (n - 1) / 2) * size
    projection = (matrix @ image.ravel()).reshape(len(ANGLES), n)
    found = projection @ bins / projection.sum(axis=1)
    # A footprint's centroid and its binned version differ by less than a tenth of a bin.
    np.testing.assert_allclose(found, center[0] * np.cos(ANGLES) + center[1] * np.sin(ANGLES), atol=0.2)


def test_disc_gives_the_mean_chord_of_each_strip():
    # Pixels much smaller than the strips, so that the disc's staircase edge does not matter.
    n, pixel, radius, n_bins, bin_size = 256, 0.5, 45.0, 32, 4.0
    axis = (np.arange(n) - (n - 1) / 2) * pixel
    disc = (axis[:, None] ** 2 + axis**2 <= radius**2).astype(float)
    matrix = strip_matrix(n, pixel, angles=ANGLES, n_bins=n_bins, bin_size=bin_size)
    projection = (matrix @ disc.ravel()).reshape(len(ANGLES), n_bins)
    edges = np.clip((np.arange(n_bins + 1) - n_bins / 2) * bin_size, -radius, radius)
    # Antiderivative of the chord 2 sqrt(R^2 - s^2).
    area = edges * np.sqrt(radius**2 - edges**2) + radius**2 * np.arcsin(edges / radius)
    expected = np.diff(area) / bin_size
    np.testing.assert_allclose(projection, np.tile(expected, (len(ANGLES), 1)), atol=0.005 * 2 * radius)
    np.testing.assert_allclose(projection.sum(axis=1) * bin_size, np.pi * radius**2, rtol=2e-3)


def test_time_of_flight_bins_sum_to_the_projection_without():
    options = {"angles": ANGLES, "n_bins": 24, "bin_size": 5.0}
    plain = strip_matrix(24, 5.0, **options)
    timed = strip_matrix(24, 5.0, **options, tof_fwhm=40.0, tof_bin_size=30.0, n_tof_bins=5)
    image = np.random.default_rng(1).random(24 * 24)
    summed = (timed @ image).reshape(-1, 5).sum(axis=1)
    np.testing.assert_allclose(summed, plain @ image, rtol=1e-4, atol=1e-3)


def test_time_of_flight_orders_points_along_the_line():
    timed = strip_matrix(
        24, 5.0, angles=np.array([0.0]), n_bins=24, bin_size=5.0, tof_fwhm=20.0, tof_bin_size=20.0, n_tof_bins=7
    )
    means = []
    for j in (4, 12, 19):
        image = np.zeros((24, 24))
        image[12, j] = 1.0
        line = (timed @ image.ravel()).reshape(24, 7).sum(axis=0)
        means.append((line @ (np.arange(7) - 3)) / line.sum() * 20.0)
    positions = (np.array([4, 12, 19]) - 11.5) * 5.0
    np.testing.assert_allclose(means, positions, atol=2.0)


def test_generic_time_of_flight_covers_the_field_of_view():
    covered = GENERIC_TOF.n_tof_bins * GENERIC_TOF.tof_bin_size
    assert covered >= GENERIC_TOF.matrix[0] * GENERIC_TOF.voxel_size[0] - GENERIC_TOF.tof_bin_size
