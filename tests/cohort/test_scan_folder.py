"""All scans of a folder, as the bundle's inference does it."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from pipeline import read_pet
from pipeline.cohort import CohortRun, ScanFolder
from pipeline.data import find_scans
from pipeline.errors import PETError
from pipeline.files import UNFINISHED, locked_folder
from pipeline.pet import write_dicom_series, write_nifti
from pipeline.workflow import denoise_scan

pytestmark = pytest.mark.usefixtures("blank_figures")


def denoise(scans: Path, results: Path, denoiser) -> list[str]:
    """Denoise a folder; return the names of the results."""
    CohortRun(ScanFolder(scans, results), denoiser).run()
    return names_in(results)


def names_in(results: Path) -> list[str]:
    return sorted(path.parent.name for path in results.glob("*/run.json"))


@pytest.fixture
def scans(body_series, tmp_path) -> Path:
    """Return a folder of two scans of different sites with one name."""
    for k, site in enumerate(("siteA", "siteB")):
        (tmp_path / "scans" / site).mkdir(parents=True)
        write_nifti(body_series(seed=k), tmp_path / "scans" / site / "sub-01_pet.nii.gz")
    return tmp_path / "scans"


def test_every_scan_gets_what_one_scan_gets(scan, identity, tmp_path):
    alone = denoise_scan(scan, tmp_path / "alone", identity)
    (tmp_path / "scans").mkdir()
    for path in tmp_path.glob("sub-01_pet.*"):
        shutil.copy(path, tmp_path / "scans")
    assert denoise(tmp_path / "scans", tmp_path / "out", identity) == ["sub-01"]
    result = tmp_path / "out" / "sub-01"
    assert {p.name for p in result.iterdir()} == {p.name for p in (tmp_path / "alone").iterdir()}
    np.testing.assert_array_equal(read_pet(result / "sub-01_desc-denoised_pet.nii.gz").suv, alone.after.suv)


def test_another_patient_of_the_same_name_is_named_apart_and_both_are_kept(scans, identity, tmp_path, caplog):
    first, second = (read_pet(path) for path in find_scans(scans))
    names = denoise(scans, tmp_path / "out", identity)
    assert [name.partition("_")[0] for name in names] == ["sub-01", "sub-01"]
    found = [read_pet(tmp_path / "out" / name / "sub-01_desc-denoised_pet.nii.gz").suv for name in names]
    assert np.array_equal(found[0], first.suv)
    assert np.array_equal(found[1], second.suv)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*_pet.nii.gz")}
    with caplog.at_level(logging.INFO):
        assert denoise(scans, tmp_path / "out", identity) == names
    assert caplog.text.count("is there already") == 2
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_one_site_after_the_other_does_not_give_one_the_result_of_the_other(scans, identity, tmp_path):
    denoise(scans / "siteA", tmp_path / "out", identity)
    names = denoise(scans / "siteB", tmp_path / "out", identity)
    assert len(names) == 2
    digests = {json.loads((tmp_path / "out" / name / "run.json").read_text())["source_sha256"] for name in names}
    assert len(digests) == 2


def test_a_scan_is_read_once(scans, identity, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(
        "pipeline.workflow.scan_run.read_pet", lambda path, **keywords: read.append(path) or read_pet(path, **keywords)
    )
    denoise(scans, tmp_path / "out", identity)
    assert sorted(map(str, read)) == find_scans(scans)


@pytest.mark.parametrize("change", [{"method": "other"}, {"weights_sha256": "abc"}, {"strength": 0.5}])
def test_results_by_another_method_are_replaced(scan, identity, tmp_path, change):
    denoise(scan.parent, tmp_path / "out", identity)
    assert denoise(scan.parent, tmp_path / "out", replace(identity, **change)) == ["sub-01"]
    ((key, value),) = change.items()
    assert json.loads((tmp_path / "out" / "sub-01" / "run.json").read_text())[key] == value


@pytest.mark.parametrize("name", ["sub-01", "sub-01_dicom"])
def test_a_folder_of_the_user_is_never_deleted(scan, identity, tmp_path, name):
    mine = tmp_path / "out" / name / "the_only_copy.dcm"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    if name == "sub-01":
        with pytest.raises(PETError, match="exists and is not an empty folder"):
            denoise(scan.parent, tmp_path / "out", identity)
    else:
        denoise(scan.parent, tmp_path / "out", identity)
    assert mine.read_text() == "mine"


def test_one_that_cannot_be_denoised_does_not_stop_the_others(scans, identity, tmp_path, caplog):
    first = Path(find_scans(scans)[0])
    first.write_bytes(first.read_bytes()[:1000])
    with pytest.raises(PETError, match=r"1 of 2 scans were left out, .*siteA/sub-01_pet\.nii\.gz: not a readable"):
        denoise(scans, tmp_path / "out", identity)
    (name,) = names_in(tmp_path / "out")
    assert name.startswith("sub-01_")  # the other has the name, once it can be read


def test_results_and_leftovers_are_no_scans(scans, identity, body_series, tmp_path):
    names = denoise(scans, scans / "results", identity)
    assert denoise(scans, scans / "results", identity) == names
    sources = find_scans(scans)
    assert len(sources) == 2  # by their run.json, whoever looks
    shutil.copytree(scans / "siteA", scans / f"{UNFINISHED}abc")
    write_nifti(body_series(), scans / f"{UNFINISHED}abc-sub-07_pet.nii.gz")
    alone = scans / "results" / names[0]
    (scans / "copied").mkdir()
    for path in alone.glob("*_pet.*"):
        shutil.copy(path, scans / "copied")
    assert find_scans(scans) == sources
    assert denoise(scans, scans, identity)  # results beside their sources
    assert [path for path in find_scans(scans) if "site" in path] == sources


def test_a_ct_beside_the_scan_is_left_alone(body_series, identity, tmp_path):
    series = body_series(
        patient_weight=70.0,
        injected_dose=3e8,
        radionuclide_half_life=6586.2,
        administration_time=-3600.0,
        reference_time=0.0,
        decay_correction="START",
    )
    for name in ("pet", "ct"):
        (tmp_path / "study").mkdir(exist_ok=True)
        write_dicom_series(series, tmp_path / "study" / name, description=name)
    for path in (tmp_path / "study" / "ct").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.Modality = "CT"
        dataset.save_as(path)
    assert find_scans(tmp_path / "study") == [str(tmp_path / "study" / "pet")]
    assert len(denoise(tmp_path / "study", tmp_path / "out", identity)) == 1


def test_a_second_run_into_the_folder_is_refused(scan, identity, tmp_path):
    with (
        locked_folder(tmp_path / "out", "denoising into it"),
        pytest.raises(PETError, match="another run is denoising into it"),
    ):
        denoise(scan.parent, tmp_path / "out", identity)


def test_names_do_not_reach_the_log_raw(body_series, identity, tmp_path, caplog):
    (tmp_path / "scans" / "a\x1b[31m\nb").mkdir(parents=True)
    write_nifti(body_series(), tmp_path / "scans" / "a\x1b[31m\nb" / "sub-01_pet.nii.gz")
    with caplog.at_level(logging.INFO):
        denoise(tmp_path / "scans", tmp_path / "out", identity)
    assert r"a\x1b[31m\nb" in caplog.text
    assert "\x1b" not in caplog.text


BUNDLE_RUN = """
import sys
from monai.bundle import run
run(config_file={file!r}, **{settings})
"""


def run_bundle(repository, tmp_path, *, before="", **settings) -> subprocess.CompletedProcess:
    """Run the bundle's inference by MONAI in a process of its own."""
    file = str(repository / "bundles" / "unipet_3d" / "configs" / "inference.yaml")
    code = before + BUNDLE_RUN.format(file=file, settings={"method": "identity", **settings})
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )


def the_line(done: subprocess.CompletedProcess) -> str:
    lines = [line for line in done.stderr.splitlines() if line.startswith("unipet: ")]
    assert "Traceback" not in done.stderr, done.stderr
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.mark.slow
def test_a_bundle_run_ends_in_one_line(repository, scan, tmp_path):
    done = run_bundle(repository, tmp_path, dataset_dir=str(tmp_path / "nowhere"), output_dir=str(tmp_path / "out"))
    assert done.returncode == 1
    assert "nowhere: no such folder" in the_line(done)
    done = run_bundle(repository, tmp_path, method="nosuch", dataset_dir=str(tmp_path), output_dir="out")
    assert done.returncode == 1
    assert "unknown method 'nosuch', expected one of unipet, bdn, " in the_line(done)
    done = run_bundle(repository, tmp_path, device="gpu", dataset_dir=str(tmp_path), output_dir="out")
    assert done.returncode == 1
    assert "device 'gpu' cannot be used, expected cpu, cuda" in the_line(done)
    done = run_bundle(repository, tmp_path, suv_scale="abc", dataset_dir=str(tmp_path), output_dir="out")
    assert done.returncode == 1
    assert "suv_scale 'abc': expected a number above 0" in the_line(done)
    done = run_bundle(repository, tmp_path, strength=2, dataset_dir=str(tmp_path), output_dir="out")
    assert done.returncode == 1
    assert "strength 2: expected a number from 0 to 1" in the_line(done)


@pytest.mark.slow
def test_a_bundle_run_takes_folders_of_digits_and_of_the_user(repository, scan, tmp_path):
    (tmp_path / "2024").mkdir()
    for path in tmp_path.glob("sub-01_pet.*"):
        shutil.move(path, tmp_path / "2024")
    done = run_bundle(repository, tmp_path, dataset_dir=2024, output_dir="~/7")
    assert done.returncode == 0, done.stderr
    run = json.loads((tmp_path / "7" / "sub-01" / "run.json").read_text())
    assert (run["method"], run["weights_sha256"]) == ("identity", None)
    assert {"cohort.html", "cohort.tsv", "scans.tsv", "failed.tsv"} <= {p.name for p in (tmp_path / "7").iterdir()}
    # The command finds that all is done: it goes the same way.
    done = subprocess.run(
        [sys.executable, "-m", "unipet", "cohort", "2024", tmp_path / "7", "--method", "identity"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 there" in done.stdout, done.stderr
    before, after = (
        read_pet(tmp_path / "2024" / "sub-01_pet.nii.gz"),
        next((tmp_path / "7").rglob("*denoised_pet.nii.gz")),
    )
    assert np.array_equal(read_pet(after).suv, before.suv)  # the label is that of what ran


@pytest.mark.slow
def test_an_ended_bundle_run_leaves_nothing_half_written(repository, scan, tmp_path):
    before = (
        "import os, signal, pipeline.workflow.denoise as d\n"
        "d.write_denoised = lambda *a, **k: os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    done = run_bundle(repository, tmp_path, before=before, dataset_dir=str(tmp_path), output_dir=str(tmp_path / "out"))
    assert done.returncode == 128 + signal.SIGTERM
    assert names_in(tmp_path / "out") == []
    assert not list((tmp_path / "out").rglob(f"{UNFINISHED}*"))
