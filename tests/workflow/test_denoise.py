"""One scan to a folder of results, in this process."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from monai.inferers import SimpleInferer
from torch import nn

from pipeline import read_pet
from pipeline.errors import PETError, line_for_user
from pipeline.images import Regions
from pipeline.inference import Denoiser
from pipeline.pet import write_nifti
from pipeline.regions import write_label_map
from pipeline.workflow import RegionRule, denoise_scan, insert_noise_into_scan
from tests.described_tables import check_dictionaries, check_tables
from tests.series import Scan as Body
from tests.series import save_series, slices_of

pytestmark = pytest.mark.usefixtures("blank_figures")


def test_the_folder_holds_everything_about_the_scan(scan, identity, tmp_path):
    steps = []
    result = denoise_scan(scan, tmp_path / "out", identity, on_step=steps.append)
    assert steps == ["reading", "denoising", "writing", "measuring", "judging", "reporting"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *(
            ".bidsignore",
            "burden.json",
            "burden.tsv",
            "changes.json",
            "changes.tsv",
            "dataset_description.json",
            "lesions.json",
            "lesions.tsv",
            "matches.json",
            "matches.tsv",
            "quantities.json",
            "quantities.tsv",
            "report.html",
            "run.json",
            "spots.json",
            "spots.tsv",
        ),
        *("sub-01_desc-denoised_pet.json", "sub-01_desc-denoised_pet.nii.gz"),
        *("sub-01_dseg.json", "sub-01_dseg.nii.gz", "sub-01_dseg.tsv"),
    ]
    np.testing.assert_array_equal(read_pet(tmp_path / "out" / "sub-01_desc-denoised_pet.nii.gz").suv, result.before.suv)
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run == result.run
    assert list(run["seconds"]) == steps
    assert run["dicom"].startswith("not written, ")
    assert all("training" in warning for warning in run["warnings"])  # a block of 8 cm is no patient


def test_a_viewer_is_written_if_asked_for(scan, identity, tmp_path):
    denoise_scan(scan, tmp_path / "out", identity, viewer=True)
    page = (tmp_path / "out" / "viewer.html").read_text(encoding="utf-8")
    assert "<title>sub-01, viewer</title>" in page


def test_every_table_names_the_scan_and_says_what_its_columns_are(scan, identity, tmp_path):
    result = denoise_scan(scan, tmp_path / "out", identity)
    assert len(result.lesions) == 1
    kinds = ("lesions", "quantities", "burden", "matches", "changes", "spots")
    check_tables((tmp_path / "out" / f"{kind}.tsv" for kind in kinds), scan="sub-01")
    check_dictionaries(tmp_path / "out", n_tables=7)


def test_lesions_are_matched_with_the_scan_and_with_a_reference(scan, identity, body_series, tmp_path):
    """The method changes nothing, the reference has a lesion of its own: kept of the scan, lost of the reference."""
    reference = body_series(seed=1)
    reference.suv[11:14, 11:14, 11:14] += 8
    result = denoise_scan(scan, tmp_path / "out", identity, reference=reference, turning=True)
    none_lost = {"kept": 1, "lost": 0, "new": 0}
    one_lost = {"kept": 1, "lost": 1, "new": 0}
    assert result.run["matches"] == {
        "after with before": none_lost,
        "after with reference": one_lost,
        "before with reference": one_lost,
    }
    table = pd.read_csv(tmp_path / "out" / "matches.tsv", sep="\t")
    assert list(table["match"]) == ["kept", "kept", "lost", "kept", "lost"]
    assert table["in_third"].tolist() == ["yes", "yes", "no", "yes", "no"]
    assert table["region"].fillna(0).tolist() == [1, 1, 0, 1, 0]
    check_tables((tmp_path / "out" / f"{kind}.tsv" for kind in ("lesions", "matches")), scan="sub-01")
    row = result.lesions.iloc[0]
    assert row["cnr_before"] == row["cnr_after"] > 10
    assert row["suv_mean_error_after"] == abs(row["suv_mean_after"] - row["suv_mean_reference"]) > 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "after with reference" in page
    assert "data:image/webp" in page


def test_given_lesions_are_kept_where_both_images_show_them(scan, identity, tmp_path):
    labels = np.zeros((16, 16, 16), dtype=np.int32)
    labels[3:5, 3:5, 3:5] = 7  # nothing is there
    labels[6:10, 6:10, 6:10] = 2
    mask = write_label_map(Regions(labels, "by hand"), tmp_path / "r_dseg.nii.gz", grid=read_pet(scan).grid)
    denoise_scan(scan, tmp_path / "out", identity, regions=RegionRule(given=mask))
    table = pd.read_csv(tmp_path / "out" / "matches.tsv", sep="\t")
    assert table[["match", "region"]].to_numpy().tolist() == [["kept", 2]]
    assert "seen is a local maximum above 1.5 x background" in table["method"][0]


def test_the_strength_is_in_every_output(scan, identity, tmp_path):
    run = denoise_scan(scan, tmp_path / "out", replace(identity, strength=0.5)).run
    assert run["strength"] == 0.5
    sidecar = json.loads((tmp_path / "out" / "sub-01_desc-denoised_pet.json").read_text())
    assert sidecar["DenoisingStrength"] == 0.5
    assert sidecar["Description"] == "Denoised PET (identity, strength 0.5)"
    assert "Denoised by identity, strength 0.5." in sidecar["Provenance"]
    assert "<dt>strength</dt><dd>0.5</dd>" in (tmp_path / "out" / "report.html").read_text()


def test_noise_unlike_that_of_the_training_is_told(scan, identity, tmp_path, monkeypatch):
    deviations = {"quiet": 0.123, "coarse": 4.2}
    monkeypatch.setattr(Denoiser, "style_deviation", lambda self, series: deviations)
    run = denoise_scan(scan, tmp_path / "out", identity).run
    assert run["style_deviation_sd"] == {"quiet": 0.12, "coarse": 4.2}
    (told,) = [warning for warning in run["warnings"] if "more correlated between voxels (+4.2 SD)" in warning]
    assert "noise: correlation in plane" in run["trust"]["outside_of_training"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "more correlated between voxels (+4.2 SD)" in page
    assert page.index("more correlated between voxels") < page.index("Images</h2>")  # warnings come first
    assert told.startswith("the noise is unlike that of the training scans")
    assert '<td class="first marked">+4.2 SD</td>' in page
    assert '<td class="first">+0.1 SD</td>' in page


def test_results_carry_a_digest_of_their_source(scan, identity, body_series, tmp_path):
    first = denoise_scan(scan, tmp_path / "a", identity).run["source_sha256"]
    sidecar = json.loads((tmp_path / "a" / "sub-01_desc-denoised_pet.json").read_text())
    assert sidecar["DenoisingSourceSHA256"] == first
    write_nifti(body_series(seed=1), scan)
    assert denoise_scan(scan, tmp_path / "b", identity).run["source_sha256"] != first


@pytest.mark.parametrize("field", ["threshold", "min_volume"])
@pytest.mark.parametrize("value", [math.inf, math.nan, -1.0])
def test_a_rule_of_regions_is_finite(field, value):
    with pytest.raises(PETError, match="expected finite numbers"):
        RegionRule(**{field: value})


def test_regions_of_a_reader_are_measured_as_they_are(scan, identity, tmp_path):
    labels = np.zeros((16, 16, 16), dtype=np.int32)
    labels[3:5, 3:5, 3:5] = 7
    labels[8:10, 8:10, 8:10] = 2
    grid = read_pet(scan).grid
    mask = write_label_map(
        Regions(labels, "by hand", names={7: "node", 2: "spleen"}), tmp_path / "r_dseg.nii.gz", grid=grid
    )
    result = denoise_scan(scan, tmp_path / "out", identity, regions=RegionRule(given=mask))
    assert list(result.lesions["region"]) == [2, 7]
    image = read_pet(scan).suv
    np.testing.assert_allclose(
        result.lesions["suv_mean_before"], [image[labels == n].mean() for n in (2, 7)], rtol=1e-6
    )
    assert result.lesions["found_in"].isna().all()
    names = pd.read_csv(tmp_path / "out" / "sub-01_dseg.tsv", sep="\t").set_index("index")["name"]
    assert dict(names) == {2: "spleen", 7: "node"}
    one = denoise_scan(scan, tmp_path / "one", identity, regions=RegionRule(given=mask, names=("node",)))
    assert list(one.lesions["region"]) == [7]
    with pytest.raises(PETError, match="no such file"):
        denoise_scan(scan, tmp_path / "none", identity, regions=RegionRule(given=tmp_path / "nothing.nii.gz"))
    assert not (tmp_path / "none").exists()
    with pytest.raises(PETError, match="node is asked for, but no regions are given"):
        RegionRule(names=("node",))


def test_the_published_rule_takes_the_images_as_they_are(scan, identity, tmp_path):
    denoise_scan(scan, tmp_path / "out", identity, regions=RegionRule(delineation="suv4"))
    table = pd.read_csv(tmp_path / "out" / "lesions.tsv", sep="\t")
    assert table["volume_ml"].tolist() == [64 * 0.125]  # 4 x 4 x 4 voxels of 5 mm
    assert table["method"].tolist() == ["fixed SUV >= 4 in either image, >= 1 mL, 26-connectivity"]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_voxel_that_no_scan_has_is_told_and_does_not_reach_the_network_as_it_is(
    scan, body_series, identity, tmp_path, sign
):
    wrong = body_series()
    wrong.suv[0, 0, 0] = sign * 1e5
    write_nifti(wrong, scan)
    seen = []

    class Watched(nn.Identity):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(float(x.abs().max()))
            return x

    result = denoise_scan(scan, tmp_path / "out", replace(identity, network=Watched()))
    assert seen == [500.0]  # SUV 1000 in units of SUV 2
    warning = result.run["warnings"][0]  # after it may come that so much signal was taken away
    assert warning.startswith("1 voxels beyond SUV 1000 ")
    assert warning in (tmp_path / "out" / "report.html").read_text()
    assert "Voxels beyond SUV 1000 entered as SUV 1000." in result.after.provenance[-1]


def test_the_bits_of_a_sound_scan_are_those_without_the_limit(body_series, identity):
    series = body_series()
    assert np.array_equal(identity(series).suv, series.suv)
    assert series.with_implausible_voxels_noted() is series


@pytest.mark.parametrize("workflow", ["denoise", "insert noise"])
def test_a_nuclide_without_positrons_is_refused(body_series, identity, tmp_path, workflow):
    path = write_nifti(body_series(radionuclide="Lu-177"), tmp_path / "sub-01_pet.nii.gz")
    run = {
        "denoise": lambda: denoise_scan(path, tmp_path / "out", identity),
        "insert noise": lambda: insert_noise_into_scan(path, tmp_path / "out", [4.0]),
    }
    with pytest.raises(PETError, match=r"sub-01_pet\.nii\.gz: radionuclide Lu-177 emits no positrons"):
        run[workflow]()
    assert not (tmp_path / "out").exists()


def test_a_programmers_mistake_keeps_its_traceback(scan, identity, tmp_path):
    class Wrong(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layres(x)

    with pytest.raises(AttributeError, match="layres") as caught:
        denoise_scan(scan, tmp_path / "out", replace(identity, network=Wrong()))
    assert line_for_user(caught.value) is None
    assert line_for_user(ValueError("shapes differ")) is None


@pytest.mark.parametrize("error", [MemoryError("Unable to allocate 9 GiB"), RuntimeError("can't allocate memory: 9")])
def test_memory_that_does_not_suffice_is_one_line_that_names_the_scan(scan, identity, tmp_path, error):
    class Greedy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise error

    with pytest.raises(PETError, match=r"sub-01_pet\.nii\.gz: memory does not suffice to denoise 16 x 16 x 16 voxels"):
        denoise_scan(scan, tmp_path / "out", replace(identity, network=Greedy()))


def test_memory_is_asked_for_before_the_network_runs(scan, identity, tmp_path, monkeypatch):
    class Never(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            pytest.fail("minutes of work")

    n_bytes = 16 * 4 * 16**3
    monkeypatch.setattr("pipeline.workflow.denoise.free_memory", lambda: n_bytes - 1)
    with pytest.raises(PETError, match=r"sub-01_pet\.nii\.gz: 16 x 16 x 16 voxels need about .* GiB of memory"):
        denoise_scan(scan, tmp_path / "out", replace(identity, network=Never()))
    monkeypatch.setattr("pipeline.workflow.denoise.free_memory", lambda: n_bytes)
    denoise_scan(scan, tmp_path / "out", identity)


def test_errors_of_the_inferer_name_the_file(scan, tmp_path):
    denoise = Denoiser.from_bundle(device="cpu")
    with pytest.raises(PETError, match=r"sub-01_pet\.nii\.gz: memory"):
        denoise_scan(scan, tmp_path / "out", replace(denoise, inferer=_Refusing()))


class _Refusing(SimpleInferer):
    def __call__(self, inputs, network, *args, **kwargs):
        raise PETError(f"{inputs.meta['filename_or_obj']}: memory")


def test_regions_of_noise_are_no_segments(identity, tmp_path, monkeypatch):
    scan = save_series(slices_of(Body()), tmp_path / "scan")
    monkeypatch.setattr("pipeline.workflow.region_files.MOST_REGIONS", 0)
    run = denoise_scan(scan, tmp_path / "out", identity, regions=RegionRule(delineation="suv0.5")).run
    assert run["dicom"] == "written"
    assert re.fullmatch(
        r"not written, \d+ regions were drawn, most of them noise, expected at most 0", run["dicom_regions"]
    )
    assert not (tmp_path / "out" / "dicom_regions").exists()
