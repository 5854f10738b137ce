"""A folder of scans: what is done is kept, and one that cannot be read does not stop the others."""

import json

import pytest

from pipeline.inference import PendingScans
from pipeline.pet.derived_files import denoised_name, denoising_fields


def test_only_what_can_be_read_and_is_not_there_yet_is_pending(tiny_cohort, tmp_path):
    pet = tiny_cohort[0] / "pet"
    names = ["sub-0001_rec-drf004", "sub-0001_rec-drf020"]
    scans = [pet / f"{name}_pet.nii.gz" for name in names]
    bad = tmp_path / "sub-0002_pet.nii.gz"
    bad.write_bytes(scans[0].read_bytes()[:1000])
    bad.with_suffix("").with_suffix(".json").write_bytes(scans[0].with_suffix("").with_suffix(".json").read_bytes())
    done = tmp_path / denoised_name(names[0])
    done.touch()
    sidecar = done.with_suffix("").with_suffix(".json")
    sidecar.write_text(json.dumps({**denoising_fields("unipet", "abc"), "Units": "g/mL"}))

    pending = PendingScans([*scans, bad], tmp_path, method="unipet", weights_sha256="abc")
    assert pending == [{"image": str(scans[1])}]
    assert len(pending.refused) == 1
    with pytest.raises(SystemExit, match=r"1 scans were left out.*sub-0002_pet"):
        pending.exit_if_refused()
    PendingScans(scans, tmp_path, method="unipet", weights_sha256="abc").exit_if_refused()
    for method, weights in (("unipet", "def"), ("other", "abc")):
        with pytest.raises(SystemExit, match="another method or other weights"):
            PendingScans(scans, tmp_path, method=method, weights_sha256=weights).exit_if_refused()
