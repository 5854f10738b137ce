"""A real series, or a generated one where that is absent, the series derived from it, and an archive."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest

from pipeline.pet import read_pet, write_dicom_series
from tests.interop.archives import ENVIRONMENT, PLUGIN, START_LIMIT, Archive, free_ports, need, recipe
from tests.series import Scan, save_series, slices_of


def _generated(folder: Path) -> Path:
    """Write a series with the errors that the real one has."""
    slices = slices_of(Scan(manufacturer="GE MEDICAL SYSTEMS", slope_per_slice=True, n_beds=2))
    for dataset in slices:
        dataset.BodyPartExamined = "EXTREMITY"
        dataset.pop("Laterality")
        dataset.NumberOfTimeSlices = 6
    return save_series(slices, folder)


@pytest.fixture(scope="session")
def source_folder(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The GE whole-body series if the reference data is there, else a generated series of 12 slices."""
    data = Path(os.environ.get("UNIPET_REFERENCE_DATA", repository.parent / "shared" / "data"))
    real = data / "ge_discovery_st_whole_body" / "FDG_PET" / "image"
    return real if real.is_dir() else _generated(tmp_path_factory.mktemp("generated") / "series")


@pytest.fixture(scope="session")
def derived_folder(source_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The series derived from it by changing nothing."""
    series = read_pet(source_folder)
    return write_dicom_series(series, tmp_path_factory.mktemp("derived") / "denoised", description="Identity")


@pytest.fixture(scope="session")
def derived_suv(derived_folder: Path) -> np.ndarray:
    """SUVbw of the derived series. Shape (X, Y, Z)."""
    return read_pet(derived_folder).suv


@pytest.fixture(scope="session")
def derived_uids(derived_folder: Path) -> tuple[str, str]:
    """Study and series instance UID of the derived series."""
    header = pydicom.dcmread(next(derived_folder.iterdir()), stop_before_pixels=True)
    return header.StudyInstanceUID, header.SeriesInstanceUID


@pytest.fixture(scope="session")
def document(repository: Path) -> Path:
    return repository / "docs" / "archives.md"


@pytest.fixture
def archive(document: Path, tmp_path: Path) -> Iterator[Archive]:
    """An empty Orthanc with the configuration that the document gives, but on free ports."""
    need("Orthanc")
    if not PLUGIN.is_file():
        pytest.skip(f"not installed: {PLUGIN.name} (package orthanc-dicomweb)")
    (text,) = recipe(document, "An archive of one's own, for trying", "json")
    configuration = json.loads(text)
    assert configuration["RemoteAccessAllowed"] is False
    assert configuration["DicomCheckModalityHost"] is True
    home = tmp_path / "orthanc"
    home.mkdir()
    http_port, dicom_port = free_ports(2)
    configuration |= {"HttpPort": http_port, "DicomPort": dicom_port}
    (home / "orthanc.json").write_text(json.dumps(configuration), encoding="utf-8")
    with (home / "log").open("w") as log:
        process = subprocess.Popen(["Orthanc", "orthanc.json"], cwd=home, stdout=log, stderr=log, env=ENVIRONMENT)
    try:
        opened = Archive(http_port, dicom_port)
        end = time.monotonic() + START_LIMIT
        while True:
            try:
                opened.get("/system")
                break
            except OSError:
                log_text = (home / "log").read_text(errors="replace")
                assert process.poll() is None, f"Orthanc ended: {log_text[-2000:]}"
                assert time.monotonic() < end, f"Orthanc does not answer: {log_text[-2000:]}"
                time.sleep(0.1)
        yield opened
    finally:
        process.terminate()
        process.wait(timeout=30)
