"""Whether inserted noise has the texture of the scan's own, whatever scanner was named."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scanners import SLAB_SCANNER
from scipy import ndimage

from pipeline.constants import FWHM_PER_SIGMA
from pipeline.images import gaussian_filter_mm
from pipeline.images.regions import ball_offsets
from pipeline.pet import PETHeader, PETSeries, write_nifti
from pipeline.simulation import DISCOVERY_ST, GENERIC, MCT, Scanner, low_dose_of, system_model
from pipeline.simulation.noise_insertion import InsertionSettings, full_dose_scan
from pipeline.simulation.noise_texture import (
    NoiseTexture,
    correlation_error,
    fine_noise,
    fitted_post_filter,
    mean_correlation,
    noise_correlation,
)
from pipeline.simulation.scanner.blur import post_filtered
from pipeline.simulation.scanner.calibration import draw_counts, noise_cov
from tests.described_tables import check_tables

N = 48


def inside(scanner: Scanner, radius: float) -> np.ndarray:
    """Cylinder of a radius [mm] on a scanner's grid."""
    n, _, nz = scanner.matrix
    x = (np.arange(n) - (n - 1) / 2) * scanner.voxel_size[0]
    return np.broadcast_to((np.hypot(x[:, None], x) < radius)[..., None], (n, n, nz))


def small(preset: Scanner, *, voxel_size=(6.0, 6.0, 5.0), **changes) -> Scanner:
    """A preset's physics on a grid of 48 x 48 x 24 voxels."""
    changes = {"n_angles": 4 * preset.n_subsets, "n_iterations": 2, "bed_length": None, **changes}
    return replace(preset, matrix=(N, N, 24), voxel_size=voxel_size, supersampling=1, **changes)


def scan_by(scanner: Scanner, seed: int = 0) -> PETSeries:
    """Water with SUV 2."""
    model = system_model(scanner)
    acquisition = model.acquire(inside(scanner, 110) * np.float32(2), inside(scanner, 110) * np.float32(0.0096))
    scale = 4e6 / acquisition.total
    counts = draw_counts(acquisition, scale, np.random.default_rng(seed))
    image = model.reconstruct(counts, acquisition, scale=scale)
    return PETSeries(suv=image, affine=np.diag([*scanner.voxel_size, 1.0]), header=PETHeader(units="GML"))


def white(shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


def test_correlation_of_noise_of_known_correlation():
    noise = white((60, 60, 60))
    blurred = noise + np.roll(noise, 1, axis=0)  # half of each voxel is shared with its neighbour along X
    region = np.ones(noise.shape, dtype=bool)
    # Voxels so small beside 16 mm that hardly any noise goes with what varies slowly.
    found = noise_correlation(blurred + np.linspace(0, 2, 60), region, voxel_size=(1.0, 1.0, 1.0))
    np.testing.assert_allclose(found, [0.5, 0, 0], atol=0.02)


def test_fine_noise_is_the_spread_without_what_varies_slowly():
    noise, sides = white((60, 60, 60)), (1.0, 1.0, 1.0)
    region = np.ones(noise.shape, dtype=bool)
    assert fine_noise(3 * noise + np.linspace(0, 20, 60), region, voxel_size=sides) == pytest.approx(3, rel=0.02)
    # Large voxels lose part of their noise, alike in an image and in noise alone.
    wide = (8.0, 8.0, 8.0)
    alone = fine_noise(noise, region, voxel_size=wide)
    assert alone < 0.95
    slow = np.sin(np.linspace(0, 6, 60))
    assert fine_noise(noise + slow, region, voxel_size=wide) == pytest.approx(alone, rel=0.01)


@pytest.mark.parametrize("millilitres", [30, 128, 1000])
def test_uptake_that_varies_within_an_organ_hardly_counts(millilitres):
    """Structure of 25 mm with half the noise's standard deviation, in the smallest livers as well."""
    sides = (4.0, 4.0, 3.0)
    radius = (3e3 * millilitres / 4 / np.pi) ** (1 / 3)
    offsets = ball_offsets(radius, voxel_size=sides)
    region = np.zeros(2 * offsets.max(axis=0) + 5, dtype=bool)
    region[tuple((offsets + offsets.max(axis=0) + 2).T)] = True
    noise, structure = (
        gaussian_filter_mm(white(region.shape, seed), fwhm=width, voxel_size=sides)
        for seed, width in ((1, 6.0), (2, 25.0))
    )
    image = noise / noise[region].std() + 0.5 * structure / structure[region].std()
    own, with_structure = (noise_correlation(i, region, voxel_size=sides) for i in (noise, image))
    np.testing.assert_allclose(with_structure, own, atol=0.05)


def test_a_correlation_without_voxels_or_noise_is_none():
    region = np.zeros((8, 8, 8), dtype=bool)
    assert np.isnan(noise_correlation(white(region.shape), region, voxel_size=(4.0, 4.0, 4.0))).all()
    region[:, :, 4] = True
    found = noise_correlation(white(region.shape), region, voxel_size=(4.0, 4.0, 4.0))
    assert np.isfinite(found[:2]).all()
    assert np.isnan(found[2])
    assert np.isnan(noise_correlation(np.ones(region.shape), region, voxel_size=(4.0, 4.0, 4.0))).all()


def test_the_standard_error_is_the_spread_over_draws():
    region = np.ones((20, 20, 20), dtype=bool)
    sigma = (1.0, 0.7, 0.5)
    found = np.array(
        [
            noise_correlation(ndimage.gaussian_filter(white(region.shape, k), sigma), region, voxel_size=(1.0,) * 3)
            for k in range(40)
        ]
    )
    expected = correlation_error(found.mean(axis=0), region.sum())
    np.testing.assert_allclose(found.std(axis=0), expected, rtol=0.35)


@pytest.mark.parametrize("sides", [(1.6, 1.6, 2.0), (4.0, 4.0, 3.0), (5.0, 5.0, 5.0), (3.4, 3.4, 6.0)])
@pytest.mark.parametrize("widths", [(5.0, 7.0, 6.0), (12.0, 10.0, 9.0)])
def test_the_fit_recovers_a_filter(sides, widths):
    noise = [white((40, 40, 24), seed) for seed in (1, 2)]
    region = np.ones(noise[0].shape, dtype=bool)
    target = mean_correlation([post_filtered(i, widths, voxel_size=sides) for i in noise], region, voxel_size=sides)
    found = fitted_post_filter(noise, region, target, voxel_size=sides, stated=(0.0, 0.0, 0.0))
    np.testing.assert_allclose(found, widths, rtol=0.05)


def test_the_fit_ends_where_there_is_nothing_to_fit():
    noise = [post_filtered(white((32, 32, 16)), (6.0, 6.0, 6.0), voxel_size=(4.0, 4.0, 4.0))]
    region = np.ones(noise[0].shape, dtype=bool)
    arguments = {"voxel_size": (4.0, 4.0, 4.0), "stated": (5.0, 5.0, 3.0)}
    x, y, z = fitted_post_filter(noise, region, (0.0, 1.0, np.nan), **arguments)
    assert x == 0  # sharper than without any filter
    assert y == 30  # the widest
    assert z == 3  # not measured: as stated


SCANNERS = {
    "smooth": small(DISCOVERY_ST, post_filter=11.0, post_filter_axial=9.0),
    "sharp": small(DISCOVERY_ST, post_filter=4.0, post_filter_axial=0.0),
    "time of flight": small(MCT),
    "fine": small(GENERIC, voxel_size=(5.0, 5.0, 3.0), post_filter=6.0),
}


@pytest.mark.parametrize(
    ("own", "named"),
    [("smooth", GENERIC), ("sharp", GENERIC), ("time of flight", DISCOVERY_ST), ("fine", DISCOVERY_ST)],
)
def test_texture_is_the_scans_own_whatever_scanner_was_named(own, named):
    scanner = SCANNERS[own]
    named = replace(named, n_angles=4 * named.n_subsets, n_iterations=2, bed_length=None)
    scan = scan_by(scanner)
    made = low_dose_of(scan, [4.0], liver=inside(scanner, 75), liver_cov=0.1, seed=1, preset=named)
    np.testing.assert_allclose(made.texture.inserted, made.texture.own, atol=0.05)
    assert made.texture.warning == ""
    assert "fitted" in made.series[4.0].provenance[-1]


def test_the_noise_is_right_after_the_fit():
    scanner = SCANNERS["smooth"]
    scan, liver = scan_by(scanner), inside(scanner, 75)
    settings = InsertionSettings(
        scanner=scanner,
        attenuation=inside(scanner, 110) * np.float32(0.0096),
        liver=liver,
        liver_cov=0.08,
        noise_correlation=(0.3, 0.3, 0.3),
    )
    full = full_dose_scan(scan.suv, settings, rng=np.random.default_rng(2))
    assert full.post_filter != scanner.post_filter_widths
    draws = [draw_counts(full.acquisition, full.scale, np.random.default_rng(k)) for k in (3, 4)]
    images = [full.model.osem(counts, full.acquisition, scale=full.scale) for counts in draws]
    a, b = (post_filtered(i, full.post_filter, voxel_size=scanner.voxel_size) for i in images)
    assert noise_cov(a, b, liver) == pytest.approx(0.08, rel=0.07)


def test_a_filter_of_the_users_wins_and_what_is_amiss_is_said():
    scanner = SCANNERS["smooth"]
    scan, liver = scan_by(scanner), inside(scanner, 75)
    made = low_dose_of(scan, [4.0], liver=liver, liver_cov=0.1, seed=1, preset=scanner, post_filter=(2.0, 0.0))
    assert made.texture.post_filter == (2.0, 2.0, 0.0)
    for part in ("finer than the scan's own", "without --post-filter", f"{made.texture.own[0]:.2f}"):
        assert part in made.texture.warning
    assert "stated" in str(made.texture)


def test_noise_sharper_than_any_reconstruction_gives_is_a_warning():
    texture = NoiseTexture((-0.3, 0.2, 0.2), (0.1, 0.2, 0.2), (0.02, 0.02, 0.02), (0.0, 4.0, 4.0), is_fitted=True)
    assert "coarser than the scan's own along X" in texture.warning
    assert "-0.30/0.20/0.20" in texture.warning
    assert "no filter can mend" in texture.warning
    assert replace(texture, inserted=(-0.27, 0.2, 0.24)).warning == ""
    assert replace(texture, error=(0.2, 0.2, 0.2)).warning == ""
    assert "cannot be measured" in replace(texture, own=(0.3, 0.2, np.nan)).warning


def test_an_axial_filter_of_width_0_keeps_the_slab_whole():
    """The calibration keeps away from the ends of its slab by the axial width, which may be 0."""
    scanner = replace(SLAB_SCANNER, post_filter=60.0, post_filter_axial=0.0)
    assert scanner.post_filter_widths == (60.0, 60.0, 0.0)
    liver = inside(scanner, 75)
    settings = InsertionSettings(
        scanner=scanner, attenuation=inside(scanner, 110) * np.float32(0.0096), liver=liver, liver_cov=0.02
    )
    image = inside(scanner, 110) * np.float32(2)
    full = full_dose_scan(image, settings, rng=np.random.default_rng(2))
    draws = [draw_counts(full.acquisition, full.scale, np.random.default_rng(k)) for k in (3, 4)]
    a, b = (full.model.reconstruct(counts, full.acquisition, scale=full.scale) for counts in draws)
    assert noise_cov(a, b, liver) == pytest.approx(0.02, rel=0.15)


def test_screen_record_and_page_say_the_texture(unipet, tmp_path):
    scanner = small(DISCOVERY_ST, voxel_size=(7.0, 7.0, 7.0), post_filter=14.0, post_filter_axial=10.0)
    path = write_nifti(scan_by(scanner), tmp_path / "scan.nii.gz")
    center = ["--liver-center", "164", "164", "84"]
    for name, options, status in (("fitted", [], "fitted"), ("stated", ["--post-filter", "0", "0"], "stated")):
        done = unipet("insert-noise", path, tmp_path / name, "--drf", "4", *center, *options)
        assert done.returncode == 0, done.stderr
        run = json.loads((tmp_path / name / "run.json").read_text())
        page = (tmp_path / name / "report.html").read_text()
        assert run["post_filter_is"] == status
        check_tables([tmp_path / name / "noise.tsv"], scan=next((tmp_path / name).glob("*.nii.gz")).name.split("_")[0])
        assert (run["post_filter_mm"] == [0, 0, 0]) == (status == "stated")
        assert bool(run["warnings"]) == (status == "stated")
        own = "/".join(f"{r:.2f}" for r in run["noise_correlation_of_the_scan"])
        for where in (done.stdout.replace("\n", " "), page):
            assert own in where
            assert ("finer than the scan" in where) == (status == "stated")


def test_width_of_a_gaussian_along_each_axis_is_the_one_asked_for():
    image = np.zeros((41, 41, 21), dtype=np.float32)
    image[20, 20, 10] = 1
    blurred = post_filtered(image, (12.0, 8.0, 10.0), voxel_size=(2.0, 2.0, 2.5))
    assert blurred.sum() == pytest.approx(1, rel=1e-4)
    for axis, (side, width) in enumerate(((2.0, 12.0), (2.0, 8.0), (2.5, 10.0))):
        profile = np.moveaxis(blurred, axis, 0).sum(axis=(1, 2))
        x = (np.arange(len(profile)) - len(profile) // 2) * side
        assert FWHM_PER_SIGMA * np.sqrt((profile * x**2).sum()) == pytest.approx(width, rel=0.02)
