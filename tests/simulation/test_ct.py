"""Attenuation of a PET series from the patient's CT, as DICOM and as NIfTI."""

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage

from pipeline.pet import PETError, PETHeader, PETSeries
from pipeline.simulation.ct import attenuation_of_series

N, N_SLICES, SPACING, GAP = 60, 30, 4.0, 5.0
FIRST = np.array([-118.0, -118.0, -75.0])
"""Centre of the first voxel, LPS [mm]."""


def hounsfield():
    """Water cylinder of 80 mm, and bone 40 mm to the patient's left of the axis; axes column, row, slice."""
    x = FIRST[0] + SPACING * np.arange(N)
    hu = np.full((N, N, N_SLICES), -1000.0)
    hu[np.hypot(x[:, None], x) < 80] = 0.0
    hu[np.hypot(x[:, None] - 40, x) < 15] = 1000.0
    return hu


def series(shape=(40, 40, 24)):
    affine = np.diag([5.0, 5.0, 5.0, 1.0])
    affine[:3, 3] = [-97.5, -97.5, -60.0]
    return PETSeries(suv=np.ones(shape, dtype=np.float32), affine=affine, header=PETHeader(units="GML"))


def write_dicom(folder: Path, *, modality="CT", kvp="120") -> Path:
    folder.mkdir()
    for k in range(N_SLICES):
        d = Dataset()
        d.file_meta = FileMetaDataset()
        d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        d.file_meta.MediaStorageSOPClassUID = d.SOPClassUID = CTImageStorage
        d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID = pydicom.uid.generate_uid()
        d.SeriesInstanceUID = "1.2.3"
        d.Modality, d.KVP = modality, kvp
        d.Rows = d.Columns = N
        d.PixelSpacing, d.ImageOrientationPatient = [SPACING, SPACING], [1, 0, 0, 0, 1, 0]
        d.ImagePositionPatient = [*FIRST[:2], FIRST[2] + GAP * k]
        d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
        d.BitsAllocated = d.BitsStored = 16
        d.HighBit, d.PixelRepresentation = 15, 0
        d.RescaleSlope, d.RescaleIntercept = "1", "-1024"
        d.PixelData = (hounsfield()[..., k].T + 1024).astype("<u2").tobytes()
        # Names in the reverse order: only positions count.
        pydicom.dcmwrite(folder / f"{N_SLICES - k:03d}.dcm", d, enforce_file_format=True)
    return folder


def write_nifti(path: Path, hu=None) -> Path:
    affine = np.diag([-SPACING, -SPACING, GAP, 1.0])
    affine[:3, 3] = FIRST * [-1, -1, 1]
    nib.save(nib.Nifti1Image((hounsfield() if hu is None else hu).astype(np.float32), affine), path)
    return path


def at(mu, x, y, z):
    """Value at a RAS+ position [mm]."""
    voxel = np.round((np.array([x, y, z]) - [-97.5, -97.5, -60.0]) / 5.0).astype(int)
    return mu[tuple(voxel)]


def test_tissues_lie_where_the_patient_has_them(tmp_path):
    mu = attenuation_of_series(write_nifti(tmp_path / "ct.nii.gz"), series())
    assert mu.shape == (40, 40, 24)
    assert at(mu, 30, 2, 0) == pytest.approx(0.0096, rel=1e-3)
    assert at(mu, -40, 0, 0) == pytest.approx(5.10e-6 * 2000 + 4.71e-3, rel=1e-2), "the left is at negative X"
    assert at(mu, 40, 0, 0) == pytest.approx(0.0096, rel=1e-3)
    assert at(mu, 90, 0, 0) == 0


def test_dicom_and_nifti_agree(tmp_path):
    from_dicom = attenuation_of_series(write_dicom(tmp_path / "ct"), series())
    from_nifti = attenuation_of_series(write_nifti(tmp_path / "ct.nii"), series())
    np.testing.assert_allclose(from_dicom, from_nifti, atol=1e-7)


def test_the_tube_voltage_of_the_header_is_used(tmp_path):
    mu = attenuation_of_series(write_dicom(tmp_path / "ct", kvp="80"), series())
    assert at(mu, -40, 0, 0) == pytest.approx(3.64e-6 * 2000 + 6.26e-3, rel=1e-2)


def test_what_is_no_ct_of_this_patient_is_refused(tmp_path):
    with pytest.raises(PETError, match="expected HU"):
        attenuation_of_series(write_nifti(tmp_path / "mr.nii.gz", hounsfield() + 1000), series())
    with pytest.raises(PETError, match="no DICOM CT slice"):
        attenuation_of_series(write_dicom(tmp_path / "pt", modality="PT"), series())
    with pytest.raises(PETError, match="covers 60%"):
        attenuation_of_series(write_nifti(tmp_path / "ct.nii.gz"), series((40, 40, 45)))
    with pytest.raises(PETError, match="no such file"):
        attenuation_of_series(tmp_path / "none.nii.gz", series())
    (tmp_path / "bad.nii.gz").write_bytes(b"nothing")
    with pytest.raises(PETError, match="not a readable NIfTI"):
        attenuation_of_series(tmp_path / "bad.nii.gz", series())


def test_the_ct_of_a_study_or_its_archive(tmp_path):
    expected = attenuation_of_series(write_dicom(tmp_path / "study"), series())
    slices = sorted((tmp_path / "study").iterdir())
    for name, uid, keyword, value in (
        ("overview", "1.2.4", "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        ("pet", "1.2.5", "SOPClassUID", PositronEmissionTomographyImageStorage),
    ):
        other = pydicom.dcmread(slices[0])
        other.SeriesInstanceUID, other.SOPInstanceUID = uid, pydicom.uid.generate_uid()
        setattr(other, keyword, value)
        other.file_meta.MediaStorageSOPClassUID = other.SOPClassUID
        other.save_as(tmp_path / "study" / name)
    np.testing.assert_array_equal(attenuation_of_series(tmp_path / "study", series()), expected)
    archive = shutil.make_archive(str(tmp_path / "study"), "zip", tmp_path / "study")
    np.testing.assert_array_equal(attenuation_of_series(archive, series()), expected)
    second = pydicom.dcmread(slices[0])
    second.SeriesInstanceUID, second.SeriesDescription, second.SeriesNumber = "1.2.6", "thin", 9
    second.save_as(tmp_path / "study" / "second")
    with pytest.raises(PETError, match=r'2 CT series, expected one .*; number 9, CT, "thin", 1 image'):
        attenuation_of_series(tmp_path / "study", series())
