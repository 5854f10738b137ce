"""Several scans that were named one by one."""

import json

import pytest

from pipeline.cohort import CohortRun, ScanList
from pipeline.errors import PETError
from pipeline.pet import DicomOptions, write_nifti
from pipeline.workflow import DenoiseOptions, RegionRule

pytestmark = pytest.mark.usefixtures("blank_figures")


def test_scans_that_were_named_are_denoised_with_the_same_options(body_series, identity, tmp_path):
    named = [write_nifti(body_series(seed=k), tmp_path / f"sub-0{k}_pet.nii.gz") for k in (1, 2)]
    named.insert(1, tmp_path / "nowhere.zip")

    def outcomes(**options):
        work = CohortRun(ScanList(named, tmp_path / "out"), identity, options=DenoiseOptions(**options))
        return list(work.outcomes())

    rule = RegionRule(threshold=2.0)
    found = outcomes(regions=rule)
    assert [outcome.scan.path for outcome in found] == named
    assert [bool(outcome.refusal) for outcome in found] == [False, True, False]
    assert "nowhere.zip: no such file or folder" in found[1].refusal
    for outcome in (found[0], found[2]):
        record = json.loads((outcome.files.folder / "run.json").read_text())
        assert record["options"] == {"regions": {"threshold": 2.0, "min_volume": 1.0, "fwhm": 8.0}}
        assert "SUV >= 2" in record["regions"]
    assert sorted(outcome.status for outcome in outcomes(regions=rule)) == ["failed", "there", "there"]
    anew = outcomes(dicom=DicomOptions(units="GML"))
    assert [outcome.status for outcome in anew] == ["made anew", "failed", "made anew"]
    assert json.loads((anew[0].files.folder / "run.json").read_text())["options"] == {"units": "GML"}


def test_scans_that_were_left_out_are_counted_in_the_end(identity, tmp_path):
    scans = ScanList([tmp_path / "a.zip", tmp_path / "b.zip"], tmp_path / "out")
    with pytest.raises(PETError, match=r"2 of 2 scans were left out, the first because of: .*a\.zip: no such file"):
        CohortRun(scans, identity).run()
