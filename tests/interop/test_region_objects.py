"""Regions and measurements as others read them: validators, dcmqi, highdicom, pydicom, SimpleITK, and an archive.

Needs the Debian packages dicom3tools, orthanc, orthanc-dicomweb and dcmtk, and dcmqi and dicomweb-client from pip; what
is missing is named in the reason for skipping.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread

from pipeline.evaluation import lesion_table
from pipeline.images import Regions
from pipeline.pet import DicomOptions, read_pet, write_dicom_series
from pipeline.pet.grid import LPS_TO_RAS, to_canonical
from pipeline.regions import read_regions, write_label_map, write_measurement_report, write_segmentation
from tests.interop.archives import ENVIRONMENT, n_instances, need, recipe, run
from tests.regions.drawn_scans import labels_by_frames


@pytest.fixture(scope="module")
def scan(derived_folder):
    return read_pet(derived_folder)


@pytest.fixture(scope="module")
def regions(scan):
    """Two that touch, and one on the last slice."""
    labels = np.zeros(scan.suv.shape, np.int32)
    labels[1:4, 2:4, 1:3] = 1
    labels[4, 2:6, 1:4] = 2
    labels[6:8, 6, -1] = 3
    return Regions(labels, "drawn by hand", names={1: "Liver met", 2: "Node <b>", 3: "Brain"})


@pytest.fixture(scope="module")
def table(scan, regions):
    table = lesion_table(scan.suv, 0.9 * scan.suv, regions, voxel_size=scan.voxel_size, affine=scan.affine)
    suv = table["suv_mean_after"]
    return table.assign(
        suv_mean_recommended=suv, suv_mean_recommended_low=0.9 * suv, suv_mean_recommended_high=1.2 * suv
    )


@pytest.fixture(scope="module")
def objects(scan, regions, table, derived_folder, tmp_path_factory):
    """A folder with ``seg.dcm``, ``sr.dcm`` and ``regions_dseg.nii.gz``."""
    folder = tmp_path_factory.mktemp("objects")
    where = {"series_folder": derived_folder, "grid": scan.grid}
    assert write_segmentation(regions, folder / "seg.dcm", kind="lesion", with_names=True, **where) is None
    write_measurement_report(table, folder / "sr.dcm", segmentation=folder / "seg.dcm", **where)
    write_label_map(regions, folder / "regions_dseg.nii.gz", grid=scan.grid)
    return folder


def on_grid(labels, affine, scan):
    """Put labels of a part of the scan's grid, with axes of any order, on the whole of it."""
    part, affine = to_canonical(labels, affine)
    start = np.linalg.inv(scan.affine) @ affine[:, 3]
    # The step between slices of a region on a single slice is nobody's; here every volume has several.
    steps = np.linalg.inv(scan.affine) @ affine - np.eye(4)
    assert np.abs(steps[:3, :3] * part.shape).max() < 0.05
    first = np.rint(start[:3]).astype(int)
    assert np.abs(start[:3] - first).max() < 0.05
    whole = np.zeros(scan.suv.shape, int)
    whole[tuple(slice(a, a + n) for a, n in zip(first, part.shape, strict=True))] = part
    return whole


def assert_valid(path, kind):
    need("dciodvfy")
    done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, errors="replace", check=False)
    lines = (done.stdout + done.stderr).splitlines()
    assert kind in lines
    assert [line for line in lines if line.startswith("Error")] == []


def test_the_validator_finds_no_error(objects):
    assert_valid(objects / "seg.dcm", "Segmentation")
    assert_valid(objects / "sr.dcm", "ComprehensiveSR")


def test_the_validator_finds_no_error_beside_a_deidentified_series(scan, regions, table, tmp_path):
    options = DicomOptions(deidentify=True)
    pet = write_dicom_series(scan, tmp_path / "pet", description="Identity", options=options)
    where = {"series_folder": pet, "grid": scan.grid}
    write_segmentation(regions, tmp_path / "seg.dcm", kind="uptake", with_names=False, **where)
    write_measurement_report(table, tmp_path / "sr.dcm", segmentation=tmp_path / "seg.dcm", **where)
    assert_valid(tmp_path / "seg.dcm", "Segmentation")
    assert_valid(tmp_path / "sr.dcm", "ComprehensiveSR")


def test_highdicom_and_pydicom_see_the_same_voxels(objects, scan, regions):
    from highdicom.seg import segread

    volume = segread(objects / "seg.dcm").get_volume(combine_segments=True)
    np.testing.assert_array_equal(on_grid(volume.array, LPS_TO_RAS @ volume.affine, scan), regions.labels)
    np.testing.assert_array_equal(labels_by_frames(dcmread(objects / "seg.dcm"), scan.grid), regions.labels)
    np.testing.assert_array_equal(read_regions(objects / "seg.dcm", scan).labels, regions.labels)


def dcmqi(program, *arguments):
    found = shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(program)
    if found is None:
        pytest.skip(f"not installed: {program} (dcmqi)")
    done = subprocess.run([found, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_dcmqi_sees_the_same_voxels_and_names(objects, scan, regions, tmp_path):
    where = ("--inputDICOM", objects / "seg.dcm", "--outputDirectory", tmp_path, "-p", "read", "-t", "nifti")
    dcmqi("segimage2itkimage", *where, "--mergeSegments")
    (path,) = tmp_path.glob("*.nii.gz")
    image = nib.load(path)
    np.testing.assert_array_equal(on_grid(np.asarray(image.dataobj), image.affine, scan), regions.labels)
    (segments,) = json.loads((tmp_path / "read-meta.json").read_text())["segmentAttributes"]
    assert [segment["SegmentLabel"] for segment in segments] == list(regions.names.values())


@pytest.mark.parametrize(
    "options", [(), ("--segmentationType", "labelmap"), ("--compress", "deflate")], ids=["binary", "labels", "deflated"]
)
def test_a_segmentation_that_dcmqi_wrote(objects, scan, regions, derived_folder, tmp_path, options):
    codes = {
        "SegmentedPropertyCategoryCodeSequence": ("49755003", "SCT", "Morphologically Abnormal Structure"),
        "SegmentedPropertyTypeCodeSequence": ("52988006", "SCT", "Lesion"),
    }
    keys = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
    coded = {name: dict(zip(keys, code, strict=True)) for name, code in codes.items()}
    segments = [
        {"labelID": number, "SegmentLabel": name, "SegmentAlgorithmType": "MANUAL", **coded}
        for number, name in regions.names.items()
    ]
    metadata = {
        "ContentCreatorName": "A^B",
        "SeriesNumber": "7",
        "InstanceNumber": "1",
        "segmentAttributes": [segments],
    }
    (tmp_path / "meta.json").write_text(json.dumps(metadata))
    dcmqi(
        "itkimage2segimage",
        *("--inputImageList", objects / "regions_dseg.nii.gz", "--inputDICOMDirectory", derived_folder),
        *("--inputMetadata", tmp_path / "meta.json", "--outputDICOM", tmp_path / "seg.dcm", *options),
    )
    read = read_regions(tmp_path / "seg.dcm", scan)
    np.testing.assert_array_equal(read.labels, regions.labels)
    assert read.names == regions.names


def test_dcmqi_reads_every_number_of_the_report(objects, table, tmp_path):
    dcmqi("tid1500reader", "--inputDICOM", objects / "sr.dcm", "--outputMetadata", tmp_path / "read.json")
    groups = json.loads((tmp_path / "read.json").read_text())["Measurements"]
    found = {}
    for group in groups:
        for item in group["measurementItems"]:
            what = item.get("derivationModifier", item["quantity"])["CodeMeaning"]
            found[group["TrackingIdentifier"], group["measurementMethod"]["CodeValue"], what] = float(item["value"])
    columns = {"suv_max": "Maximum", "suv_mean": "Mean", "suv_peak": "Peak Value Within ROI"}
    columns["tlg"] = "Total Lesion Glycolysis"
    expected = {}
    for row in table.to_dict("records"):
        for code, image in (("MEASURED", "before"), ("DENOISED", "after")):
            place = (f"Region {row['region']}", code)
            expected |= {(*place, meaning): row[f"{name}_{image}"] for name, meaning in columns.items()}
            expected[*place, "Metabolic Volume"] = row["volume_ml"]
        expected[f"Region {row['region']}", "RECOMMENDED", "Mean"] = row["suv_mean_recommended"]
    assert found == pytest.approx(expected)


def test_simpleitk_sees_the_label_map_in_its_place_and_the_frames_of_the_seg(objects, scan, regions):
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.ReadImage(str(objects / "regions_dseg.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T, regions.labels)
    for index in [(0, 0, 0), tuple(n - 1 for n in scan.suv.shape)]:
        expected = (LPS_TO_RAS @ scan.affine @ [*index, 1])[:3]
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(index), expected, atol=0.01)
    # It has no notion of segments: the frames come one after the other, and without their places.
    frames = sitk.GetArrayFromImage(sitk.ReadImage(str(objects / "seg.dcm")))
    np.testing.assert_array_equal(frames > 0, dcmread(objects / "seg.dcm").pixel_array > 0)


# ------------------------------------------------------------------------- an archive


def assert_unchanged(fetched, sent):
    """Every element is the same, and the bytes of the data set are."""
    expected = {dcmread(path).SOPInstanceUID: dcmread(path) for path in sent}
    for path in fetched:
        dataset = dcmread(path)
        assert dataset == expected.pop(dataset.SOPInstanceUID)
    assert not expected


def test_both_survive_c_store_and_c_get(document, archive, objects, tmp_path):
    need("storescu", "getscu")
    sent = [objects / "seg.dcm", objects / "sr.dcm"]
    store, fetch = recipe(document, "C-STORE and C-GET with DCMTK", "bash")
    (tmp_path / "work" / "denoised").mkdir(parents=True)
    for path in sent:
        shutil.copy(path, tmp_path / "work" / "denoised")
    run(store, language="bash", archive=archive, folder=tmp_path / "work", uids=("", ""))
    assert n_instances(archive) == 2
    fetched = []
    for path in sent:
        header = dcmread(path)
        folder = tmp_path / path.stem
        folder.mkdir()
        uids = (header.StudyInstanceUID, header.SeriesInstanceUID)
        run(fetch, language="bash", archive=archive, folder=folder, uids=uids)
        fetched += (folder / "fetched").iterdir()
    assert_unchanged(fetched, sent)


def test_both_survive_dicomweb(archive, objects, monkeypatch):
    client = pytest.importorskip("dicomweb_client.api")
    monkeypatch.setenv("no_proxy", ENVIRONMENT["no_proxy"])
    web = client.DICOMwebClient(f"http://localhost:{archive.http_port}/dicom-web")
    sent = [dcmread(objects / name) for name in ("seg.dcm", "sr.dcm")]
    web.store_instances(sent)
    for dataset in sent:
        (fetched,) = web.retrieve_series(dataset.StudyInstanceUID, dataset.SeriesInstanceUID)
        assert fetched == dataset
