"""Headers of a PET series that never was DICOM, such as a simulated scan or a volume read from NIfTI."""

from copy import deepcopy
from datetime import datetime, timedelta

import numpy as np
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import PositronEmissionTomographyImageStorage, generate_uid
from pydicom.valuerep import format_number_as_ds

from pipeline.errors import PETError
from pipeline.pet.dicom.reading.times import moment_of_reference
from pipeline.pet.dicom.slices import ORIENTATION_TOLERANCE
from pipeline.pet.dicom.values import code_item
from pipeline.pet.grid import LPS_TO_RAS
from pipeline.pet.header import PETHeader
from pipeline.pet.series import PETSeries
from pipeline.pet.suv.factor import decay_factor
from pipeline.pet.suv.nuclides import NUCLIDE_OF_CODE

__all__ = ["original_headers"]

ACQUISITION = datetime(2000, 1, 1, 12, 0, 0)
"""Start of the acquisition in every series written here. A `PETHeader` has no date, and this one belongs to nobody."""


def _ds(value: float) -> str:
    return format_number_as_ds(float(value))


def _lo(text: str) -> str:
    """Return a long string: at most 64 characters, and no backslash, which would separate values."""
    return text.replace("\\", "/")[:64]


def _date(moment: datetime) -> str:
    return moment.strftime("%Y%m%d")


def _time(moment: datetime) -> str:
    return moment.strftime("%H%M%S.%f")


def _after(seconds: float | None) -> datetime:
    return ACQUISITION + timedelta(seconds=seconds or 0.0)


def _optional_ds(value: float | None) -> str:
    return "" if value is None else _ds(value)


def _radiopharmaceutical(header: PETHeader) -> Dataset:
    item = Dataset()
    item.Radiopharmaceutical = _lo(header.radiopharmaceutical)
    item.RadionuclideTotalDose = _optional_ds(header.injected_dose)
    item.RadionuclideHalfLife = _optional_ds(header.radionuclide_half_life)
    if header.administration_time is not None:
        administered = _after(header.administration_time)
        item.RadiopharmaceuticalStartTime = _time(administered)
        item.RadiopharmaceuticalStartDateTime = _date(administered) + _time(administered)
    item.RadionuclideCodeSequence = [
        code_item(value, scheme, "^{1}^{0}".format(*nuclide.split("-")))
        for (scheme, value), nuclide in NUCLIDE_OF_CODE.items()
        if nuclide == header.radionuclide and scheme == "SCT"
    ]
    return item


def _native_affine(series: PETSeries) -> NDArray[np.float64]:
    """Return the affine of the same voxels with columns to the left, rows to the back, slices to the head."""
    flip = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt("LPS"))
    return series.affine @ inv_ornt_aff(flip, series.suv.shape)


def original_headers(
    series: PETSeries, *, description: str, derivation: str | None, subject_id: str, uid_key: str | None = None
) -> tuple[list[Dataset], NDArray[np.float64]]:
    """Return headers of a complete axial PET series, and the affine of its stack.

    Dates are synthetic: the acquisition starts at noon of 1 January 2000. Parameters are those of
    `write_dicom_series`, and `DicomOptions.uid_key`.

    Returns
    -------
    headers
        One for each slice, from feet to head, without pixel data.
    affine
        (column, row, slice) to RAS+ position [mm]. Shape (4, 4).

    Raises
    ------
    PETError
        If the axes of the volume are not at right angles, which DICOM cannot describe.
    """
    affine = _native_affine(series)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / spacing
    skew = np.abs(directions.T @ directions - np.eye(3)).max()
    if skew > ORIENTATION_TOLERANCE or np.linalg.det(directions) < 0:
        raise PETError("axes of the volume are not at right angles or are mirrored, expected a DICOM grid")
    common = _common(series.header, description=description, subject_id=subject_id, uid_key=uid_key)
    if derivation is not None:
        common.ImageType = ["DERIVED", "PRIMARY"]
        common.DerivationDescription = derivation
    n_slices = series.suv.shape[2]
    common.NumberOfSlices = n_slices
    common.PixelSpacing = [_ds(spacing[1]), _ds(spacing[0])]
    common.SliceThickness = _ds(spacing[2])
    lps = LPS_TO_RAS @ affine
    common.ImageOrientationPatient = [_ds(c) for c in (LPS_TO_RAS[:3, :3] @ directions)[:, :2].T.ravel()]
    headers = []
    for k in range(n_slices):
        slice_header = deepcopy(common)
        slice_header.SOPInstanceUID = _uid(uid_key, "instance", description, str(k))
        slice_header.InstanceNumber = k + 1
        slice_header.ImageIndex = k + 1
        slice_header.ImagePositionPatient = [_ds(c) for c in lps[:3, 2] * k + lps[:3, 3]]
        headers.append(slice_header)
    return headers, affine


def _uid(key: str | None, *names: str) -> str:
    """Return a new UID, or the one that a key and what it is for always give."""
    return generate_uid(entropy_srcs=None if key is None else [key, *names])


def _common(header: PETHeader, *, description: str, subject_id: str, uid_key: str | None) -> Dataset:
    """Return what all slices share, by module of the PET Image IOD (PS3.3 A.21)."""
    reference = _after(header.reference_time if header.decay_correction == "START" else 0.0)
    duration = header.frame_duration or 0.0
    common = Dataset()
    common.SpecificCharacterSet = "ISO_IR 192"
    # Patient, study.
    common.PatientName = common.PatientID = subject_id
    common.PatientBirthDate = ""
    common.PatientSex = header.patient_sex
    common.PatientWeight = _optional_ds(header.patient_weight)
    common.PatientSize = _optional_ds(header.patient_height)
    common.StudyInstanceUID = _uid(uid_key, "study")
    common.StudyDate, common.StudyTime = _date(ACQUISITION), _time(ACQUISITION)
    common.StudyID = common.AccessionNumber = common.ReferringPhysicianName = ""
    # Series: it starts where the decay correction refers to, PS3.3 C.8.9.1.1.4.
    common.Modality = "PT"
    common.SeriesInstanceUID = _uid(uid_key, "series", description)
    common.SeriesNumber = 1
    common.Laterality = ""
    common.SeriesDescription = description
    common.SeriesDate, common.SeriesTime = _date(reference), _time(reference)
    common.SeriesType = ["STATIC", "IMAGE"]
    common.Units = header.units
    if header.units == "GML":
        common.SUVType = "BW"
    common.CountsSource = "EMISSION"
    common.DecayCorrection = header.decay_correction
    common.CorrectedImage = ["DECY", "ATTN"]
    common.CollimatorType = "NONE"
    common.ReconstructionMethod = _lo(header.reconstruction_method)
    common.RadiopharmaceuticalInformationSequence = [_radiopharmaceutical(header)]
    common.PatientOrientationCodeSequence = [code_item("102538003", "SCT", "recumbent")]
    common.PatientOrientationCodeSequence[0].PatientOrientationModifierCodeSequence = [
        code_item("40199007", "SCT", "supine")
    ]
    common.PatientGantryRelationshipCodeSequence = [code_item("102540008", "SCT", "headfirst")]
    # Frame of reference, equipment.
    common.FrameOfReferenceUID = _uid(uid_key, "frame of reference")
    common.PositionReferenceIndicator = ""
    common.Manufacturer = _lo(header.manufacturer)
    common.ManufacturerModelName = _lo(header.model_name)
    # Image.
    common.SOPClassUID = PositronEmissionTomographyImageStorage
    common.ImageType = ["ORIGINAL", "PRIMARY"]
    common.AcquisitionDate, common.AcquisitionTime = _date(ACQUISITION), _time(ACQUISITION)
    common.ContentDate, common.ContentTime = _date(ACQUISITION), _time(ACQUISITION)
    common.ActualFrameDuration = round(1000 * duration)
    average = 0.0
    if header.radionuclide_half_life is not None:
        average = moment_of_reference(
            header.manufacturer, frame_duration=duration, half_life=header.radionuclide_half_life
        )
        # What the decay correction multiplied the activity in the middle of the frame by, C.8.9.4.1.9.
        elapsed = average - (header.reference_time or 0.0)
        common.DecayFactor = _ds(1.0 / decay_factor(elapsed, header.radionuclide_half_life))
    common.FrameReferenceTime = _ds(1000 * ((ACQUISITION - reference).total_seconds() + average))
    common.LossyImageCompression = "00"
    if reference != ACQUISITION:
        common.DecayCorrectionDateTime = _date(reference) + _time(reference)
    return common
