"""Every command that reads scans takes a study folder and a zip of it, by the one road of `read_pet`."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage, generate_uid

from pipeline import read_pet
from pipeline.adaptation.scans import found_scans, patients_of
from pipeline.data import Store, build_manifest
from pipeline.data.manifest import Image, other_files
from pipeline.pet import write_dicom_series


def study_of(scan: Path, study: Path) -> Path:
    """Write a study of a scan: PET with and without attenuation correction, and a CT object, in one folder."""
    study.mkdir()
    for name in ("nac", "ac"):
        series = write_dicom_series(read_pet(scan), study / name, description=name, subject_id="CANARY4711")
        for path in series.iterdir():
            dataset = dcmread(path)
            dataset.PatientName, dataset.PatientID, dataset.StudyInstanceUID = "Zanzibar^Quentin", "CANARY4711", "1.2.3"
            if name == "nac":
                dataset.CorrectedImage = ["DECY"]
            dataset.save_as(path)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.Modality, dataset.SeriesInstanceUID = "CT", generate_uid()
    dataset.save_as(study / "ct.dcm")
    return study


@pytest.fixture(scope="module")
def studies(tiny_cohort, tmp_path_factory) -> Path:
    """Return a folder of the studies of one simulated patient, ``full`` and ``low``, and their archives."""
    folder = tmp_path_factory.mktemp("studies")
    for name, scan in (("full", "full"), ("low", "drf004")):
        study_of(tiny_cohort[0] / "pet" / f"sub-0001_rec-{scan}_pet.nii.gz", folder / name)
        shutil.make_archive(str(folder / name), "zip", folder / name)
    return folder


def test_suv_and_denoise(unipet, studies, tmp_path):
    said = [unipet("suv", "--json", studies / name) for name in ("low", "low.zip")]
    assert said[0].stdout == said[1].stdout
    assert "only one that is corrected for attenuation" in said[0].stdout
    done = unipet("denoise", studies / "low.zip", tmp_path / "out", "--method", "identity")
    assert done.returncode == 0, done.stderr
    (nifti,) = (tmp_path / "out").glob("*_pet.nii.gz")
    np.testing.assert_array_equal(read_pet(nifti).suv, read_pet(studies / "low" / "ac").suv)
    assert len(list((tmp_path / "out" / "dicom").iterdir())) == 64
    for path in (tmp_path / "out").rglob("*.*[nl]"):  # tables, page, records
        assert "zanzibar" not in path.read_text().lower()


def test_insert_noise_reads_up_to_the_liver(unipet, studies, tmp_path):
    for name in ("full", "full.zip"):
        done = unipet("insert-noise", studies / name, tmp_path / "out", "--drf", "4")
        # The voxels of this scan are larger than the method can work with; the study was read.
        assert done.stderr == "unipet: the liver sphere has 7 voxels, expected 30 or more\n"


def test_evaluate_a_scan(unipet, studies, tmp_path):
    tables = []
    for k, suffix in enumerate(("", ".zip")):
        full, low = studies / f"full{suffix}", studies / f"low{suffix}"
        options = ("--method", "identity", "--filter", "gaussian", "--output", tmp_path / f"{k}.tsv")
        done = unipet("evaluate", "--scan", full, "--low", f"4={low}", *options)
        assert done.returncode == 0, done.stderr
        tables.append((tmp_path / f"{k}.tsv").read_bytes())
    assert tables[0] == tables[1]


def test_prepare(unipet, studies, tiny_cohort, tmp_path):
    manifest = build_manifest("simulated", tiny_cohort[0].parent)
    images = (
        Image(role="dose", path="full", dose_reduction_factor=1),
        Image(role="dose", path="low.zip", dose_reduction_factor=4),
    )
    subject = manifest.subjects[0]
    subject = subject.model_copy(update={"images": images, **dict.fromkeys(other_files(subject))})
    manifest.model_copy(update={"subjects": (subject,)}).write(tmp_path / "manifest.yaml")
    done = unipet("prepare", tmp_path / "manifest.yaml", tmp_path / "store", "--root", studies)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(Store(tmp_path / "store").subjects[subject.id].volumes) >= 2


def test_adapt_finds_the_scans(studies, tmp_path):
    found = found_scans([studies / "full", studies / "low.zip"], results=tmp_path / "out")
    assert [scan.path.relative_to(studies).as_posix() for scan in found] == ["full/ac", "low.zip"]
    np.testing.assert_array_equal(found[1].read().suv, read_pet(studies / "low").suv)
    assert len(set(patients_of(found))) == 1


def test_several_scans_in_one_call(unipet, studies, tmp_path):
    (tmp_path / "no.zip").write_bytes(b"PK\3\4")
    scans, out = (studies / "low.zip", tmp_path / "no.zip", studies / "full"), tmp_path / "out"
    done = unipet("denoise", *scans, out, "--method", "identity")
    assert done.returncode == 1
    assert "left out" in done.stderr
    assert f"unipet: 1 of 3 scans were left out, the first because of: {scans[1]}: damaged zip" in done.stderr
    suv = [read_pet(path).suv for path in sorted(out.glob("*/*_desc-denoised_pet.nii.gz"))]
    expected = [read_pet(scans[k]).suv for k in (0, 2)]
    assert sorted(map(float, map(np.sum, suv))) == sorted(map(float, map(np.sum, expected)))
    again = unipet("denoise", scans[0], scans[2], out, "--method", "identity")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count(" already") == 2


def test_a_forgotten_output_costs_no_scan(unipet, studies):
    before = set(studies.rglob("*"))
    done = unipet("denoise", studies / "low.zip", studies / "low", studies / "full", "--method", "identity")
    assert done.returncode == 1
    assert "full: holds ac, which is no result, expected a new folder" in done.stderr
    done = unipet("denoise", studies / "low.zip", studies / "low", studies / "full", "--reference", studies / "full")
    assert "--reference, --ct and --lesions belong to one scan" in done.stderr
    assert set(studies.rglob("*")) == before
