"""Studies as hospitals have them: PET beside other series, in folders, zip archives and on discs with a DICOMDIR."""

import io
import re
import shutil
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet
from pydicom.uid import (
    CTImageStorage,
    RTStructureSetStorage,
    SegmentationStorage,
    generate_uid,
)

from pipeline.pet import PETError, explain_suv, read_pet, write_dicom_series
from pipeline.pet.dicom.reading import stored_files
from tests.pet.scans import write_multi_frame
from tests.series import STARTED, TRUE_SUV, Scan, save_dataset, save_series, slices_of

PET = Scan()
LATE = Scan(started=STARTED + timedelta(minutes=40), suv=0.9 * TRUE_SUV)
HALF_STEP = TRUE_SUV.max() / 32767
CANARIES = ("zanzibar", "quentin", "4711", "c0ffee", "19600102", "1960", "20000517", "17.05.2000")


@dataclass(frozen=True)
class Series:
    """One series of a study."""

    name: str
    """SeriesDescription, and the folder below the study."""
    number: int
    scan: Scan = PET
    change: Callable[[Dataset], object] = lambda dataset: None


def identified(slices: list[Dataset], series: Series) -> list[Dataset]:
    for dataset in slices:
        dataset.PatientName, dataset.PatientID = "Zanzibar^Quentin", "C0FFEE-4711"
        dataset.PatientBirthDate, dataset.AccessionNumber = "19600102", "A4711"
        dataset.StudyID, dataset.SeriesNumber = "S1", series.number
        series.change(dataset)
    return slices


def add_pet(study: Path, *many: Series) -> Path:
    for series in many:
        save_series(identified(slices_of(series.scan, name=series.name), series), study / f"s{series.number}")
    return study


def add_other(study: Path, modality: str, sop_class: str, *, n: int = 1, number: int = 2) -> Path:
    """Add an object of another kind to a study, without pixels."""
    series = Series(f"{modality} of it", number)
    for k, dataset in enumerate(identified(slices_of(PET, name=series.name)[:n], series)):
        dataset.Modality, dataset.SOPClassUID = modality, sop_class
        dataset.StructureSetLabel, dataset.StructureSetDate, dataset.StructureSetTime = "L", "20000517", "100000"
        dataset.ContentLabel, dataset.ContentDescription, dataset.ContentCreatorName = "L", "", ""
        dataset.PixelData = bytes(dataset.Rows * dataset.Columns * 2)
        place = study / f"s{number}"
        place.mkdir(parents=True, exist_ok=True)
        save_dataset(dataset, place / f"{modality}{k}.dcm")
    return study


def uncorrected(dataset: Dataset) -> None:
    dataset.CorrectedImage = ["DECY"]


AC, NAC = Series("WB AC", 3), Series("WB NAC", 4, LATE, uncorrected)


def pet_and_ct(study: Path) -> Path:
    return add_pet(add_other(study, "CT", CTImageStorage, n=3), AC)


def pet_and_regions(study: Path) -> Path:
    add_other(study, "RTSTRUCT", RTStructureSetStorage, number=5)
    return add_pet(add_other(study, "SEG", SegmentationStorage, number=6), AC)


def ac_and_nac(study: Path) -> Path:
    return add_pet(study, AC, NAC)


def nac_first(study: Path) -> Path:
    return add_pet(study, Series("WB NAC", 1, LATE, uncorrected), AC)


def two_pet(study: Path) -> Path:
    return pet_and_ct(add_pet(study, Series("WB late", 7, LATE)))


def as_folder(study: Path) -> Path:
    return study


def as_zip(study: Path) -> Path:
    return Path(shutil.make_archive(str(study), "zip", study))


def as_disc(study: Path) -> Path:
    """Copy a study as a disc has it, with names of its own and a DICOMDIR."""
    files = FileSet()
    for path in sorted(study.rglob("*.dcm")):
        files.add(path)
    files.write(study.parent / "disc")
    return study.parent / "disc"


def as_directory(study: Path) -> Path:
    return as_disc(study) / "DICOMDIR"


def as_zipped_disc(study: Path) -> Path:
    return as_zip(as_disc(study))


FORMS = [as_folder, as_zip, as_disc, as_directory, as_zipped_disc]
RIGHT = [pet_and_ct, pet_and_regions, ac_and_nac, nac_first]


def refusal(place: Path, **options: object) -> str:
    """Return the line that refuses a place, of which `unipet suv` says the same; it names nobody."""
    with pytest.raises(PETError) as caught:
        read_pet(place, **options)
    with pytest.raises(PETError) as explained:
        explain_suv(place, **options)
    line = str(caught.value)
    assert str(explained.value) == line
    assert line.isprintable()
    inside = line.removeprefix(str(place)).lower()
    assert not [canary for canary in CANARIES if canary in inside], line
    return line


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("study", RIGHT)
def test_the_right_series_is_read(study, form, tmp_path):
    series = read_pet(form(study(tmp_path / "study")))
    np.testing.assert_allclose(series.suv, TRUE_SUV, atol=1.01 * HALF_STEP)
    said = " ".join(series.provenance)
    assert ("only one that is corrected for attenuation" in said) == (study in {ac_and_nac, nac_first})
    assert not [canary for canary in CANARIES if canary in said.lower()]


@pytest.mark.parametrize("form", FORMS)
def test_of_two_the_user_chooses_from_one_message(form, tmp_path):
    place = form(two_pet(tmp_path / "study"))
    assert refusal(place) == (
        f"{place}: 2 PET series, expected one; choose it by number, description or UID (--series; "
        "series: in a manifest) from: "
        'number 3, PT, "WB AC", 12 images; number 7, PT, "WB late", 12 images; number 2, CT, "CT of it", 3 images'
    )
    late = read_pet(place, series="late")
    np.testing.assert_allclose(late.suv, 0.9 * TRUE_SUV, atol=1.01 * HALF_STEP)
    assert "Another PET series (12 files) was left aside." in late.provenance


def test_one_is_chosen_by_number_description_or_uid(tmp_path):
    place = two_pet(tmp_path / "study")
    late = read_pet(place, series=7).suv
    for wanted in ("07", "WB late", "wb  LATE", "late", slices_of(LATE, name="WB late")[0].SeriesInstanceUID):
        np.testing.assert_array_equal(read_pet(place, series=wanted).suv, late)
    for wanted in ("WB", "lat", "2", "8", "", "CT of it", "(", "***"):
        assert "number 7, PT" in refusal(place, series=wanted)


def test_words_of_a_description_are_whole_and_all_of_it_comes_first(tmp_path):
    place = add_pet(tmp_path / "study", Series("PET AC", 3), Series("PET NAC", 4, LATE), Series("PET AC 2", 9, LATE))
    for wanted, factor in (("pet ac", 1.0), ("NAC", 0.9), ("ac 2", 0.9)):
        np.testing.assert_allclose(read_pet(place, series=wanted).suv, factor * TRUE_SUV, atol=1.01 * HALF_STEP)
    assert "2 PET series AC, expected one" in refusal(place, series="AC")
    # No series has the number 2, and nobody who asks for it means the 9.
    assert "no PET series 2, expected one" in refusal(place, series="2")


@pytest.mark.parametrize(
    ("others", "n"),
    [
        ([Series("also AC", 4, LATE)], 2),
        ([Series("says nothing", 4, LATE, lambda d: d.pop("CorrectedImage"))], 2),
        ([NAC, Series("also AC", 5, LATE)], 3),
        (
            [
                Series(
                    "NAC of another study", 4, LATE, lambda d: (uncorrected(d), setattr(d, "StudyInstanceUID", "1.2"))
                )
            ],
            2,
        ),
    ],
)
def test_nothing_is_chosen_where_attenuation_does_not_tell(others, n, tmp_path):
    assert f"{n} PET series, expected one" in refusal(add_pet(tmp_path / "study", AC, *others))


@pytest.mark.parametrize("legacy", [False, True])
def test_multi_frame_images_tell_their_correction_by_frame(legacy, tmp_path):
    (tmp_path / "study").mkdir()
    for name, is_corrected in (("ac", True), ("nac", False)):
        path = write_multi_frame(tmp_path / "study" / name, legacy=legacy)
        dataset = pydicom.dcmread(path)
        dataset.StudyInstanceUID = "1.2.3"
        if not is_corrected and legacy:
            groups = dataset.SharedFunctionalGroupsSequence[0]
            groups.UnassignedSharedConvertedAttributesSequence[0].CorrectedImage = ["DECY"]
        elif not is_corrected:
            dataset.AttenuationCorrected = "NO"
        dataset.save_as(path)
    series = read_pet(tmp_path / "study")
    assert [path.name for path in series.source_files] == ["ac"]
    assert "Of 2 PET series the only one that is corrected for attenuation was read." in series.provenance
    assert 'PT, "WB *** ***", 6 images' in refusal(tmp_path / "study", series=99)


def test_two_without_correction_are_listed_and_one_chosen_is_refused(tmp_path):
    place = add_pet(tmp_path / "study", NAC, Series("NAC 2", 5, PET, uncorrected))
    assert "2 PET series, expected one" in refusal(place)
    assert "not corrected for attenuation" in refusal(place, series=4)


def test_an_archive_leaves_nothing_behind_and_gives_derived_dicom(tmp_path):
    folder, archive = pet_and_ct(tmp_path / "study"), as_zip(tmp_path / "study")
    before = set(Path(tmp_path).rglob("*"))
    series = read_pet(archive)
    assert {path.parent for path in series.source_files} == {archive / "s3"}
    ours = write_dicom_series(series, tmp_path / "derived", description="of the archive")
    theirs = write_dicom_series(read_pet(folder), tmp_path / "derived2", description="of the folder")
    np.testing.assert_array_equal(read_pet(ours).suv, read_pet(theirs).suv)
    assert read_pet(ours).header == read_pet(theirs).header
    assert {path for path in tmp_path.rglob("*") if "derived" not in str(path)} == before
    archive.unlink()
    with pytest.raises(PETError, match="No such file"):
        write_dicom_series(series, tmp_path / "derived3", description="of nothing")


def test_of_other_series_no_pixel_is_read(tmp_path, monkeypatch):
    place = pet_and_ct(tmp_path / "study")
    for path in (place / "s2").iterdir():
        content = path.read_bytes()
        path.write_bytes(content + bytes(1 << 20))
    whole, n_bytes = [], []
    dcmread, size = pydicom.dcmread, (place / "s2" / "CT0.dcm").stat().st_size

    class Counted(io.FileIO):
        def read(self, *arguments: int) -> bytes:
            content = super().read(*arguments)
            n_bytes.append(len(content))
            return content

    real = stored_files.StoredFile.at

    def counted(path: Path, name: str | None = None) -> stored_files.StoredFile:
        file = real(path, name)
        if "CT" not in path.name:
            return file
        return stored_files.StoredFile(file.path, file.name, file.size, lambda: Counted(path))

    monkeypatch.setattr(stored_files.StoredFile, "at", counted)
    monkeypatch.setattr(pydicom, "dcmread", lambda *a, **k: whole.append(1) or dcmread(*a, **k))
    read_pet(place)
    assert len(whole) == 12  # each file of the PET series once
    assert 0 < sum(n_bytes) <= 3 * (1 << 14) < size


def test_an_object_with_a_long_beginning_is_named_all_the_same(tmp_path):
    place = add_pet(tmp_path / "study", AC, Series("WB late", 7, LATE))
    add_other(place, "SEG", SegmentationStorage, number=6)
    (path,) = (place / "s6").iterdir()
    dataset = pydicom.dcmread(path)
    dataset.ReferencedSeriesSequence = []
    for _ in range(400):
        item = Dataset()
        item.SeriesInstanceUID, item.ReferencedSOPInstanceUID = generate_uid(), generate_uid()
        dataset.ReferencedSeriesSequence.append(item)
    dataset.save_as(path)
    assert 'number 6, SEG, "SEG of it", 1 image' in refusal(place)


# ----------------------------------------------------------------------------------------------- nobody is named


@pytest.mark.parametrize(
    ("description", "shown"),
    [
        ("WB Quentin ZANZIBAR", '"WB *** ***"'),
        ("zanzibarq wb", '"*** wb"'),
        ("C0FFEE-4711 head", '"*** head"'),
        ("WB 17.05.2000", '"WB ***"'),
        ("WB 2000-05-17 FDG", '"WB *** FDG"'),
        ("19600102", '"***"'),
        ("WB 17MAY00", '"WB ***"'),
        ("PET AC 3D (4i 8s)", '"PET AC 3D (4i 8s)"'),
        ("", "number 3, PT, 12 images"),
        ("\x1b[31mred\x07 x", "red"),
        ('a", 1 image; number 9, PT', '"a\', 1 image; number 9, PT"'),
        ("<script>alert(1)</script>", '"<script>alert(1)</script>"'),
        ("a\u202eb", r'"a\u202eb"'),
        ("=HYPERLINK()", '"=HYPERLINK()"'),
        ("[bold]x[/bold]", '"[bold]x[/bold]"'),
    ],
)
def test_a_description_names_nobody_and_is_inert(description, shown, tmp_path):
    def change(dataset: Dataset) -> None:
        dataset.SpecificCharacterSet, dataset.SeriesDescription = "ISO_IR 192", description

    place = add_pet(tmp_path / "study", Series("first", 3, PET, change), Series("second", 4, LATE))
    line = refusal(place)
    assert shown in line
    assert "\x1b" not in line
    if description.isprintable() and description:
        late = read_pet(place, series=description)
        np.testing.assert_allclose(late.suv, TRUE_SUV, atol=1.01 * HALF_STEP)


def test_an_attribute_that_breaks_its_rule_is_not_told_by_a_warning(tmp_path):
    def change(dataset: Dataset) -> None:
        for keyword, value in (
            ("PatientBirthDate", "1960-01-02"),
            ("PatientID", "4711" * 20),
            ("PatientName", "a=" * 9),
        ):
            dataset.add_new(keyword, "LO", value)
        dataset.SeriesDescription = "WB"

    # Written as LO, which takes any text, and read as what the dictionary says.
    place = add_pet(tmp_path / "study", Series("one", 3, PET, change), Series("two", 4, LATE, change))
    for path in place.rglob("*.dcm"):
        content = path.read_bytes()
        for tag, kind in ((b"\x10\0\x30\0", b"DA"), (b"\x10\0\x10\0", b"PN")):
            content = content.replace(tag + b"LO", tag + kind)
        path.write_bytes(content)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert 'number 3, PT, "WB", 12 images' in refusal(place)
    assert not [str(warning.message) for warning in told]


def test_many_series_are_counted(tmp_path):
    place = two_pet(tmp_path / "study")
    ct = pydicom.dcmread(place / "s2" / "CT0.dcm")
    for k in range(45):
        ct.SeriesInstanceUID, ct.SeriesNumber = generate_uid(), 100 + k
        ct.save_as(place / f"{k}.dcm")
    assert refusal(place).endswith("; 8 more")


def test_numbers_and_modalities_that_are_none_do_not_hide_the_list(tmp_path):
    place = two_pet(tmp_path / "study")
    for path in (place / "s2").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.pop("SeriesNumber")
        dataset.add_new("SeriesNumber", "LO", "2\x1b")
        dataset.Modality = "C\x1bT"
        dataset.save_as(path)
    assert r'without number, C\x1bT, "CT of it", 3 images' in refusal(place)


# ------------------------------------------------------------------------------------------------- wrong inputs


def zipped(tmp_path: Path, names: dict[str, bytes], **options: int) -> Path:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", **options) as archive:
        for name, content in names.items():
            archive.writestr(zipfile.ZipInfo(name), content, compress_type=options.get("compression"))
    return tmp_path / "a.zip"


@pytest.mark.parametrize(
    "name", ["../x.dcm", "a/../../x.dcm", "/etc/x.dcm", "..\\x.dcm", "C:\\x.dcm", "C:x.dcm", "\\\\host\\x", "a/.."]
)
def test_a_place_outside_the_archive(name, tmp_path):
    archive = zipped(tmp_path, {"a.dcm": b"x", name: b"y"})
    assert "expected places inside the archive only" in refusal(archive)
    assert not (tmp_path.parent / "x.dcm").exists()


def test_a_name_with_dots_is_no_place_outside(tmp_path):
    assert "no DICOM file among 2 files" in refusal(zipped(tmp_path, {"a..b/..c": b"x", "d..": b"y"}))


@pytest.mark.parametrize("n", [1, 9])
def test_a_bomb_is_refused_before_it_is_unpacked(n, tmp_path):
    size = (17 << 20) if n == 1 else (15 << 20)
    archive = zipped(tmp_path, {f"{k}.dcm": bytes(size) for k in range(n)}, compression=zipfile.ZIP_DEFLATED)
    line = refusal(archive)
    assert f"the zip archive would take {n * size} bytes from " in line
    assert "expected at most 100 times more" in line


def test_a_size_that_is_a_lie_is_the_most_that_is_read(tmp_path):
    archive = zipped(tmp_path, {"0.dcm": bytes(1 << 20)}, compression=zipfile.ZIP_DEFLATED)
    content = archive.read_bytes()
    archive.write_bytes(content.replace((1 << 20).to_bytes(4, "little"), (600).to_bytes(4, "little")))
    assert "0.dcm: damaged DICOM file (Bad CRC-32" in refusal(archive)


def test_an_encrypted_archive(tmp_path):
    content = bytearray(as_zip(pet_and_ct(tmp_path / "study")).read_bytes())
    for signature, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        for found in re.finditer(re.escape(signature), bytes(content)):
            content[found.start() + at] |= 1
    (tmp_path / "study.zip").write_bytes(content)
    assert "the zip archive is encrypted, expected one without a password" in refusal(tmp_path / "study.zip")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_of_another_compression(method, tmp_path):
    archive = zipped(tmp_path, {"a.dcm": b"x"}, compression=method)
    assert f"compressed by method {method}, expected deflate" in refusal(archive)


def test_a_name_that_stands_twice(tmp_path):
    archive = zipped(tmp_path, {"a.dcm": b"x", "b.dcm": b"y"})
    archive.write_bytes(archive.read_bytes().replace(b"b.dcm", b"a.dcm"))
    assert "has a.dcm twice, expected every name once" in refusal(tmp_path / "a.zip")


@pytest.mark.parametrize("part", [0.3, 0.99])
def test_an_archive_cut_short(part, tmp_path):
    archive = as_zip(pet_and_ct(tmp_path / "study"))
    content = archive.read_bytes()
    archive.write_bytes(content[: int(part * len(content))])
    assert "damaged zip archive" in refusal(archive)


def test_a_damaged_entry_is_named(tmp_path):
    archive = as_zip(add_pet(tmp_path / "study", AC))
    content = bytearray(archive.read_bytes())
    at = content.index(b"IM_0005.dcm") + 400
    content[at : at + 20] = bytes(20)
    archive.write_bytes(content)
    with pytest.raises(PETError, match=r"IM_0005.dcm: damaged DICOM file"):
        read_pet(archive)


def test_places_without_pet(tmp_path):
    assert "no DICOM file among 0 files" in refusal(zipped(tmp_path, {}))
    assert "no DICOM file among 1 files" in refusal(zipped(tmp_path, {"inner.zip": b"PK\3\4"}))
    ct = add_other(tmp_path / "ct", "CT", CTImageStorage, n=3)
    for place in (ct, as_zip(ct)):
        assert "no PET image among 3 DICOM files (3 CT), expected a PET series" in refusal(place)
    (tmp_path / "DICOMDIR").write_text("hello")
    assert "DICOMDIR: damaged DICOMDIR" in refusal(tmp_path / "DICOMDIR")
    shutil.copy(ct / "s2" / "CT0.dcm", tmp_path / "DICOMDIR")
    assert "DICOMDIR: not a DICOMDIR by its content" in refusal(tmp_path / "DICOMDIR")


@pytest.mark.parametrize("form", [as_disc, as_directory, as_zipped_disc])
def test_a_slice_that_the_directory_refers_to_is_missing(form, tmp_path):
    study = add_pet(tmp_path / "study", Series("WB AC", 3, PET, lambda d: d.pop("NumberOfSlices")))
    place = form(add_other(study, "CT", CTImageStorage, n=3))
    files = FileSet(tmp_path / "disc" / "DICOMDIR").find(Modality="PT", load=True)
    last = max(files, key=lambda file: file.InstanceNumber)
    Path(last.path).unlink()
    if form is as_zipped_disc:
        place = as_zip(tmp_path / "disc")
    name = Path(last.path).relative_to(tmp_path / "disc").as_posix()
    assert f"1 PET images that DICOMDIR refers to are missing, the first {name}; expected all" in refusal(place)


def test_other_files_of_a_disc_may_be_missing_and_small_letters_are_the_same(tmp_path):
    disc = as_disc(pet_and_ct(tmp_path / "study"))
    for file in FileSet(disc / "DICOMDIR").find(Modality="CT", load=True):
        Path(file.path).unlink()
    for path in sorted(disc.rglob("*"), key=lambda path: -len(path.parts)):
        path.rename(
            path.with_name(path.name.lower() + (";1" if path.is_file() and "dir" not in path.name.lower() else ""))
        )
    for place in (disc, disc / "dicomdir"):
        np.testing.assert_allclose(read_pet(place).suv, TRUE_SUV, atol=1.01 * HALF_STEP)


def test_a_directory_takes_the_files_that_it_refers_to(tmp_path):
    disc = as_disc(pet_and_ct(tmp_path / "study"))
    add_pet(disc, Series("WB late", 7, LATE))
    assert "2 PET series" in refusal(disc)
    np.testing.assert_allclose(read_pet(disc / "DICOMDIR").suv, TRUE_SUV, atol=1.01 * HALF_STEP)
