"""Whether inserted noise has the texture of the scan's own, and the filter that would give it."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scanners import SLAB_SCANNER

from pipeline.pet import PETHeader, PETSeries, write_nifti
from pipeline.simulation import Scanner, low_dose_of, system_model
from pipeline.simulation.noise_match import noise_correlation, noise_match
from pipeline.simulation.scanner.calibration import draw_counts

SCANNER = replace(SLAB_SCANNER, matrix=(40, 40, 16), psf_axial=8.0)
AFFINE = np.diag([*SCANNER.voxel_size, 1.0])


def inside(radius: float) -> np.ndarray:
    """Cylinder of a radius [mm]."""
    x = (np.arange(40) - 19.5) * 8.0
    return np.broadcast_to((np.hypot(x[:, None], x) < radius)[..., None], (40, 40, 16))


@pytest.fixture(scope="module")
def scan() -> PETSeries:
    """Water with SUV 2, scanned and filtered by 18 mm in plane and 10 mm along Z."""
    own = system_model(replace(SCANNER, post_filter=18.0, post_filter_axial=10.0))
    acquisition = own.acquire(inside(110) * np.float32(2), inside(110) * np.float32(0.0096))
    scale = 2e6 / acquisition.total
    counts = draw_counts(acquisition, scale, np.random.default_rng(0))
    image = own.reconstruct(counts, acquisition, scale=scale)
    return PETSeries(suv=image, affine=AFFINE, header=PETHeader(units="GML"))


def inserted(scan: PETSeries, scanner: Scanner) -> PETSeries:
    return low_dose_of(scan, [4.0], liver=inside(70), liver_cov=0.1, seed=1, preset=scanner)[4.0]


def test_correlation_of_noise_of_known_correlation():
    noise = np.random.default_rng(1).standard_normal((60, 60, 60))
    blurred = noise + np.roll(noise, 1, axis=0)  # half of each voxel is shared with its neighbour along X
    region = np.ones(noise.shape, dtype=bool)
    found = noise_correlation(blurred + np.linspace(0, 2, 60), region, voxel_size=(2.0, 2.0, 2.0))
    np.testing.assert_allclose(found, [0.5, 0, 0], atol=0.02)


def test_noise_finer_than_the_scan_is_named_with_figures_and_with_the_filter_that_fits(scan):
    match = noise_match(scan, inserted(scan, SCANNER), region=inside(70), scanner=SCANNER)
    assert (np.array(match.inserted[:2]) < np.array(match.scan[:2]) - 0.15).all()
    assert "finer than the scan's own" in match.warning
    assert "/".join(f"{r:.2f}" for r in match.scan) in match.warning
    in_plane, axial = match.post_filter
    assert in_plane == pytest.approx(18.0, rel=0.2)
    assert f"--post-filter {in_plane:.1f} {axial:.1f}" in match.warning
    fitted = replace(SCANNER, post_filter=in_plane, post_filter_axial=axial)
    again = noise_match(scan, inserted(scan, fitted), region=inside(70), scanner=fitted)
    assert again.warning == ""


def test_screen_record_and_page_say_when_the_noise_is_another(scan, unipet, tmp_path):
    # As if of 7 mm voxels: a sphere in the liver needs 30 of them.
    path = write_nifti(replace(scan, affine=np.diag([7.0, 7.0, 7.0, 1.0])), tmp_path / "scan.nii.gz")
    options = ["--drf", "4", "--liver-center", "136", "136", "56", "--post-filter", "6", "5"]
    done = unipet("insert-noise", path, tmp_path / "low", *options)
    assert done.returncode == 0, done.stderr
    run = json.loads((tmp_path / "low" / "run.json").read_text())
    page = (tmp_path / "low" / "report.html").read_text()
    for where in (done.stdout, str(run["warnings"]), page):
        assert "finer than the scan" in where
    assert run["post_filter_mm"] == [6, 5]
    assert len(run["noise_correlation_of_the_scan"]) == 3
