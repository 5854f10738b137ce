"""Splits by patient, exclusions, checksums, and tracers against their nuclides."""

import hashlib
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from pipeline import read_pet
from pipeline.data.building.build import build_manifest
from pipeline.data.building.exclusions import read_exclusions
from pipeline.data.building.headers import read_image_header
from pipeline.data.building.splits import split_of
from pipeline.data.store.fingerprints import content_sha256
from pipeline.pet import PETError
from pipeline.pet.grid import same_grid
from pipeline.pet.tracer_names import tracer_conflict


@given(st.text(min_size=1), st.integers(0, 99))
def test_a_patients_split_depends_on_nothing_else(patient, seed):
    assert split_of(patient, seed=seed) == split_of(patient, seed=seed)
    assert split_of(patient, seed=seed, fractions=(1, 0, 0)) == "train"
    assert split_of(patient, seed=seed, fractions=(0, 0, 1)) == "test"
    # A larger training fraction takes patients over and gives none back.
    if split_of(patient, seed=seed, fractions=(0.5, 0.3, 0.2)) == "train":
        assert split_of(patient, seed=seed, fractions=(0.6, 0.2, 0.2)) == "train"


def test_splits_have_the_wanted_sizes_and_differ_by_seed():
    parts = [split_of(f"patient {k}", seed=3) for k in range(4000)]
    for part, fraction in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
        standard_error = np.sqrt(fraction * (1 - fraction) / 4000)
        assert abs(parts.count(part) / 4000 - fraction) < 4 * standard_error
    others = [split_of(f"patient {k}", seed=4) for k in range(4000)]
    # Independent draws agree with probability .8^2 + .1^2 + .1^2.
    assert np.mean([a == b for a, b in zip(parts, others, strict=True)]) == pytest.approx(0.66, abs=0.04)


@pytest.mark.parametrize("fractions", [(0.8, 0.1), (0.8, 0.1, 0.2), (1.1, -0.1, 0), (float("nan"), 0, 1)])
def test_fractions_must_be_fractions(fractions):
    with pytest.raises(PETError, match="fractions of the splits"):
        split_of("a", seed=0, fractions=fractions)


def test_adding_patients_moves_nobody(tmp_path, nifti):
    def build():
        manifest = build_manifest("autopet", tmp_path, fractions=(0.4, 0.3, 0.3), seed=5)
        return {subject.patient: subject.split for subject in manifest.subjects}

    for k in range(0, 12, 2):
        nifti(tmp_path / f"PETCT_{k:02d}" / "study" / "SUV.nii.gz")
    before = build()
    for k in range(1, 12, 2):
        nifti(tmp_path / f"PETCT_{k:02d}" / "study" / "SUV.nii.gz")
    after = build()
    assert len(after) == 12
    assert set(after.values()) == {"train", "validation", "test"}
    assert before == {patient: after[patient] for patient in before}


def test_exclusions_of_a_user(tmp_path):
    path = tmp_path / "exclusions.yaml"
    path.write_text(
        "- {subject: '0012', reason: wrong weight}\n- {subject: b, dose_reduction_factor: 4, reason: cut}\n"
    )
    first, second = read_exclusions(path)
    assert first.is_whole
    assert not second.is_whole
    path.write_text("- {subject: a}\n")
    with pytest.raises(PETError, match=r"exclusions\.yaml: 0\.reason: Field required, expected a list of exclusions"):
        read_exclusions(path)


def test_checksum_of_a_folder_is_what_sha256sum_prints(tmp_path):
    folder = tmp_path / "scan"
    (folder / "b").mkdir(parents=True)
    for name, content in (("2.dcm", b"two"), ("10.dcm", b"ten"), ("b/1.dcm", b"one"), ("empty", b"")):
        (folder / name).write_bytes(content)
    assert content_sha256(folder / "2.dcm") == hashlib.sha256(b"two").hexdigest()
    if shutil.which("sha256sum"):
        names = sorted(["2.dcm", "10.dcm", "b/1.dcm", "empty"])
        listing = subprocess.run(["sha256sum", *names], cwd=folder, capture_output=True, check=True).stdout
        assert content_sha256(folder) == hashlib.sha256(listing).hexdigest()
    seen = []
    before = content_sha256(folder, progress=seen.append)
    assert sum(seen) == 9
    assert content_sha256(folder.rename(tmp_path / "moved")) == before
    (tmp_path / "moved" / "2.dcm").rename(tmp_path / "moved" / "3.dcm")
    assert content_sha256(tmp_path / "moved") != before
    (tmp_path / "moved" / "DICOMDIR").touch()
    assert content_sha256(tmp_path / "moved" / "DICOMDIR") == content_sha256(tmp_path / "moved")


def test_checksum_of_nothing_is_refused(tmp_path):
    with pytest.raises(PETError, match="no such file or folder"):
        content_sha256(tmp_path / "nothing")
    with pytest.raises(PETError, match="the folder is empty"):
        content_sha256(tmp_path)


@pytest.mark.parametrize(
    ("known", "conflict"),
    [
        ({"label": "F-18 FDG -- fluorodeoxyglucose", "nuclide": "F-18", "half_life": 6586.2}, None),
        ({"label": "Fluorodeoxyglucose", "half_life": 6588}, None),
        ({"label": "Ga-68 DOTATATE", "nuclide": "Ga-68", "half_life": 4080}, None),
        ({"label": "Solution", "nuclide": "Ga-68", "half_life": 4057}, None),
        ({"label": "FDG", "nuclide": "Ga-68"}, "labelled FDG, but the radionuclide is Ga-68, expected F-18"),
        ({"label": "FDG", "half_life": 4057}, "labelled FDG, but the half-life of 4057 s is that of Ga-68"),
        ({"label": "FDG", "half_life": 110}, "labelled FDG, but the half-life of 110 s is of no known nuclide"),
        (
            {"label": "FDG", "nuclide": "F-18", "half_life": 4057},
            "is F-18, but the half-life of 4057 s is that of Ga-68",
        ),
        ({"label": "", "half_life": 4057, "expected": "FDG"}, "labelled FDG, but the half-life of 4057 s"),
        ({"label": "DOTATOC", "nuclide": "Ga-68", "expected": "FDG"}, "labelled DOTATOC, expected FDG"),
    ],
)
def test_tracer_against_nuclide_and_half_life(known, conflict):
    found = tracer_conflict(**known)
    assert found is None if conflict is None else conflict in found


def test_what_the_reader_reads_is_described(tmp_path, dicom):
    """A Philips series with its own SUV factor needs neither dose nor weight; of several codes the first counts."""

    def philips(dataset):
        dataset.Manufacturer = "Philips Medical Systems"
        dataset.Units = "CNTS"
        dataset.PatientWeight = None
        dataset.RadiopharmaceuticalInformationSequence[0].RadionuclideTotalDose = None
        block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
        block.add_new(0x00, "DS", "0.0005")

    def two_codes(dataset):
        codes = dataset.RadiopharmaceuticalInformationSequence[0].RadionuclideCodeSequence
        other = Dataset()
        other.CodeValue, other.CodingSchemeDesignator, other.CodeMeaning = "C-128A2", "SRT", "^68^Germanium"
        codes.append(other)

    for name, edit in (("philips", philips), ("codes", two_codes)):
        dicom(tmp_path / name / "Full_dose", edit=edit)
        read_pet(tmp_path / name / "Full_dose")
    manifest = build_manifest("udpet", tmp_path)
    assert [subject.id for subject in manifest.subjects] == ["codes", "philips"]


def test_what_the_reader_refuses_is_left_out(tmp_path, dicom):
    gap = dicom(tmp_path / "gap" / "Full_dose", edit=lambda dataset: setattr(dataset, "NumberOfSlices", None))
    sorted(gap.iterdir())[7].unlink()
    dicom(tmp_path / "raw" / "Full_dose", edit=lambda dataset: setattr(dataset, "CorrectedImage", ["DECY"]))
    for folder in ("gap", "raw"):
        with pytest.raises(PETError):
            read_pet(tmp_path / folder / "Full_dose")
    assert build_manifest("udpet", tmp_path).subjects == ()


def test_the_headers_of_a_real_scan_are_those_of_its_reader(reference_data):
    folder = reference_data / "ge_discovery_st_whole_body" / "FDG_PET" / "image"
    header, series = read_image_header(folder), read_pet(folder)
    assert same_grid(header.grid, series.grid)
    assert header.shape == (128, 128, 267)
    assert (header.tracer, header.pet.radionuclide_half_life) == (
        series.header.radiopharmaceutical,
        series.header.radionuclide_half_life,
    )
    assert len(header.identities) >= 1
    assert header.conflict_with("FDG") is None


@pytest.mark.parametrize("layout", ["udpet", "bids_pet", "autopet", "enhance_pet", "simulated"])
def test_scans_behind_a_link_are_found(tmp_path, layout, dicom, nifti, tiny_cohort):
    """Large data lies on another disk, and a link leads there; a link that leads in a circle is no trap."""
    disk, root = tmp_path / "disk", tmp_path / "root"
    (root / "more").mkdir(parents=True)
    if layout == "udpet":
        dicom(disk / "Anonymous_1" / "Full_dose")
    elif layout == "bids_pet":
        nifti(disk / "sub-01" / "pet" / "sub-01_pet.nii.gz", sidecar={"Units": "g/mL"})
    elif layout == "autopet":
        nifti(disk / "PETCT_1" / "study" / "SUV.nii.gz")
    elif layout == "enhance_pet":
        nifti(disk / "imaging-data" / "images" / "PT" / "0001.nii.gz")
    else:
        shutil.copytree(tiny_cohort[0], disk / "sub-0001")
    (root / "more" / "linked").symlink_to(disk)
    (disk / "back").symlink_to(root)
    manifest = build_manifest(layout, root, units="g/mL" if layout == "enhance_pet" else None)
    assert len(manifest.subjects) == 1
    assert manifest.subjects[0].full_dose.path.startswith("more/linked/")


def test_the_checksum_of_a_folder_holds_what_its_links_lead_to(tmp_path):
    for name in ("plain", "elsewhere"):
        (tmp_path / name / "b").mkdir(parents=True)
        (tmp_path / name / "b" / "1.dcm").write_bytes(b"one")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "b").symlink_to(tmp_path / "elsewhere" / "b")
    (tmp_path / "elsewhere" / "b" / "up").symlink_to(tmp_path / "linked")
    assert content_sha256(tmp_path / "linked") == content_sha256(tmp_path / "plain")
    (tmp_path / "elsewhere" / "b" / "1.dcm").write_bytes(b"two")
    assert content_sha256(tmp_path / "linked") != content_sha256(tmp_path / "plain")
