"""The NEMA NU 2 phantom: its geometry, its analysis where the answer is known, a scan against published values."""

import numpy as np
import pytest

from pipeline.pet import PETError
from pipeline.simulation import Scanner, nema_phantom, nema_quality, system_model
from pipeline.simulation.patient.nema import (
    _LUNG_RADIUS,
    BACKGROUND_REGIONS,
    SPHERE_DIAMETERS,
    _body_distance,
    sphere_centres,
)

# 214 ps, 4 iterations of 5 subsets, 5 mm filter.
TOF = Scanner(
    name="nema",
    matrix=(80, 80, 16),
    voxel_size=(4.0, 4.0, 4.0),
    n_angles=100,
    n_subsets=5,
    n_iterations=4,
    psf_in_plane=4.5,
    tof_fwhm=214 * 0.1499,
    post_filter=5.0,
    bed_length=None,
)
# Contrast recovery at 4:1 for 10 to 37 mm: mCT Flow (Rausch 2015) and Discovery MI (Hsu 2017).
MCT = np.array([28, 42, 58, 72, 70, 78]) / 100
DISCOVERY_MI = np.array([54, 64, 73, 83, 87, 91]) / 100


@pytest.fixture(scope="module")
def phantom():
    return nema_phantom(TOF, ratio=4.0)


@pytest.fixture(scope="module")
def scans(phantom):
    """Noise-free and noisy reconstruction."""
    model = system_model(TOF)
    acquisition = model.acquire(phantom.activity, phantom.attenuation)
    scale = 3e7 / acquisition.total
    expected = [acquisition.expected(k) * np.float32(scale) for k in range(TOF.n_subsets)]
    rng = np.random.default_rng(0)
    counts = [rng.poisson(e).astype(np.int32) for e in expected]
    return tuple(model.reconstruct(data, acquisition, scale=scale) for data in (expected, counts))


def test_the_body_has_the_size_of_the_standard():
    axis = np.arange(-160, 160.25, 0.5)
    inside = _body_distance(axis[:, None], axis) < 0
    widths = np.ptp(axis[inside.any(axis=1)]), np.ptp(axis[inside.any(axis=0)])
    assert widths[0] == pytest.approx(294, abs=1)
    assert widths[1] == pytest.approx(224, abs=1)
    # Half a disc of 147 mm, a half of a rounded box of 77 mm below.
    area = np.pi * 147**2 / 2 + np.pi * 77**2 / 2 + 140 * 77
    assert inside.sum() * 0.25 == pytest.approx(area, rel=1e-3)


def test_background_regions_keep_away_from_everything():
    x, y = BACKGROUND_REGIONS.T
    assert BACKGROUND_REGIONS.shape == (12, 2)
    assert _body_distance(x, y).max() <= -(15 + 37 / 2)
    for diameter, (cx, cy) in zip(SPHERE_DIAMETERS, sphere_centres(), strict=True):
        assert np.hypot(x - cx, y - cy).min() >= diameter / 2 + 15 + 37 / 2
    assert np.hypot(x, y).min() >= _LUNG_RADIUS + 37 / 2


def test_spheres_hold_their_volume_and_the_lung_is_cold(phantom):
    background = nema_phantom(TOF, ratio=1.0001)
    excess = (phantom.activity - background.activity).sum(dtype=np.float64) * np.prod(TOF.object_voxel_size)
    volume = sum(np.pi / 6 * d**3 for d in SPHERE_DIAMETERS)
    assert excess == pytest.approx(3 * volume, rel=0.01)
    middle = phantom.activity.shape[0] // 2
    assert phantom.activity[middle, middle].max() == 0
    assert phantom.attenuation[middle, middle].max() < 0.5 * phantom.attenuation.max()


def test_the_analysis_of_the_truth_is_perfect():
    fine = Scanner(name="fine", matrix=(300, 300, 60), voxel_size=(1.0, 1.0, 1.0), supersampling=1, bed_length=None)
    truth = nema_phantom(fine, ratio=8.0).activity
    # Voxels of 1 mm still blur the rim: the more, the smaller the sphere.
    recovery = nema_quality(truth, fine, ratio=8.0).contrast_recovery
    assert recovery.max() <= 1
    assert recovery[-1] > 0.97
    assert recovery[0] > 0.9
    assert nema_quality(truth, fine, ratio=4.0).background_variability.max() < 1e-6
    assert nema_quality(truth, fine, ratio=4.0).lung_residual < 1e-6


def test_variability_of_a_known_pattern():
    # Slices alternate by +-10 %: with planes 20, 10, 0 mm away, every region sees one value.
    image = np.ones(TOF.matrix, dtype=np.float32)
    middle = TOF.matrix[2] // 2
    image[:, :, middle] = 2.0
    expected = np.std([1] * 48 + [2] * 12, ddof=1) / np.mean([1] * 48 + [2] * 12)
    np.testing.assert_allclose(nema_quality(image, TOF, ratio=4.0).background_variability, expected, rtol=1e-6)


def test_contrast_recovery_rises_with_size_between_two_scanners(scans):
    recovery = nema_quality(scans[0], TOF, ratio=4.0).contrast_recovery
    assert (np.diff(recovery) > 0).all()
    assert (recovery > MCT).all()
    assert (recovery < DISCOVERY_MI).all()


def test_noise_moves_recovery_little_and_variability_much(scans):
    np.testing.assert_allclose(*(nema_quality(s, TOF, ratio=4.0).contrast_recovery[3:] for s in scans), atol=0.1)
    variability = nema_quality(scans[1], TOF, ratio=4.0).background_variability
    # Larger regions average more noise.
    assert (np.diff(variability) < 0).all()
    assert variability[0] > 5 * nema_quality(scans[0], TOF, ratio=4.0).background_variability[0]


def test_lung_residual_is_small(scans):
    for image in scans:
        assert 0 < nema_quality(image, TOF, ratio=4.0).lung_residual < 0.15


def test_a_uniform_image_has_no_contrast():
    image = np.full(TOF.matrix, 3.0, dtype=np.float32)
    np.testing.assert_allclose(nema_quality(image, TOF, ratio=4.0).contrast_recovery, 0, atol=1e-6)
    assert nema_quality(image, TOF, ratio=4.0).lung_residual == pytest.approx(1)


def test_what_does_not_fit_is_refused():
    with pytest.raises(PETError, match="above 1"):
        nema_phantom(TOF, ratio=1.0)
    small = Scanner(name="small", matrix=(40, 40, 24), voxel_size=(4.0, 4.0, 4.0))
    with pytest.raises(PETError, match="160 x 96 mm"):
        nema_phantom(small)
    with pytest.raises(PETError, match="expected"):
        nema_quality(np.zeros((4, 4, 4), dtype=np.float32), TOF, ratio=4.0)
