"""A uniform cylinder on a small scanner: bias, noise against dose, shared noise, geometry, background."""

import os
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.pet import PETError
from pipeline.simulation import Scanner, system_model, thin
from pipeline.simulation.patient.phantom import block_mean
from pipeline.simulation.scanner.blur import SeparableBlur

SCANNER = Scanner(
    name="cylinder",
    matrix=(32, 32, 24),
    voxel_size=(8.0, 8.0, 8.0),
    n_angles=48,
    n_subsets=6,
    psf_in_plane=8.0,
    psf_axial=8.0,
    post_filter=8.0,
    bed_length=None,
)
RADIUS = 90.0  # [mm]
FACTORS = (4, 10, 20)


def fine_axes(scanner):
    f = scanner.supersampling
    return [
        (np.arange(n * f) - (n * f - 1) / 2) * v / f for n, v in zip(scanner.matrix, scanner.voxel_size, strict=True)
    ]


def cylinder(scanner):
    x, y, z = fine_axes(scanner)
    disc = (np.hypot(x[:, None], y) <= RADIUS).astype(np.float32)
    return np.repeat(disc[:, :, None], z.size, axis=2)


@pytest.fixture(scope="module")
def core():
    """Voxels well inside the cylinder. Shape (X, Y, Z)."""
    n, _, nz = SCANNER.matrix
    axis = (np.arange(n) - (n - 1) / 2) * SCANNER.voxel_size[0]
    disc = np.hypot(axis[:, None], axis) <= RADIUS - 25
    core = np.repeat(disc[:, :, None], nz, axis=2)
    core[:, :, :2] = core[:, :, -2:] = False
    return core


@pytest.fixture(scope="module")
def acquisition():
    body = cylinder(SCANNER)
    return system_model(SCANNER).acquire(2.0 * body, 0.0096 * body)


@pytest.fixture(scope="module")
def doses(acquisition):
    """Noise-free, full and low-dose images, each with several draws. Shape (draws, X, Y, Z)."""
    model = system_model(SCANNER)
    scale = 6e6 / acquisition.total
    expected = [acquisition.expected(k) * np.float32(scale) for k in range(SCANNER.n_subsets)]
    images = {"noise_free": model.reconstruct(expected, acquisition, scale=scale)}
    for draw in range(4):
        rng = np.random.default_rng(draw)
        counts = [rng.poisson(e).astype(np.int32) for e in expected]
        images.setdefault(1, []).append(model.reconstruct(counts, acquisition, scale=scale))
        previous = 1
        for factor in FACTORS:
            counts = [thin(c, previous / factor, rng) for c in counts]
            previous = factor
            images.setdefault(factor, []).append(model.reconstruct(counts, acquisition, scale=scale / factor))
    return {key: np.asarray(value) for key, value in images.items()}


def test_noise_free_background_is_unbiased(doses, core):
    assert doses["noise_free"][core].mean() == pytest.approx(2.0, rel=0.01)


def test_mean_does_not_depend_on_the_dose(doses, core):
    for factor in (1, *FACTORS):
        assert doses[factor][:, core].mean() == pytest.approx(2.0, rel=0.02)


@pytest.mark.parametrize("factor", FACTORS)
def test_noise_grows_with_the_square_root_of_the_factor(doses, core, factor):
    noise = {key: (doses[key] - doses["noise_free"])[:, core].std() for key in (1, factor)}
    assert noise[factor] / noise[1] == pytest.approx(np.sqrt(factor), rel=0.05)


@pytest.mark.parametrize("factor", FACTORS)
def test_noise_is_shared_with_the_full_dose(doses, core, factor):
    low, full = ((doses[key] - doses["noise_free"])[:, core].ravel() for key in (factor, 1))
    assert np.corrcoef(low, full)[0, 1] == pytest.approx(1 / np.sqrt(factor), abs=0.03)


def test_an_independent_draw_shares_nothing(doses, core):
    first, second = (doses[1] - doses["noise_free"])[:2, core]
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.06


@pytest.mark.parametrize("tof_fwhm", [None, 60.0])
def test_a_source_is_reconstructed_where_it_is(tof_fwhm):
    scanner = replace(SCANNER, tof_fwhm=tof_fwhm, scatter_fraction=0.0, randoms_fraction=0.0)
    x, y, z = fine_axes(scanner)
    center = np.array([42.0, -30.0, 26.0])
    distance = np.sqrt((x[:, None, None] - center[0]) ** 2 + (y[None, :, None] - center[1]) ** 2 + (z - center[2]) ** 2)
    source = (distance < 16).astype(np.float32)
    truth = np.array([(np.nonzero(source)[k] * v / 2).mean() for k, v in enumerate(scanner.voxel_size)])
    model = system_model(scanner)
    acquisition = model.acquire(source, np.zeros_like(source))
    image = model.reconstruct(acquisition.trues, acquisition, scale=1.0)
    grid = np.indices(image.shape).reshape(3, -1) * np.array(scanner.voxel_size)[:, None]
    found = grid @ image.ravel() / image.sum()
    # Index 0 of the fine grid lies a quarter of a voxel below index 0 of the image.
    np.testing.assert_allclose(found, truth - np.array(scanner.voxel_size) / 4, atol=0.5)
    volume = np.prod(scanner.voxel_size)
    assert image.sum() * volume == pytest.approx(source.sum() * volume / 8, rel=0.02)


def test_scatter_and_randoms_are_the_fractions_asked_for(acquisition):
    trues = sum(float(t.sum(dtype=np.float64)) for t in acquisition.trues)
    background = acquisition.total - trues
    scatter = trues * SCANNER.scatter_fraction / (1 - SCANNER.scatter_fraction)
    randoms = acquisition.total * SCANNER.randoms_fraction
    assert background == pytest.approx(scatter + randoms, rel=1e-4)


def test_attenuation_follows_beer_and_lambert(acquisition):
    # Through the axis of the cylinder: exp(-mu 2 R).
    n, _, nz = SCANNER.matrix
    factors = acquisition.factors[0].reshape(-1, n, nz)
    middle = factors[:, n // 2 - 1 : n // 2 + 1, nz // 2].mean()
    assert middle == pytest.approx(np.exp(-0.0096 * 2 * RADIUS), rel=0.03)


def test_a_scan_is_corrected_with_the_map_that_it_is_given(acquisition, core):
    body = cylinder(SCANNER)
    model = system_model(SCANNER)
    coarse = block_mean(body, SCANNER.supersampling)
    images = []
    for map_error in (0.0, -0.001):
        other = model.acquire(2.0 * body, 0.0096 * body, correction_map=(np.float32(0.0096 + map_error)) * coarse)
        for mine, theirs in zip(other.trues, acquisition.trues, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        expected = [other.expected(k) for k in range(SCANNER.n_subsets)]
        images.append(model.reconstruct(expected, other, scale=1.0))
    # The true map on the image's grid changes nothing; one that attenuates too little corrects too little.
    assert images[0][core].mean() == pytest.approx(2.0, rel=0.02)
    middle = images[1][15:17, 15:17, 8:16].mean()
    assert middle == pytest.approx(2.0 * np.exp(-0.001 * 2 * RADIUS), rel=0.06)


def test_a_correction_map_of_another_grid_is_refused():
    body = cylinder(SCANNER)
    with pytest.raises(PETError, match="correction map"):
        system_model(SCANNER).acquire(body, body, correction_map=body)


def test_blur_keeps_the_sum_and_is_its_own_adjoint():
    rng = np.random.default_rng(0)
    blur = SeparableBlur(24, 20, in_plane=1.5, axial=2.0)
    a, b = rng.random((2, 24 * 24, 20)).astype(np.float32)
    assert np.vdot(blur(a), b) == pytest.approx(np.vdot(a, blur(b)), rel=1e-5)
    point = np.zeros((24, 24, 20), dtype=np.float32)
    point[12, 12, 10] = 1.0
    blurred = blur(point.reshape(-1, 20)).reshape(point.shape)
    assert blurred.sum() == pytest.approx(1.0, rel=1e-3)
    # Full width at half maximum of 2 voxels: half the maximum one voxel away.
    assert blurred[12, 12, 11] / blurred[12, 12, 10] == pytest.approx(0.5, abs=0.01)


def test_an_object_of_another_grid_is_refused():
    with pytest.raises(PETError, match=r"expected \(64, 64, 48\)"):
        system_model(SCANNER).acquire(np.zeros(SCANNER.matrix), np.zeros(SCANNER.matrix))


def test_an_image_on_the_scanners_own_grid_is_projected_alike(acquisition):
    body = block_mean(cylinder(SCANNER), SCANNER.supersampling)
    coarse = system_model(SCANNER).acquire(2.0 * body, 0.0096 * body, supersampling=1)
    assert coarse.total == pytest.approx(acquisition.total, rel=0.02)
    for mine, theirs in zip(coarse.factors, acquisition.factors, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=0.05)


def test_an_image_that_is_blurred_already_is_not_blurred_again():
    body = block_mean(cylinder(SCANNER), SCANNER.supersampling)
    nothing = np.zeros_like(body)
    projection = system_model(SCANNER).acquire(body, nothing, supersampling=1, blurred=False).trues[0]
    # Along X: the sum over Y of the image times the size of a voxel, seen with the bed's even sensitivity.
    first_angle = projection.reshape(-1, *SCANNER.matrix[1:])[0]
    np.testing.assert_allclose(first_angle, body.sum(axis=1) * SCANNER.voxel_size[1], rtol=1e-4, atol=1e-2)


def test_expected_data_does_not_depend_on_the_threads(acquisition):
    code = (
        "import sys, zlib, numpy as np; sys.path.insert(0, sys.argv[1]); import test_reconstruction as t; "
        "b = t.cylinder(t.SCANNER); a = t.system_model(t.SCANNER).acquire(2 * b, .0096 * b); "
        "print([zlib.crc32(e.tobytes()) for k in range(6) for e in (a.trues[k], a.scatter[k])])"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "4"}
    arguments = [sys.executable, "-c", code, str(Path(__file__).parent)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
    here = [zlib.crc32(e.tobytes()) for k in range(6) for e in (acquisition.trues[k], acquisition.scatter[k])]
    assert done.stdout.strip() == str(here)


def test_less_activity_has_fewer_randoms(acquisition):
    low = acquisition.with_activity(1 / 4)
    np.testing.assert_allclose(low.randoms, acquisition.randoms / 4)
    np.testing.assert_array_equal(low.trues[0], acquisition.trues[0])
    np.testing.assert_array_equal(low.scatter[0], acquisition.scatter[0])
    signal = acquisition.total * (1 - SCANNER.randoms_fraction)
    assert low.total - signal == pytest.approx((acquisition.total - signal) / 4, rel=1e-4)


@pytest.mark.parametrize("tof_fwhm", [None, 60.0])
def test_forward_and_back_projection_with_resolution_are_adjoint(tof_fwhm):
    model = system_model(replace(SCANNER, tof_fwhm=tof_fwhm))
    rng = np.random.default_rng(0)
    for forward, adjoint in zip(model._forward, model._adjoint, strict=True):
        forward, adjoint = forward.astype(np.float64), adjoint.astype(np.float64)
        image = rng.random((forward.shape[1], 3))
        data = rng.random((forward.shape[0], 3))
        assert np.vdot(forward @ image, data) == pytest.approx(np.vdot(image, adjoint @ data), rel=1e-12)


def test_noise_correlates_along_z_as_in_plane():
    """Scans of real scanners have much the same grain along Z; a model of planes has it from the axial PSF."""
    scanner = replace(
        SCANNER, matrix=(48, 48, 40), voxel_size=(5.0, 5.0, 5.0), n_angles=60, psf_in_plane=5.0, psf_axial=7.0
    )
    scanner = replace(scanner, post_filter=5.0, n_iterations=3)
    x, y, z = fine_axes(scanner)
    body = np.repeat((np.hypot(x[:, None], y) <= 85).astype(np.float32)[:, :, None], z.size, axis=2)
    model = system_model(scanner)
    acquisition = model.acquire(2 * body, 0.0096 * body)
    scale = 4e6 / acquisition.total
    rng = np.random.default_rng(5)
    first, second = (
        model.reconstruct(
            [rng.poisson(acquisition.expected(k) * scale).astype(np.int32) for k in range(scanner.n_subsets)],
            acquisition,
            scale=scale,
        )
        for _ in range(2)
    )
    noise = (first - second)[14:34, 14:34, 4:-4]

    def correlation(axis):
        n = noise.shape[axis]
        parts = (noise.take(range(n - 1), axis).ravel(), noise.take(range(1, n), axis).ravel())
        return np.corrcoef(*parts)[0, 1]

    in_plane = (correlation(0) + correlation(1)) / 2
    assert 0.6 < correlation(2) / in_plane < 1.2
