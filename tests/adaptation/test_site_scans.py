"""What is taken for scans of a site, and what is refused by name before a minute is spent."""

import json
from dataclasses import replace

import numpy as np
import pytest

from pipeline.adaptation import adapt
from pipeline.adaptation.pairs import held_out_of
from pipeline.adaptation.protocol import check_full_doses, common_protocol
from pipeline.adaptation.scans import MOST_SCANS, found_scans, patients_of
from pipeline.errors import PETError
from pipeline.pet import write_dicom_series


def test_folders_files_dicom_bids_and_manifests_are_read(site, tiny_cohort, full_doses, tmp_path):
    results = tmp_path / "out"
    (tmp_path / "scans").mkdir()
    write_dicom_series(full_doses[0], tmp_path / "scans" / "dicom", description="PET")
    (tmp_path / "scans" / "scan1.nii.gz").symlink_to(site / "scan1.nii.gz")
    (tmp_path / "scans" / "scan1.json").symlink_to(site / "scan1.json")
    assert [s.path.name for s in found_scans([site], results=results)] == [f"scan{n}.nii.gz" for n in (1, 2, 3)]
    assert [s.path.name for s in found_scans([tmp_path / "scans"], results=results)] == ["dicom", "scan1.nii.gz"]
    assert [s.path.name for s in found_scans([site / "scan2.nii.gz"], results=results)] == ["scan2.nii.gz"]
    (bids,) = found_scans([tiny_cohort[0]], results=results)
    assert bids.path.name == "sub-0001_rec-full_pet.nii.gz"


def test_a_manifest_brings_its_files_and_its_licence(data, tiny_cohort, tmp_path):
    from pipeline.data import Manifest

    manifest = Manifest.from_file(data[data.index("--manifest") + 1])
    path = manifest.write(tiny_cohort[0].parent / "site.yaml")
    scans = found_scans([path], results=tmp_path / "out")
    path.unlink()
    assert len(scans) == 2
    assert all(scan.subject.low_dose and scan.licence == "Apache-2.0" for scan in scans)


def test_the_number_of_scans_is_1_to_50(site, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(PETError, match="no PET scan found"):
        found_scans([tmp_path / "empty"], results=tmp_path / "out")
    with pytest.raises(PETError, match=f"no scan was given, expected 1 to {MOST_SCANS}"):
        found_scans([], results=tmp_path / "out")
    with pytest.raises(PETError, match=f"51 scans or more, expected 1 to {MOST_SCANS}"):
        found_scans([site / "scan1.nii.gz"] * 51, results=tmp_path / "out")
    with pytest.raises(PETError, match=r"scan1\.nii\.gz: was given twice"):
        found_scans([site, site / "scan1.nii.gz"], results=tmp_path / "out")


def test_an_output_among_the_scans_is_refused(site):
    with pytest.raises(PETError, match="lies inside the scans"):
        found_scans([site], results=site / "out")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"DoseReductionFactor": 4}, r"scan4\.nii\.gz: has DoseReductionFactor 4, expected a full-dose scan"),
        ({"DenoisingMethod": "unipet"}, r"scan4\.nii\.gz: was denoised by unipet, expected a full-dose scan"),
    ],
)
def test_a_sidecar_that_tells_of_less_dose_is_believed(site_scan, tmp_path, entry, said):
    path = site_scan(tmp_path / "more", 4)
    sidecar = path.with_name("scan4.json")
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), **entry}))
    with pytest.raises(PETError, match=said):
        found_scans([path], results=tmp_path / "out")


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({"model_name": "Vision"}, "scanner is simulated Vision, and simulated tiny in "),
        ({"reconstruction_method": "TrueX"}, "reconstruction is TrueX, and OSEM "),
        ({"reconstruction_filter": "Gaussian 2"}, "filter is Gaussian 2, and Gaussian 5 in "),
        ({"radiopharmaceutical": "PSMA-11"}, "tracer is PSMA-11, and FDG in "),
        ({"radionuclide": "Ga-68", "radiopharmaceutical": ""}, "radionuclide is Ga-68, and F-18 in "),
    ],
)
def test_a_mixed_protocol_is_refused_by_name(site, site_scan, tmp_path, header, said):
    other = site_scan(tmp_path / "more", 4, **header)
    scans = found_scans([site, other], results=tmp_path / "out")
    with pytest.raises(PETError) as refused:
        common_protocol(scans)
    assert str(refused.value).startswith(f"{other}: {said}")
    assert str(refused.value).endswith("expected scans of one protocol")


def test_other_voxels_are_refused_and_what_a_file_rounds_is_not(site, tmp_path):
    scans = found_scans([site], results=tmp_path / "out")

    def resized(factor):
        header = scans[0].header
        affine = header.grid.affine @ np.diag([factor, factor, 1, 1])
        return replace(scans[0], name="other", header=replace(header, grid=replace(header.grid, affine=affine)))

    assert common_protocol([*scans, resized(1.0005)])["voxel size"] == "7.50 x 7.50 x 7.50 mm"
    with pytest.raises(PETError, match=r"other: voxel size is 8\.25 x 8\.25 x 7\.50 mm, and 7\.50 x 7"):
        common_protocol([*scans, resized(1.1)])


def test_what_is_not_stated_contradicts_nothing(site, site_scan, tmp_path):
    silent = site_scan(tmp_path / "more", 4, reconstruction_filter="", reconstruction_method="", model_name="")
    scans = found_scans([silent, site], results=tmp_path / "out")
    protocol = common_protocol([replace(scan) for scan in scans if scan.path != silent])
    assert protocol["filter"] == "Gaussian 5"
    assert common_protocol(scans[:1])["filter"] == "not stated"


def test_low_doses_are_refused_by_their_noise():
    check_full_doses({"a": 0.08, "b": 0.12, "c": 0.14})
    with pytest.raises(PETError, match=r"b: noise of the liver .* of 0\.210, expected at most 0\.20 of a full dose"):
        check_full_doses({"a": 0.10, "b": 0.21})
    with pytest.raises(PETError, match=r"c: .* of 0\.160, 2\.0 times the median of these scans"):
        check_full_doses({"a": 0.08, "b": 0.07, "c": 0.16})
    check_full_doses({"a": 0.10, "b": 0.9}, allow_noisy=True)


def test_a_low_dose_among_the_scans_is_named_and_nothing_is_made(site, site_scan, settings, tmp_path):
    noisy = site_scan(tmp_path / "more", 4, noise=0.5)
    with pytest.raises(PETError, match=r"scan4\.nii\.gz: noise of the liver has a coefficient of variation of 0\.\d+"):
        adapt([site, noisy], tmp_path / "out", settings)
    assert not (tmp_path / "out").exists()


def test_scans_of_one_patient_are_held_out_together(site, full_doses, tmp_path):
    for n in (1, 2):
        write_dicom_series(full_doses[n - 1], tmp_path / f"dicom{n}", description="PET")
    scans = found_scans([site, tmp_path / "dicom1"], results=tmp_path / "out")
    twin = replace(scans[3], name="again", subject=scans[3].subject.model_copy(update={"patient": "other name"}))
    shared = replace(twin, header=replace(twin.header, identities=frozenset({"PatientID:x"})))
    first = replace(scans[3], header=replace(scans[3].header, identities=frozenset({"PatientID:x"})))
    assert patients_of([*scans[:3], first, shared]) == [0, 1, 2, 3, 3]


@pytest.mark.parametrize(("n", "held"), [(1, 1), (2, 1), (3, 1), (5, 2), (10, 3), (50, 8)])
def test_three_in_ten_are_held_out(n, held):
    assert sum(held_out_of(range(n), seed=0)) == held


def test_some_patient_is_always_left_to_train_on():
    for seed in range(20):
        held = held_out_of([0, 0, 0, 1, 1], seed=seed)
        assert held[0] == held[1] == held[2] != held[3]
        assert held[3] == held[4]
    assert sum(held_out_of([0, 0, 0, 0], seed=0)) == 1  # one patient: by scan


def test_the_command_ends_a_mistake_in_one_line(unipet, site, site_scan, tmp_path):
    other = site_scan(tmp_path / "more", 4, model_name="Vision")
    done = unipet("adapt", site, other, tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.startswith(f"unipet: {other}: scanner is simulated Vision, and simulated tiny in ")
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.work").exists()
