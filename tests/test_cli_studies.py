"""Every command that reads scans takes a study folder and a zip of it, by the one road of `read_pet`."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from pydicom import dcmread
from pydicom.fileset import FileSet
from pydicom.uid import CTImageStorage, generate_uid

from pipeline import PETError, read_pet
from pipeline.adaptation.scans import found_scans, patients_of
from pipeline.data import Store, build_manifest
from pipeline.data.manifest import Image, Manifest, other_files
from pipeline.evaluation import psnr
from pipeline.pet import write_dicom_series

pytestmark = pytest.mark.usefixtures("blank_figures")


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


@pytest.fixture(scope="module")
def doses(tiny_cohort, tmp_path_factory) -> Path:
    """Return a folder with 24 slices of both doses in one study: ``flat``, ``deep``, ``study.zip`` and ``disc``."""
    folder = tmp_path_factory.mktemp("doses")
    (folder / "deep").mkdir()
    (folder / "flat").mkdir()
    disc = FileSet()
    for number, (name, scan) in enumerate({"Full dose": "full", "Quarter dose": "drf004"}.items(), start=3):
        source = read_pet(tiny_cohort[0] / "pet" / f"sub-0001_rec-{scan}_pet.nii.gz")
        source = replace(source, suv=source.suv[:, :, 28:52])
        series = write_dicom_series(source, folder / "deep" / scan, description=name, subject_id="CANARY4711")
        for path in sorted(series.iterdir()):
            dataset = dcmread(path)
            dataset.StudyInstanceUID, dataset.StudyID, dataset.SeriesNumber = "1.2.3", "1", number
            dataset.save_as(path)
            disc.add(path)
            shutil.copyfile(path, folder / "flat" / f"{scan}_{path.name}")
    disc.write(folder / "disc")
    shutil.make_archive(str(folder / "study"), "zip", folder / "flat")
    return folder


@pytest.fixture(scope="module")
def of_folders(doses, tiny_cohort) -> list[np.ndarray]:
    """Return both doses as their own folders give them."""
    return [read_pet(doses / "deep" / name).suv for name in ("full", "drf004")]


@pytest.mark.parametrize("form", ["study.zip", "disc/DICOMDIR"])
def test_evaluate_takes_two_series_of_one_study(unipet, doses, of_folders, form, tmp_path):
    study, options = doses / form, ("--method", "identity", "--filter", "gaussian", "--output", tmp_path / "rows.tsv")
    done = unipet(
        "evaluate", "--scan", study, "--series", 3, "--low", f"4={study}", "--low-series", "4=quarter", *options
    )
    assert done.returncode == 0, done.stderr
    rows = pd.read_csv(tmp_path / "rows.tsv", sep="\t")
    measured = rows.loc[rows["method"] == "input", "psnr_full"].item()
    assert measured == pytest.approx(psnr(of_folders[1], of_folders[0], data_range=20), rel=1e-4)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ((), "2 PET series, expected one; choose it by number"),
        (("--series", "9"), "no PET series 9, expected one; choose it by number"),
        (("--series", "dose"), "2 PET series dose, expected one; choose it by number"),
        (
            ("--series", "3", "--low-series", "4=3"),
            "study.zip: has the voxels of the full dose, expected a scan of DRF 4",
        ),
        (("--series", "3", "--low-series", "8=4"), "--low-series 8=4: there is no --low of DRF 8, expected one"),
        (("--series", "3", "--low-series", "4"), "--low-series 4: expected DRF=SERIES with a dose reduction factor"),
        (("--series", "3", "--low-series", "4=nine"), "no PET series nine, expected one; choose it by number"),
    ],
)
def test_evaluate_refuses_what_names_no_series_in_one_line(unipet, doses, options, line):
    study = doses / "study.zip"
    low = doses / "flat" if not options or options[1] in ("9", "dose") else study
    done = unipet("evaluate", "--scan", study, "--low", f"4={low}", *options, "--method", "identity")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert line in done.stderr
    if "choose it" in line:
        assert 'number 3, PT, "Full dose", 24 images; number 4, PT, "Quarter dose", 24 images' in done.stderr


def test_an_archive_without_pet_is_refused_in_one_line(unipet, studies, tmp_path):
    (tmp_path / "ct").mkdir()
    shutil.copyfile(studies / "full" / "ct.dcm", tmp_path / "ct" / "ct.dcm")
    archive = shutil.make_archive(str(tmp_path / "ct"), "zip", tmp_path / "ct")
    for words in (
        ("suv", archive),
        ("adapt", archive, tmp_path / "out"),
        ("evaluate", "--scan", archive, "--low", f"4={studies / 'low'}", "--method", "identity"),
    ):
        done = unipet(*words)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "no PET image among 1 DICOM files (1 CT), expected a PET series" in done.stderr


def test_series_belong_to_scans_and_not_to_data_sets(unipet, tiny_cohort, tmp_path):
    done = unipet("evaluate", tiny_cohort[0].parent, "--series", 3)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "--series was given without --scan; in a manifest an image names its series: itself" in done.stderr
    done = unipet("adapt", tiny_cohort[0].parent, tmp_path / "out", "--series", 3)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "--series 3 was given for a data set, expected a choice for DICOM only" in done.stderr


@pytest.mark.parametrize("form", ["deep", "study.zip", "disc/DICOMDIR"])
def test_adapt_takes_the_series_that_is_asked_for(doses, of_folders, form, tmp_path):
    for series, suv in zip((3, "Quarter dose"), of_folders, strict=True):
        (found,) = found_scans([doses / form], results=tmp_path / "out", series=series)
        np.testing.assert_array_equal(found.read().suv, suv)
    with pytest.raises(PETError, match="no PET series 9, expected one"):
        found_scans([doses / form], results=tmp_path / "out", series=9)


def manifest_of(doses, tiny_cohort, path, **named):
    """Write a manifest with one subject of two series of an archive, and return it."""
    manifest = build_manifest("simulated", tiny_cohort[0].parent)
    factors = {"full": 1, "low": 4}
    images = tuple(Image(path="study.zip", dose_reduction_factor=f, series=named[n]) for n, f in factors.items())
    subject = manifest.subjects[0]
    update = {"images": images, "shape": (32, 32, 24), **dict.fromkeys(other_files(subject))}
    subject = subject.model_copy(update=update)
    return manifest.model_copy(update={"subjects": (subject,)}).write(path)


def test_a_manifest_names_series_of_a_study(unipet, doses, of_folders, tiny_cohort, tmp_path):
    source = manifest_of(doses, tiny_cohort, tmp_path / "manifest.yaml", full=3, low="Quarter dose")
    assert Manifest.from_file(source).subjects[0].images[0].series == 3
    checked = unipet("manifest", "check", source, doses, "--level", "voxels")
    assert "study.zip" not in checked.stdout, checked.stdout
    done = unipet("prepare", source, tmp_path / "store", "--root", doses)
    assert done.returncode == 0, done.stdout + done.stderr
    subject = Manifest.from_file(source).subjects[0].id
    for name, suv in zip(("full", "drf004"), of_folders, strict=True):
        np.testing.assert_array_equal(Store(tmp_path / "store").series(subject, name).suv, suv)
    done = unipet(
        "evaluate", source, "--root", doses, "--split", "train", "--method", "identity", "--filter", "gaussian"
    )
    assert done.returncode == 0, done.stderr
    # Another series of the same files is another image.
    manifest_of(doses, tiny_cohort, source, full=4, low=3)
    done = unipet("prepare", source, tmp_path / "store", "--root", doses)
    assert "1 changed" in done.stdout
    np.testing.assert_array_equal(Store(tmp_path / "store").series(subject, "full").suv, of_folders[1])
    # MONAI would read all of the study.
    done = unipet("manifest", "datalist", source, doses, tmp_path / "list.json")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "study.zip: a study of which series 4 is meant, expected a folder of that series alone" in done.stderr


def test_the_images_of_data_md_are_those_of_a_manifest(repository):
    block = re.search(
        r"```yaml\n(images:.*?)```", (repository / "docs" / "data.md").read_text(encoding="utf-8"), re.DOTALL
    )
    images = [Image.model_validate(entry) for entry in yaml.safe_load(block[1])["images"]]
    assert [(i.series, i.dose_reduction_factor) for i in images] == [(3, 1), ("WB MAC, 30 s", 4)]


def test_a_manifest_that_names_no_series_or_twice_the_same_is_refused(unipet, doses, tiny_cohort, tmp_path):
    source = manifest_of(doses, tiny_cohort, tmp_path / "manifest.yaml", full=None, low=7)
    done = unipet("prepare", source, tmp_path / "store", "--root", doses)
    assert done.returncode == 1
    assert "2 PET series, expected one; choose it by number, description or UID (--series; series: in a manifest)" in (
        done.stdout
    )
    manifest_of(doses, tiny_cohort, source, full=3, low=3)
    done = unipet("manifest", "check", source, doses, "--level", "files")
    assert "duplicate" in done.stdout


@pytest.mark.slow
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
    assert "--percist-reference and --ct belong to one scan" in done.stderr
    assert set(studies.rglob("*")) == before
