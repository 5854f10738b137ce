"""The recipes of docs/archives.md, run as they are printed there against a real archive: nothing is lost.

Needs the Debian packages orthanc, orthanc-dicomweb and dcmtk, and pynetdicom and dicomweb-client from pip; what is
missing is named in the reason for skipping.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pipeline.pet import read_pet

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
START_LIMIT = 60.0

ENVIRONMENT = os.environ | {"TCP_NODELAY": "1", "no_proxy": "*"}
"""As the document has it: without, every image waits for two delayed acknowledgements."""


@dataclass(frozen=True)
class Archive:
    """An archive that listens on this machine."""

    http_port: int
    dicom_port: int

    def get(self, path: str) -> object:
        """Return what Orthanc's own interface says."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=5) as answer:
            return json.load(answer)


def recipe(document: Path, heading: str, language: str) -> list[str]:
    """Return the code blocks in one language below a heading."""
    _, found, rest = document.read_text(encoding="utf-8").partition(f"\n## {heading}\n")
    assert found, f"{document.name} has no heading {heading!r}"
    return re.findall(rf"```{language}\n(.*?)```", rest.partition("\n## ")[0], re.DOTALL)


def need(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def free_ports(n_ports: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n_ports)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


@pytest.fixture(scope="module")
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


@pytest.fixture
def work(derived_folder: Path, tmp_path: Path) -> Path:
    """A folder in which the series lies as ``denoised``, as the recipes have it."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "denoised").symlink_to(derived_folder)
    return folder


def run(code: str, *, language: str, archive: Archive, folder: Path, uids: tuple[str, str]) -> str:
    """Run a block of the document with the ports of the archive in place of the document's."""
    code = code.replace("4242", str(archive.dicom_port)).replace("8042", str(archive.http_port))
    command = ["bash", "-euc", code] if language == "bash" else [sys.executable, "-c", code]
    environment = ENVIRONMENT | {"STUDY_UID": uids[0], "SERIES_UID": uids[1]}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def n_instances(archive: Archive) -> int:
    return len(archive.get("/instances"))


def assert_same(fetched: Path, suv: np.ndarray, n_files: int) -> None:
    assert len(list(fetched.iterdir())) == n_files
    np.testing.assert_array_equal(read_pet(fetched).suv, suv)


def test_c_store_and_c_get_with_dcmtk(document, archive, work, derived_folder, derived_suv, derived_uids):
    need("storescu", "getscu")
    n_files = len(list(derived_folder.iterdir()))
    store, fetch = recipe(document, "C-STORE and C-GET with DCMTK", "bash")
    run(store, language="bash", archive=archive, folder=work, uids=derived_uids)
    assert n_instances(archive) == n_files
    run(fetch, language="bash", archive=archive, folder=work, uids=derived_uids)
    assert_same(work / "fetched", derived_suv, n_files)


def test_c_store_with_pynetdicom(document, archive, work, derived_folder, derived_suv, derived_uids):
    pytest.importorskip("pynetdicom")
    need("getscu")
    n_files = len(list(derived_folder.iterdir()))
    (store,) = recipe(document, "C-STORE with pynetdicom", "python")
    said = run(store, language="python", archive=archive, folder=work, uids=derived_uids)
    assert said == f"{n_files} of {n_files} stored\n"
    assert n_instances(archive) == n_files
    _, fetch = recipe(document, "C-STORE and C-GET with DCMTK", "bash")
    run(fetch, language="bash", archive=archive, folder=work, uids=derived_uids)
    assert_same(work / "fetched", derived_suv, n_files)


def test_dicomweb(document, archive, work, derived_folder, derived_suv, derived_uids):
    pytest.importorskip("dicomweb_client")
    n_files = len(list(derived_folder.iterdir()))
    (both,) = recipe(document, "DICOMweb with dicomweb-client", "python")
    said = run(both, language="python", archive=archive, folder=work, uids=derived_uids)
    assert said == f"{n_files} of {n_files} found\n"
    assert n_instances(archive) == n_files
    assert_same(work / "fetched", derived_suv, n_files)
