"""The command line as a user meets it: results, and one line for every mistake."""

import inspect
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest

from pipeline import read_pet
from pipeline.cli.denoise import denoise
from pipeline.images import regions_in_either
from pipeline.pet import write_dicom_series, write_nifti
from pipeline.workflow import RegionRule
from tests.own_process import run_code, run_module

pytestmark = pytest.mark.usefixtures("blank_figures")


@pytest.fixture(scope="module")
def noisy(tiny_cohort) -> Path:
    return tiny_cohort[0] / "pet" / "sub-0001_rec-drf020_pet.nii.gz"


@pytest.fixture
def dicom(noisy, tmp_path) -> Path:
    return write_dicom_series(read_pet(noisy), tmp_path / "dicom_in", description="PET")


@pytest.fixture(scope="module")
def denoised(unipet, noisy, tiny_cohort, tmp_path_factory):
    """Denoise a scan: the folder of results, and how the command ended."""
    out = tmp_path_factory.mktemp("denoised") / "out"
    full = tiny_cohort[0] / "pet" / "sub-0001_rec-full_pet.nii.gz"
    return out, unipet("denoise", noisy, out, "--reference", full, "--threshold", "6")


def test_denoise_writes_everything(denoised):
    out, done = denoised
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        ".bidsignore",
        "burden.json",
        "burden.tsv",
        "changes.json",
        "changes.tsv",
        "dataset_description.json",
        "dicom",
        "dicom_regions",
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
        "sub-0001_rec-drf020_desc-denoised_pet.json",
        "sub-0001_rec-drf020_desc-denoised_pet.nii.gz",
        "sub-0001_rec-drf020_dseg.json",
        "sub-0001_rec-drf020_dseg.nii.gz",
        "sub-0001_rec-drf020_dseg.tsv",
    ]
    assert re.search(r"PSNR against the reference .*: input \d+\.\d\d dB, output \d+\.\d\d dB", done.stdout)


def test_run_record_says_what_was_done(denoised, repository):
    run = json.loads((denoised[0] / "run.json").read_text())
    assert run["method"] == "unipet"
    from pipeline.inference import sha256_of

    assert run["weights_sha256"] == sha256_of(repository / "bundles" / "unipet_3d" / "models" / "model.pt")
    assert set(run["seconds"]) >= {"reading", "denoising", "writing", "measuring"}
    assert {"python", "torch", "monai"} <= set(run["versions"])
    assert run["suv_provenance"]


def test_lesion_table_measures_both_images(denoised, noisy):
    table = pd.read_csv(denoised[0] / "lesions.tsv", sep="\t")
    before, after = read_pet(noisy), read_pet(denoised[0] / "sub-0001_rec-drf020_desc-denoised_pet.nii.gz")
    assert table["suv_max_before"].max() == pytest.approx(before.suv.max(), rel=1e-4)
    assert table["suv_max_after"].max() == pytest.approx(after.suv.max(), rel=1e-4)
    assert table["method"].str.contains("SUV >= 6").all()


def test_identity_gives_back_what_came_in(unipet, dicom, tmp_path):
    done = unipet("denoise", dicom, tmp_path / "out", "--method", "identity")
    assert done.returncode == 0, done.stderr
    source = read_pet(dicom)
    (nifti,) = (tmp_path / "out").glob("*_desc-denoised_pet.nii.gz")
    np.testing.assert_allclose(read_pet(nifti).suv, source.suv, rtol=1e-6)
    copy = read_pet(tmp_path / "out" / "dicom")
    for k, path in enumerate(copy.source_files):
        half_slope = float(pydicom.dcmread(path, stop_before_pixels=True).RescaleSlope) / 2 * copy.suvbw_factor
        assert np.abs(copy.suv[:, :, k] - source.suv[:, :, k]).max() <= half_slope * (1 + 1e-3) + 1e-7
    assert json.loads((tmp_path / "out" / "run.json").read_text())["weights_sha256"] is None


def test_nothing_of_the_patient_reaches_names_or_text(unipet, dicom, tmp_path):
    for path in dicom.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.PatientName, dataset.PatientID = "Smith^Jane", "MRN12345"
        dataset.save_as(path)
    folder = tmp_path / "Smith_Jane"
    shutil.move(dicom, folder)
    assert unipet("denoise", folder, tmp_path / "out", "--method", "identity").returncode == 0
    for path in (tmp_path / "out").rglob("*"):
        assert "smith" not in path.name.lower()
        if path.suffix in (".json", ".html", ".tsv"):
            # Figures are base64, in which any five letters come up some day.
            text = re.sub(r"data:image/png;base64,[a-z0-9+/=]+", "", path.read_text().lower())
            assert "smith" not in text
            assert "mrn12345" not in text


def test_options_of_the_dicom_series(unipet, dicom, tmp_path):
    for path in dicom.iterdir():
        edit(path, lambda d: d.private_block(0x0009, "SOMEBODY", create=True).add_new(1, "LO", "MRN12345"))
    options = ("--method", "identity", "--units", "gml", "--no-private", "--deidentify")
    done = unipet("denoise", dicom, tmp_path / "out", *options)
    assert done.returncode == 0, done.stderr
    for path in (tmp_path / "out" / "dicom").iterdir():
        dataset = pydicom.dcmread(path)
        assert (dataset.Units, dataset.SUVType, dataset.PatientIdentityRemoved) == ("GML", "BW", "YES")
        assert b"MRN12345" not in path.read_bytes()
    copy, source = read_pet(tmp_path / "out" / "dicom"), read_pet(dicom)
    np.testing.assert_allclose(copy.suv, source.suv, atol=source.suv.max() / 65000)


def test_suv_is_explained_in_lines_and_in_json(unipet, dicom, noisy, tmp_path):
    done = unipet("suv", dicom)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^SUVbw factor +\d\.\d{6}e-\d\d$", done.stdout, re.MULTILINE)
    assert re.search(r"^- Uptake \d+ s from RadiopharmaceuticalStartDateTime\.$", done.stdout, re.MULTILINE)
    entries = json.loads(unipet("suv", "--json", dicom).stdout)
    assert entries["suvbw_factor"] == read_pet(dicom).suvbw_factor
    assert json.loads(unipet("suv", "--json", noisy).stdout)["header"]["units"] == "GML"
    for path in dicom.iterdir():
        edit(path, lambda d: setattr(d, "Units", "PROPCNTS"))
    assert "Units is PROPCNTS" in assert_refused(unipet("suv", dicom), tmp_path / "out")


def test_one_of_several_series_is_chosen(unipet, dicom, tmp_path):
    series = replace(read_pet(dicom), suv=2 * read_pet(dicom).suv)
    other = write_dicom_series(series, tmp_path / "other", description="twice")
    for path in other.iterdir():
        edit(path, lambda d: setattr(d, "SeriesNumber", 4711))
        shutil.copy(path, dicom / f"other_{path.name}")
    assert unipet("suv", dicom).returncode == 1
    assert unipet("suv", dicom, "--series", 4711).returncode == 0
    done = unipet("denoise", dicom, tmp_path / "out", "--method", "identity", "--series", 4711)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(read_pet(tmp_path / "out" / "dicom").suv, read_pet(other).suv, rtol=1e-3, atol=1e-3)


def edit(path: Path, change) -> None:
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path)


def assert_refused(done, out: Path) -> str:
    """Return the one line of an error after which nothing is left."""
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("unipet: ")
    assert not out.exists()
    if out.parent.is_dir():
        assert not [path for path in out.parent.iterdir() if path.name.startswith(".writing")]
    return lines[0]


def test_strength_is_the_part_of_the_change_and_is_in_the_dicom_series(unipet, dicom, tmp_path):
    done = unipet("denoise", dicom, tmp_path / "none", "--method", "identity", "--strength", 0)
    assert done.returncode == 0, done.stderr
    (nifti,) = (tmp_path / "none").glob("*_desc-denoised_pet.nii.gz")
    np.testing.assert_array_equal(read_pet(nifti).suv, read_pet(dicom).suv)
    dataset = pydicom.dcmread(next((tmp_path / "none" / "dicom").iterdir()))
    assert "method identity, strength 0" in dataset.DerivationDescription
    assert dataset.SeriesDescription == "Denoised PET (identity, strength 0)"
    line = assert_refused(unipet("denoise", dicom, tmp_path / "out", "--strength", 1.5), tmp_path / "out")
    assert line == "unipet: strength 1.5: expected a number from 0 to 1"


def test_a_broken_series_ends_in_one_line(unipet, dicom, tmp_path):
    sorted(dicom.iterdir())[5].unlink()
    line = assert_refused(unipet("denoise", dicom, tmp_path / "out", "--method", "identity"), tmp_path / "out")
    assert str(dicom) in line


def test_nifti_without_sidecar_is_refused(unipet, noisy, tmp_path):
    shutil.copy(noisy, tmp_path / noisy.name)
    line = assert_refused(unipet("denoise", tmp_path / noisy.name, tmp_path / "out"), tmp_path / "out")
    assert "sidecar" in line


def test_output_below_a_file_is_refused(unipet, noisy, tmp_path):
    (tmp_path / "file").touch()
    assert_refused(
        unipet("denoise", noisy, tmp_path / "file" / "out", "--method", "identity"), tmp_path / "file" / "out"
    )


def test_output_folder_with_content_is_left_alone(unipet, noisy, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    done = unipet("denoise", noisy, tmp_path / "out", "--method", "identity")
    assert done.returncode == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--method", "magic"], "unknown method 'magic', expected one of unipet, bdn, "),
        (["--bundle", "/nowhere"], "/nowhere: not a bundle"),
        (["--device", "cuda:9"], "cuda:9"),
        (["--threshold", "0"], "threshold"),
        (["--regions", "fixed"], "regions 'fixed' are not known, expected one of: smoothed, suv2.5, suv4, 41%"),
        (["--percist-reference", "2.1,0.2"], "a PERCIST reference is given with regions smoothed, expected regions"),
        (["--exclude", "/nowhere.nii.gz"], "/nowhere.nii.gz: no such file"),
        (["--units", "CNTS"], "units 'CNTS' cannot be written, expected one of BQML, GML"),
        (["--reference", "/nowhere.nii.gz"], "/nowhere.nii.gz"),
    ],
)
def test_wrong_options_end_in_one_line(unipet, noisy, tmp_path, options, said):
    assert said in assert_refused(unipet("denoise", noisy, tmp_path / "out", *options), tmp_path / "out")


def test_damaged_weights_are_named(unipet, noisy, tmp_path, repository):
    bundle = tmp_path / "bundle"
    shutil.copytree(repository / "bundles" / "unipet_3d" / "configs", bundle / "configs")
    (bundle / "models").mkdir()
    (bundle / "models" / "model.pt").write_bytes(b"not weights")
    line = assert_refused(unipet("denoise", noisy, tmp_path / "out", "--bundle", bundle), tmp_path / "out")
    assert "model.pt: not weights" in line


@pytest.mark.parametrize("command", ["denoise", "suv", "simulate", "evaluate"])
def test_help_shows_an_example(unipet, command):
    done = unipet(command, "--help")
    assert done.returncode == 0
    assert f"Example: unipet {command}" in done.stdout


def test_simulate_refuses_an_unknown_scanner(unipet, tmp_path):
    line = assert_refused(unipet("simulate", tmp_path / "out", "--scanner", "kaleidoscope"), tmp_path / "out")
    assert "kaleidoscope" in line


def test_output_inside_the_series_is_refused(unipet, dicom):
    n_files = len(list(dicom.iterdir()))
    line = assert_refused(unipet("denoise", dicom, dicom / "out", "--method", "identity"), dicom / "out")
    assert "lies inside the series" in line
    assert len(list(dicom.iterdir())) == n_files


def test_a_volume_of_one_plane_is_refused_before_it_is_denoised(unipet, noisy, tmp_path):
    series = read_pet(noisy)
    path = write_nifti(replace(series, suv=series.suv[:, :, :1]), tmp_path / "flat.nii.gz")
    line = assert_refused(unipet("denoise", path, tmp_path / "out", "--method", "identity"), tmp_path / "out")
    assert "flat.nii.gz: volume has shape (32, 32, 1)" in line


def test_a_reference_elsewhere_is_refused(unipet, noisy, tmp_path):
    series = read_pet(noisy)
    moved = series.affine.copy()
    moved[0, 3] += 5
    path = write_nifti(replace(series, affine=moved), tmp_path / "moved.nii.gz")
    done = unipet("denoise", noisy, tmp_path / "out", "--method", "identity", "--reference", path)
    assert "5.0 mm elsewhere, expected one grid" in assert_refused(done, tmp_path / "out")


def test_an_infinite_psnr_is_no_number_in_json(unipet, noisy, tmp_path):
    done = unipet("denoise", noisy, tmp_path / "out", "--method", "identity", "--reference", noisy)
    assert "input infinite (equal images)" in done.stdout, done.stderr
    run = json.loads((tmp_path / "out" / "run.json").read_text(), parse_constant=pytest.fail)
    assert run["psnr_input_db"] is None


def test_termination_leaves_nothing_behind(noisy, tmp_path):
    script = "import os, signal\nfrom pipeline import cli\nimport pipeline.workflow.denoise as workflow\n"
    script += "workflow.write_denoised = lambda *a, **k: os.kill(os.getpid(), signal.SIGTERM)\ncli.main()"
    done = run_code(script, "denoise", noisy, tmp_path / "out", "--method", "identity")
    assert done.returncode == 143
    assert list(tmp_path.iterdir()) == []


# Whole commands of `denoise` and `bundle` run in processes of their own in test_wheel.py, `train` in test_cli_train.py.
@pytest.mark.parametrize(
    ("arguments", "returncode", "said"),
    [
        (["suv", "{scan}"], 0, "SUVbw factor"),
        (["manifest", "build", "simulated", "{cohort}", "{out}/m.yaml"], 0, "m.yaml written: 2 subjects"),
        (["simulate", "{out}/s", "--tracer", "water"], 1, "unipet: tracer 'water' is not known"),
        (["prepare", "{out}/none.yaml", "{out}/store"], 1, "none.yaml: "),
        (["insert-noise", "{out}/none", "{out}/low"], 1, "unipet: {out}/none: "),
        (["evaluate", "--tuning", "{cohort}"], 1, "unipet: nothing to measure on was given"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_every_command_runs_in_a_process_of_its_own(arguments, returncode, said, noisy, tiny_cohort, tmp_path):
    names = {"scan": noisy, "cohort": tiny_cohort[0].parent, "out": tmp_path}
    done = run_module("unipet", *(a.format(**names) for a in arguments))
    assert done.returncode == returncode, done.stderr
    assert said.format(**names) in done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == returncode


def test_the_smallest_volume_is_the_same_in_the_function_the_job_and_the_command():
    assert inspect.signature(regions_in_either).parameters["min_volume"].default == RegionRule().smallest == 1.0
    assert inspect.signature(denoise).parameters["min_volume"].default is RegionRule().min_volume is None
