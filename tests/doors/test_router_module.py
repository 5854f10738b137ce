"""The module of a DICOM router: a series in; the derived series and result.json out; result.json alone if it fails."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from pipeline import read_pet
from pipeline.doors import run_module
from pipeline.errors import PETError
from pipeline.files import sha256_of
from tests.series import SHAPE, Scan, save_series, slices_of

IDENTITY = ("--method", "identity")


@pytest.fixture(scope="module")
def incoming(tmp_path_factory) -> Path:
    """Return a folder as a router leaves it: a series, and what the router knows of it."""
    folder = save_series(slices_of(Scan()), tmp_path_factory.mktemp("router") / "incoming")
    (folder / "task.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def outgoing(unipet, incoming):
    """Return the folder of results of a run, made beforehand and named in the environment, as routers do."""
    folder = incoming.with_name("outgoing")
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MERCURE_IN_DIR", str(incoming))
        patch.setenv("MERCURE_OUT_DIR", str(folder))
        done = unipet("module", *IDENTITY, "--send-regions")
    assert done.returncode == 0, done.stderr
    assert f"\n{SHAPE[2] + 2} DICOM files written to {folder} in " in done.stdout
    return folder


@dataclass(frozen=True)
class Denoised:
    """What `denoise_scan` returns, as far as a module asks."""

    run: dict


@pytest.fixture
def denoise(outgoing):
    """Return what stands for `denoise_scan`: it writes results that were made before."""

    def write(folder: Path, dicom: str = "written") -> Denoised:
        (folder / "dicom").mkdir(parents=True)
        (folder / "dicom_regions").mkdir()
        for path in outgoing.glob("*.dcm"):
            shutil.copy(path, folder / ("dicom" if path.name.startswith("PET") else "dicom_regions"))
        (folder / "report.html").touch()
        (folder / "run.json").touch()
        return Denoised({"dicom": dicom})

    return write


def told_in(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def assert_failed(done, folder: Path, *words: str) -> None:
    """One line, the same in result.json, and nothing else."""
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in words), done.stderr
    assert [path.name for path in folder.iterdir()] == ["result.json"]
    told = told_in(folder)
    assert told["status"] == "failed"
    assert done.stderr == f"unipet: {told['reason']}\n"


def test_the_derived_series_is_there_with_its_regions_and_what_was_done(incoming, outgoing):
    told = told_in(outgoing)
    assert told["status"] == "done"
    assert told["run"]["method"] == "identity"
    assert {series["modality"] for series in told["series"]} == {"PT", "SEG", "SR"}
    named = {name for series in told["series"] for name in series["files"]}
    assert {path.name for path in outgoing.iterdir()} == {*named, "report.html", "result.json"}
    for series in told["series"]:
        for name, digest in series["files"].items():
            assert dcmread(outgoing / name).SeriesInstanceUID == series["series_instance_uid"]
            assert sha256_of(outgoing / name) == digest
    assert len(next(s["files"] for s in told["series"] if s["modality"] == "PT")) == SHAPE[2]
    np.testing.assert_allclose(read_pet(outgoing).suv, read_pet(incoming).suv, atol=1e-3)


def test_the_result_names_no_patient(incoming, outgoing):
    patient = dcmread(next(incoming.glob("*.dcm")), stop_before_pixels=True)
    for value in (str(patient.PatientName), str(patient.PatientID)):
        assert value
        assert value not in (outgoing / "result.json").read_text()


def test_the_regions_are_not_sent_unasked(incoming, denoise, tmp_path):
    told = run_module(incoming, tmp_path / "out", denoise)
    assert [series["modality"] for series in told["series"]] == ["PT"]
    assert told == told_in(tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {*told["series"][0]["files"], "report.html", "result.json"}


def test_an_empty_folder(unipet, tmp_path):
    (tmp_path / "in").mkdir()
    done = unipet("module", tmp_path / "in", tmp_path / "out", *IDENTITY)
    assert_failed(done, tmp_path / "out", "holds no file", "expected a DICOM series")


def test_no_folder_at_all(unipet, tmp_path):
    done = unipet("module", tmp_path / "in", tmp_path / "out", *IDENTITY)
    assert_failed(done, tmp_path / "out", "is no folder")


def test_two_series(unipet, incoming, tmp_path):
    for name in ("a", "b"):
        save_series(slices_of(Scan(), name=name), tmp_path / "in" / name)
    done = unipet("module", tmp_path / "in", tmp_path / "out", *IDENTITY)
    assert_failed(done, tmp_path / "out", "2 PET series", "expected one")


def test_no_pet(unipet, incoming, tmp_path):
    shutil.copytree(incoming, tmp_path / "in")
    for path in (tmp_path / "in").glob("*.dcm"):
        dataset = dcmread(path)
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        dataset.Modality = "CT"
        dataset.save_as(path)
    done = unipet("module", tmp_path / "in", tmp_path / "out", *IDENTITY)
    assert_failed(done, tmp_path / "out", "no PET image")


def test_weights_that_are_missing_are_told_too(unipet, incoming, tmp_path):
    done = unipet("module", incoming, tmp_path / "out", "--weights", tmp_path / "none.pt")
    assert_failed(done, tmp_path / "out", "none.pt", "do not exist")


def test_a_series_that_dicom_cannot_hold_is_a_failure(incoming, denoise, tmp_path):
    with pytest.raises(PETError, match="not written, no dose"):
        run_module(incoming, tmp_path / "out", lambda folder: denoise(folder, "not written, no dose"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["result.json"]
    assert "not written, no dose" in told_in(tmp_path / "out")["reason"]


def test_an_output_that_holds_something_stays_as_it_is(unipet, incoming, outgoing, tmp_path):
    before = {path.name: path.read_bytes() for path in outgoing.iterdir()}
    done = unipet("module", incoming, outgoing, *IDENTITY)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "expected an empty folder" in done.stderr
    assert {path.name: path.read_bytes() for path in outgoing.iterdir()} == before
    done = unipet("module", incoming, incoming / "out", *IDENTITY)
    assert "lies inside the series" in done.stderr
    assert not (incoming / "out").exists()


def test_after_a_failure_the_same_folder_serves(incoming, denoise, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(PETError):
        run_module(tmp_path / "nothing", out, denoise)
    (out / ".writing-0123").mkdir()  # and what a killed run leaves
    run_module(incoming, out, denoise)
    assert told_in(out)["status"] == "done"
    assert not list(out.glob(".*"))


def test_a_full_disk(incoming, tmp_path):
    def denoise(folder: Path):
        folder.mkdir()
        (folder / "half").write_text("written")
        raise OSError(28, "No space left on device", str(folder / "half"))

    with pytest.raises(PETError, match="No space left"):
        run_module(incoming, tmp_path / "out", denoise)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["result.json"]
    assert "no space left" in told_in(tmp_path / "out")["reason"].lower()


def test_a_mistake_of_the_program_keeps_its_traceback_and_is_told(incoming, tmp_path):
    def denoise(folder: Path):
        raise KeyError("x")

    with pytest.raises(KeyError):
        run_module(incoming, tmp_path / "out", denoise)
    assert told_in(tmp_path / "out") | {"unipet_3d": ""} == {
        "status": "failed",
        "unipet_3d": "",
        "reason": "an error of the program, KeyError",
    }


ENDED = """
import sys, time
from pathlib import Path
from pipeline.doors import run_module
from pipeline.ending import end_by_signals

def denoise(folder):
    folder.mkdir()
    (folder / "half").touch()
    print("begun", flush=True)
    time.sleep(60)

end_by_signals()
run_module(Path(sys.argv[1]), Path(sys.argv[2]), denoise)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to catch")
def test_ended_by_the_router(incoming, tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", ENDED, incoming, out], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 143
    process.stdout.close()
    assert [path.name for path in out.iterdir()] == ["result.json"]
    assert told_in(out)["status"] == "ended"
