"""Tables and page of a cohort."""

import json

import pandas as pd
import pytest

from pipeline.cohort import write_summary
from pipeline.cohort.summary import options_in_words
from pipeline.pet import DicomOptions
from pipeline.workflow import DenoiseOptions, RegionRule
from pipeline.workflow.repeat import RepeatRule
from tests.cohort.cohorts import cut, denoise


def test_the_tables_have_a_row_for_every_region_and_scan_and_say_what_their_columns_mean(scans, identity, tmp_path):
    out = tmp_path / "out"
    cut(scans / "sub-02_pet.nii.gz")
    denoise(scans, out, identity)
    for name in ("cohort", "scans", "failed"):
        table = pd.read_csv(out / f"{name}.tsv", sep="\t", na_values="n/a")
        described = json.loads((out / f"{name}.json").read_text())
        assert table.columns[0] == "scan"
        assert list(described) == list(table.columns)
        assert all(len(entry["Description"]) > 5 for entry in described.values())
    regions = pd.read_csv(out / "cohort.tsv", sep="\t", na_values="n/a")
    alone = pd.read_csv(out / "sub-01" / "lesions.tsv", sep="\t", na_values="n/a")
    pd.testing.assert_frame_equal(regions[regions["scan"] == "sub-01"].reset_index(drop=True), alone)
    scan_table = pd.read_csv(out / "scans.tsv", sep="\t", na_values="n/a").set_index("scan")
    record = json.loads((out / "sub-01" / "run.json").read_text())
    assert scan_table.loc["sub-01", "noise_before_percent"] == pytest.approx(record["body"]["noise_before"])
    assert list(scan_table["status"]) == ["failed", "done", "done"]
    assert "<dt>options</dt><dd>no page of each scan</dd>" in (out / "cohort.html").read_text()
    stamp = (out / "cohort.html").stat().st_mtime_ns
    write_summary(out)
    assert (out / "cohort.html").stat().st_mtime_ns == stamp


def test_every_option_has_words():
    options = DenoiseOptions(
        regions=RegionRule(threshold=3.0),
        repeats=RepeatRule(n=10, maps=True),
        dicom=DicomOptions(units="GML", keep_private=False, deidentify=True),
        viewer=True,
    )
    assert options_in_words(options.record()) == (
        "regions: from SUV 3 g/mL on, of at least 1 mL, smoothed by 8 mm; "
        "repeats: 10 of each scan, seed 0, as on generic, attenuation of water in the body; repeat maps; viewer; "
        "DICOM in GML; no private attributes kept; de-identified"
    )
