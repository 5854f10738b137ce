"""What is written is valid BIDS in the eyes of the validator of its community (`bids-validator-deno` of PyPI)."""

import json
import shutil
import subprocess

import pytest
import torch
from monai.inferers import SimpleInferer
from torch import nn

from pipeline.cohort import CohortRun, ScanList
from pipeline.inference import Denoiser
from pipeline.pet.derived_files import describe_results
from tests.doors.bids_study import write_study
from tests.series import Scan, save_series, slices_of


@pytest.fixture(scope="session")
def errors_of():
    """Return a function that lists the errors of a data set as (code, key, place)."""
    validator = shutil.which("bids-validator-deno")
    if validator is None:
        pytest.skip("bids-validator-deno is not installed")

    def validate(folder):
        done = subprocess.run([validator, "--format", "json", folder], capture_output=True, text=True, check=False)
        issues = json.loads(done.stdout)["issues"]["issues"]
        return [(i["code"], i.get("subCode"), i.get("location")) for i in issues if i.get("severity") == "error"]

    return validate


def test_a_simulated_cohort(errors_of, tiny_cohort):
    assert errors_of(tiny_cohort[0].parent) == []


def test_denoised_scans(errors_of, tiny_cohort, tmp_path, monkeypatch):
    """From a BIDS name and from DICOM, with all that can be written, uncertainty and regions, too."""
    identity = Denoiser(
        network=nn.Identity(), inferer=SimpleInferer(), suv_scale=2.0, method="identity", device=torch.device("cpu")
    )
    monkeypatch.setattr(Denoiser, "with_uncertainty", lambda self, series: (series, series))
    bids = tiny_cohort[0] / "pet" / "sub-0001_rec-drf020_pet.nii.gz"
    dicom = save_series(slices_of(Scan()), tmp_path / "series")
    out = tmp_path / "out"
    for scan in (bids, dicom):
        (outcome,) = CohortRun(ScanList([scan], out), identity, layout="bids").outcomes()
        assert outcome.files is not None, outcome.refusal
        assert outcome.files.record()["dicom"] == "written"
    assert len(list(out.glob("sub-*/pet/*_desc-uncertainty_pet.nii.gz"))) == 2
    for kind in ("dicom", "dicom_regions", "dseg.nii.gz"):
        assert len(list(out.glob(f"sub-*/pet/*_{kind}"))) == 2
    assert errors_of(out) == []


@pytest.mark.slow
def test_the_bids_app_of_four_subjects_with_inherited_sidecars(errors_of, unipet, tmp_path):
    """One after the other as a cluster does, then all: nothing is made twice, and input and output are valid."""
    study, out = write_study(tmp_path / "study"), tmp_path / "out"
    assert errors_of(study) == []
    first = unipet("bids-app", study, out, "participant", "--participant-label", "01", "04", "--method", "identity")
    assert first.returncode == 0, first.stderr
    done = unipet("bids-app", study, out, "participant", "--method", "identity")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" already") == 3  # subject 04 has two sessions
    assert len(list(out.glob("sub-*/**/*_desc-denoised_pet.nii.gz"))) == 5
    assert errors_of(out) == []


def test_an_error_is_seen(errors_of, tmp_path):
    describe_results(tmp_path)
    path = tmp_path / "sub-dicom1" / "pet" / "sub-dicom1_desc-denoised_foo.tsv"
    path.parent.mkdir(parents=True)
    path.write_text("scan\n")
    assert "NOT_INCLUDED" in [code for code, _, _ in errors_of(tmp_path)]
