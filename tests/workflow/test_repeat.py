"""A scan that is repeated on its way through the main job: what is written, and what is said where it cannot be."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from torch import nn

from pipeline import read_pet
from pipeline.errors import PETError
from pipeline.trust import repeatable_scan
from pipeline.workflow import RegionRule, RepeatRule, denoise_scan
from pipeline.workflow.places import ResultFiles
from pipeline.workflow.repeat import repeats_of, write_repeats
from tests.described_tables import check_tables
from tests.trust.test_repeats import LIVER, MU, SCANNER, reconstructed, series

pytestmark = pytest.mark.usefixtures("blank_figures")


class Smooth(nn.Module):
    """A denoiser that any scan allows: the mean of 3 x 3 x 3 voxels."""

    def forward(self, x):
        return nn.functional.avg_pool3d(nn.functional.pad(x, [1] * 6, mode="replicate"), 3, stride=1)


@pytest.fixture
def smooth(identity):
    return replace(identity, network=Smooth(), method="smooth")


def test_a_scan_without_a_liver_is_denoised_and_says_that_it_was_not_repeated(scan, smooth, tmp_path):
    result = denoise_scan(scan, tmp_path / "out", smooth, repeats=RepeatRule(n=2))
    (line,) = [line for line in result.trust.not_stated if "not repeated" in line]
    assert "no liver was found" in line
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["repeats"] == {"n": 0, "seed": 0, "scanner": "generic", "attenuation": "water in the body"}
    assert line in run["trust"]["not_stated"]
    assert line.split(":")[0].split(";")[0] in (tmp_path / "out" / "report.html").read_text()
    assert (tmp_path / "out" / "lesions.tsv").exists()
    assert not (tmp_path / "out" / "repeats.tsv").exists()


def test_repeats_of_a_part_of_the_change_are_refused_before_any_work(scan, smooth, tmp_path):
    with pytest.raises(PETError, match=r"repeats at strength 0\.5, expected strength 1"):
        denoise_scan(scan, tmp_path / "out", replace(smooth, strength=0.5), repeats=RepeatRule(n=2))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("n", [1, -3, 1001])
def test_a_number_of_repeats_that_says_nothing_is_refused(n):
    with pytest.raises(PETError, match=f"{n} repeats, expected 2 to 1000"):
        RepeatRule(n=n)


def test_tables_and_maps_of_repeats(smooth, tmp_path, monkeypatch):
    noisy = series(reconstructed(seed=100))
    denoised = smooth(noisy)
    monkeypatch.setattr(
        "pipeline.workflow.repeat.repeatable_scan",
        lambda before, after, *, seed, preset, attenuation, device: repeatable_scan(
            before, after, seed=seed, liver=LIVER, preset=SCANNER, attenuation=MU
        ),
    )
    drawn = RegionRule(threshold=2.6).read(noisy).on(noisy, denoised)
    regions = drawn.regions
    told = []
    repeats, why_not = repeats_of(noisy, denoised, smooth, RepeatRule(n=3), drawn, on_step=told.append)
    assert why_not == ""
    assert told[:2] == ["fitting a scanner to the scan", "repeated 0 of 3 times"]
    assert told[-1].startswith("repeated 3 of 3 times, 0 s left")
    assert repeats.regions.found.shape == (3, regions.n_regions)
    assert repeats.regions.found[:, 0].all()
    assert repeats.changes.shape == (3, 3)  # TMTV and TLG in own, TLG in common outlines
    assert (repeats.changes.std(axis=0) > 0).all()

    files = ResultFiles(folder=tmp_path, name="x", scan="x")
    write_repeats(repeats, files, after=denoised, maps=True)
    check_tables([tmp_path / "repeats.tsv"], scan="x")
    table = pd.read_csv(tmp_path / "repeats.tsv", sep="\t")
    assert list(table["region"].unique()) == list(range(1, regions.n_regions + 1))
    volumes = {part: read_pet(tmp_path / f"x_desc-{part}_pet.nii.gz") for part in _PARTS}
    for volume in volumes.values():
        np.testing.assert_allclose(volume.affine, noisy.affine)
    np.testing.assert_allclose(volumes["corrected"].suv, repeats.denoised.corrected, rtol=1e-6)
    assert (volumes["lower95"].suv <= volumes["corrected"].suv + 1e-6).all()
    assert (volumes["upper95"].suv >= volumes["corrected"].suv - 1e-6).all()
    # A mean of 27 voxels is biased where the uptake is a ball, downwards; the correction goes up.
    inside = ndimage.binary_erosion(regions.labels == 1)
    assert volumes["corrected"].suv[inside].mean() > denoised.suv[inside].mean()


_PARTS = ("corrected", "repeatsd", "lower95", "upper95")


def test_the_options_of_repeats_need_repeats(unipet, scan, tmp_path):
    done = unipet("denoise", scan, tmp_path / "out", "--repeat-maps")
    assert done.returncode == 1
    assert "--repeat-maps, --ct, --scanner and --reconstructor belong to --repeats" in done.stderr
    done = unipet("denoise", scan, tmp_path / "out", "--repeats", "1")
    assert done.returncode == 1
    assert "1 repeats, expected 2 to 1000" in done.stderr
    assert not (tmp_path / "out").exists()
