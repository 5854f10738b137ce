"""Who made a series stands in it: the program, its version and the weights, after what contributed before."""

import pydicom
import pytest
from pydicom.dataset import Dataset

from pipeline import __version__
from pipeline.pet import DicomOptions, read_pet, write_dicom_series
from pipeline.pet.derived_files import write_denoised
from tests.pet.scans import write_multi_frame

WEIGHTS = "9f" * 32


def equipment_of(folder) -> list[list[Dataset]]:
    return [list(pydicom.dcmread(path).ContributingEquipmentSequence) for path in sorted(folder.iterdir())]


def check_is_this_program(item: Dataset, contribution: str) -> None:
    (purpose,) = item.PurposeOfReferenceCodeSequence
    code = (purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning)
    assert code == ("109102", "DCM", "Processing Equipment")
    assert (item.Manufacturer, item.ManufacturerModelName, item.SoftwareVersions) == (
        *("unipet_3d", "unipet_3d"),
        __version__,
    )
    assert item.ContributionDescription == contribution


def with_equipment(name: str) -> list[Dataset]:
    item = Dataset()
    item.Manufacturer = name
    return [item]


@pytest.mark.parametrize("deidentify", [False, True])
def test_every_slice_names_the_program_and_the_weights(dicom_folder, tmp_path, deidentify):
    options = DicomOptions(deidentify=deidentify)
    (tmp_path / "out").mkdir()
    made = {"name": "pet-1", "method": "unipet", "weights_sha256": WEIGHTS, "options": options}
    assert write_denoised(read_pet(dicom_folder), tmp_path / "out", **made) is None
    said = f"Denoised by unipet_3d {__version__}, method unipet, strength 1, weights SHA-256 {WEIGHTS}"
    equipment = equipment_of(tmp_path / "out" / "dicom")
    assert len(equipment) == 12
    for *others, item in equipment:
        check_is_this_program(item, said)
        # The source was written by this program, too; de-identification removes what a source says of its makers.
        assert len(others) == (0 if deidentify else 1)


def test_what_contributed_to_the_source_stays_in_front(edit, tmp_path):
    folder = edit(lambda d: setattr(d, "ContributingEquipmentSequence", with_equipment("Scanner of a hospital")))
    write_dicom_series(read_pet(folder), tmp_path / "out", description="Denoised")
    for first, second in equipment_of(tmp_path / "out"):
        assert first.Manufacturer == "Scanner of a hospital"
        check_is_this_program(second, "Denoised")


def test_what_contributed_to_a_multi_frame_image_stays_too(tmp_path):
    path = write_multi_frame(tmp_path / "image.dcm")
    dataset = pydicom.dcmread(path)
    dataset.ContributingEquipmentSequence = with_equipment("Scanner of a hospital")
    dataset.save_as(path)
    write_dicom_series(read_pet(path), tmp_path / "out", description="Denoised")
    for first, second in equipment_of(tmp_path / "out"):
        assert first.Manufacturer == "Scanner of a hospital"
        check_is_this_program(second, "Denoised")


def test_an_original_series_names_the_program(series, tmp_path):
    folder = write_dicom_series(series, tmp_path / "out", description="Simulated, full dose")
    for (item,) in equipment_of(folder):
        check_is_this_program(item, "Simulated, full dose")
