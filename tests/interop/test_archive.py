"""The recipes of docs/archives.md, run as they are printed there against a real archive: nothing is lost.

Needs the Debian packages orthanc, orthanc-dicomweb and dcmtk, and pynetdicom and dicomweb-client from pip; what is
missing is named in the reason for skipping.
"""

from pathlib import Path

import numpy as np
import pytest

from pipeline.pet import read_pet
from tests.interop.archives import n_instances, need, recipe, run


@pytest.fixture
def work(derived_folder: Path, tmp_path: Path) -> Path:
    """A folder in which the series lies as ``denoised``, as the recipes have it."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "denoised").symlink_to(derived_folder)
    return folder


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
