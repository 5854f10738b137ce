"""Scans that cannot be denoised have their reasons, and a full disk blames none."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from pipeline.errors import PETError
from pipeline.pet import write_nifti
from tests.cohort.cohorts import cut, denoise, leftovers, results, status_of


def without_sidecar(path: Path) -> None:
    path.with_name("sub-00_pet.json").write_text("[]")


def change(path: Path, **keys: object) -> None:
    sidecar = path.with_name("sub-00_pet.json")
    content = json.loads(sidecar.read_text()) | keys
    sidecar.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def image(path: Path, suv: np.ndarray, affine: np.ndarray | None = None) -> None:
    nib.save(nib.Nifti1Image(suv.astype(np.float32), np.eye(4) * 5 if affine is None else affine), path)


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "cut": (cut, "not a readable NIfTI file, damaged or cut short"),
    "empty": (lambda path: path.write_bytes(b""), "not a readable NIfTI file"),
    "no sidecar": (without_sidecar, "holds a list, expected an object"),
    "unknown units": (lambda path: change(path, Units="cps"), "Units is 'cps', expected"),
    "no weight": (lambda path: change(path, Units="Bq/mL"), "SUV"),
    "not JSON": (lambda path: path.with_name("sub-00_pet.json").write_text("{"), "not JSON"),
    "no positrons": (lambda path: change(path, TracerRadionuclide="Lu177"), "emits no positrons"),
    "two frames": (lambda path: image(path, np.ones((8, 8, 8, 2))), "expected one static volume"),
    "not finite": (lambda path: image(path, np.full((8, 8, 8), np.nan)), "not finite"),
    "flat": (lambda path: image(path, np.ones((8, 8, 1))), "expected at least 2 voxels each way"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_scan_that_cannot_be_denoised_fails_with_the_right_reason(body_series, identity, tmp_path, kind):
    scans, out = tmp_path / "SMITH", tmp_path / "out"
    scans.mkdir()
    path = write_nifti(body_series(), scans / "sub-00_pet.nii.gz")
    spoil, reason = BROKEN[kind]
    spoil(path)
    assert denoise(scans, out, identity) == {"sub-00_pet.nii.gz": "failed"}
    (row,) = pd.read_csv(out / "failed.tsv", sep="\t").to_dict("records")
    assert reason in row["reason"]
    assert reason in (out / row["log"]).read_text()
    page = (out / "cohort.html").read_text()
    assert row["scan"] in page
    assert "SMITH" not in page
    assert status_of(out) == {"total": 1, "done": 0, "failed": 1, "running": 0, "pending": 0}
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == [".cohort", "logs"]


def test_a_scan_that_failed_is_tried_again_when_it_changed_or_when_that_is_asked_for(
    scans, identity, body_series, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    cut(scans / "sub-01_pet.nii.gz")
    assert list(denoise(scans, out, identity).values()).count("failed") == 1
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.workflow.scan_run.read_pet", lambda *a, **k: pytest.fail("nothing is to be read"))
        assert list(denoise(scans, out, identity).values()).count("failed") == 1
    read = []
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.workflow.scan_run.read_pet", lambda path, **k: read.append(path) or 1 / 0)
        assert list(denoise(scans, out, identity, retry_failed=True).values()).count("failed") == 1
    assert [path.name for path in read] == ["sub-01_pet.nii.gz"]
    (row,) = pd.read_csv(out / "failed.tsv", sep="\t").to_dict("records")
    assert "unexpected ZeroDivisionError: division by zero" in row["reason"]
    assert "Traceback" in (out / row["log"]).read_text()
    write_nifti(body_series(seed=1), scans / "sub-01_pet.nii.gz")
    assert denoise(scans, out, identity)["sub-01_pet.nii.gz"] == "made"
    assert pd.read_csv(out / "failed.tsv", sep="\t").empty


def test_a_disk_that_is_full_stops_the_run_and_blames_no_scan(scans, identity, tmp_path, monkeypatch):
    out = tmp_path / "out"
    from pipeline.workflow import denoise as module

    write, written = module.write_denoised, []

    def fills(*arguments, **keywords):
        if written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(1)
        return write(*arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_denoised", fills)
        with pytest.raises(PETError, match=r"(?i)no space left on device, 2 scans are left, expected room"):
            denoise(scans, out, identity)
    assert status_of(out) == {"total": 3, "done": 1, "failed": 0, "running": 0, "pending": 2}
    assert list(denoise(scans, out, identity).values()) == ["there", "made", "made"]
    denoise(scans, tmp_path / "fresh", identity)
    assert results(out) == results(tmp_path / "fresh")
    assert not leftovers(out)
