"""The report says of every region and image the numbers of the table, with their codes and units."""

import numpy as np
import pandas as pd
import pytest
from highdicom.sr import srread
from pydicom import dcmread

from pipeline.errors import PETError
from pipeline.evaluation import lesion_table
from pipeline.pet import DicomOptions, write_dicom_series
from pipeline.regions import write_measurement_report, write_segmentation
from tests.regions.drawn_scans import drawn


@pytest.fixture(scope="module")
def table(scan):
    series, _ = scan
    table = lesion_table(series.suv, 0.9 * series.suv, drawn(), voxel_size=series.voxel_size, affine=series.affine)
    table["suv_mean_recommended"] = [2.5, np.nan, 3.0]
    table["suv_mean_recommended_low"], table["suv_mean_recommended_high"] = 2.0, 3.5
    return table


@pytest.fixture(scope="module")
def written(scan, table, tmp_path_factory):
    series, pet = scan
    folder = tmp_path_factory.mktemp("report")
    write_segmentation(drawn(), folder / "seg.dcm", series_folder=pet, grid=series.grid, kind="lesion", with_names=True)
    write_measurement_report(
        table, folder / "sr.dcm", segmentation=folder / "seg.dcm", series_folder=pet, grid=series.grid
    )
    return folder


def measured(group):
    """Return (name, derivation, unit) -> value, and the ends of the interval of the last."""
    values, ends = {}, None
    for item in group.get_measurements():
        (number,) = item.value if isinstance(item.value, list) else [item.value]
        derivation = "" if item.derivation is None else item.derivation.meaning
        values[item.name.meaning, derivation, item.unit.value] = float(number)
        properties = [x for x in item[0].get("ContentSequence", []) if x.RelationshipType == "HAS PROPERTIES"]
        if properties:
            ends = [float(x.MeasuredValueSequence[0].NumericValue) for x in properties]
            units = {x.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue for x in properties}
            assert units == {item.unit.value}
    return values, ends


def reference_of(group):
    return group.referenced_segment[0].ReferencedSOPSequence[0]


def test_every_number_of_the_table(written, table):
    report, seg = srread(written / "sr.dcm"), dcmread(written / "seg.dcm")
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert len(groups) == 3 * 2 + 2
    by_place = {(g.tracking_identifier, g.method.value): g for g in groups}
    suv = "g/ml{SUVbw}"
    for row, segment in zip(table.to_dict("records"), seg.SegmentSequence, strict=True):
        name = f"Region {row['region']}"
        for code, image in (("MEASURED", "before"), ("DENOISED", "after")):
            group = by_place[name, code]
            assert group.tracking_uid == segment.TrackingUID
            assert group.finding_type.value == "52988006"
            assert reference_of(group).ReferencedSegmentNumber == segment.SegmentNumber
            values, _ = measured(group)
            assert values == pytest.approx(
                {
                    ("SUVbw", "Maximum", suv): row[f"suv_max_{image}"],
                    ("SUVbw", "Mean", suv): row[f"suv_mean_{image}"],
                    ("SUVbw", "Peak Value Within ROI", suv): row[f"suv_peak_{image}"],
                    ("Total Lesion Glycolysis", "", "g"): row[f"tlg_{image}"],
                    ("Metabolic Volume", "", "ml"): row["volume_ml"],
                }
            )
    values, ends = measured(by_place["Region 4", "RECOMMENDED"])
    assert values == {("SUVbw", "Mean", suv): 3.0}
    assert ends == pytest.approx([0.5, 1.0])
    assert ("Region 3", "RECOMMENDED") not in by_place


def test_what_the_report_refers_to(written, scan):
    report, seg, source = dcmread(written / "sr.dcm"), dcmread(written / "seg.dcm"), dcmread(scan[0].source_files[0])
    assert report.StudyInstanceUID == source.StudyInstanceUID
    assert report.PatientID == source.PatientID
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    named = {
        series.SeriesInstanceUID: {item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence}
        for series in study.ReferencedSeriesSequence
    }
    assert named[seg.SeriesInstanceUID] == {seg.SOPInstanceUID}
    assert source.SOPInstanceUID in named[source.SeriesInstanceUID]


def test_beside_a_deidentified_series_no_true_date_stands(scan, table, tmp_path):
    series, _ = scan
    pet = write_dicom_series(
        series, tmp_path / "pet", description="Denoised", subject_id="P1", options=DicomOptions(deidentify=True)
    )
    for name in ("seg", "sr"):
        made = tmp_path / f"{name}.dcm"
        if name == "seg":
            write_segmentation(drawn(), made, series_folder=pet, grid=series.grid, kind="uptake", with_names=True)
        else:
            write_measurement_report(
                table, made, segmentation=tmp_path / "seg.dcm", series_folder=pet, grid=series.grid
            )
        source, dataset = dcmread(next(pet.iterdir())), dcmread(made)
        dates = {str(e.value)[:8] for e in dataset.iterall() if e.VR in ("DA", "DT") and e.value}
        assert dates <= {source.StudyDate, source.SeriesDate}
        assert dataset.PatientIdentityRemoved == "YES"
        assert dataset.PatientName == "P1"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.assign(region=[1, 2, 4]), "sr.dcm: region 2 is no segment of seg.dcm"),
        (lambda t: t[["region"]], "sr.dcm: no region was measured"),
        (lambda t: t.iloc[:0], "sr.dcm: no region was measured"),
    ],
)
def test_tables_that_cannot_be_reported(scan, table, written, tmp_path, change, message):
    series, pet = scan
    where = {"segmentation": written / "seg.dcm", "series_folder": pet, "grid": series.grid}
    with pytest.raises(PETError, match=message):
        write_measurement_report(change(table), tmp_path / "sr.dcm", **where)
    assert not list(tmp_path.iterdir())


def test_a_segmentation_of_another_series(scan, written, table, tmp_path):
    series, _ = scan
    other = write_dicom_series(series, tmp_path / "other", description="Other")
    with pytest.raises(PETError, match=r"seg.dcm: refers to another series"):
        write_measurement_report(
            table, tmp_path / "sr.dcm", segmentation=written / "seg.dcm", series_folder=other, grid=series.grid
        )


def test_the_table_may_lack_columns(scan, written, tmp_path):
    series, pet = scan
    where = {"segmentation": written / "seg.dcm", "series_folder": pet, "grid": series.grid}
    write_measurement_report(pd.DataFrame({"region": [4], "suv_max_after": [7.0]}), tmp_path / "sr.dcm", **where)
    (group,) = srread(tmp_path / "sr.dcm").content.get_volumetric_roi_measurement_groups()
    assert measured(group)[0] == {("SUVbw", "Maximum", "g/ml{SUVbw}"): 7.0}
