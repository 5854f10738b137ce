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
from pipeline.pet.series import PETHeader, PETSeries
from pipeline.pet.suv.factor import average_activity_time, decay_factor
from pipeline.pet.suv.nuclides import NUCLIDE_OF_CODE

__all__ = ["original_headers"]

ACQUISITION = datetime(2000, 1, 1, 12, 0, 0)
"""Start of the acquisition in every series written here. A `PETHeader` has no date, and this one belongs to nobody."""


def _ds(value: float | None) -> str:
    return "" if value is None else format_number_as_ds(float(value))


def _lo(text: str) -> str:
    """Return a long string: at most 64 characters, and no backslash, which would separate values."""
    return text.replace("\\", "/")[:64]


def _after(seconds: float | None) -> datetime:
    return ACQUISITION + timedelta(seconds=seconds or 0.0)


def original_headers(
    series: PETSeries, *, description: str, derivation: str | None, subject_id: str, uid_key: str | None
) -> tuple[list[Dataset], NDArray[np.float64]]:
    """Return headers of a complete axial PET series, and the affine of its stack.

    Parameters are those of `write_dicom_series`, and `DicomOptions.uid_key`.

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
    # Columns to the left, rows to the back, slices to the head.
    flip = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt("LPS"))
    affine = series.affine @ inv_ornt_aff(flip, series.suv.shape)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / spacing
    skew = np.abs(directions.T @ directions - np.eye(3)).max()
    if skew > ORIENTATION_TOLERANCE or np.linalg.det(directions) < 0:
        raise PETError("axes of the volume are not at right angles or are mirrored, expected a DICOM grid")

    def uid(*names: str) -> str:
        return generate_uid(entropy_srcs=None if uid_key is None else [uid_key, *names])

    common = Dataset()
    common.PatientName = common.PatientID = subject_id
    common.StudyInstanceUID = uid("study")
    common.SeriesInstanceUID = uid("series", description)
    common.FrameOfReferenceUID = uid("frame of reference")
    common.SeriesDescription = description
    common.ImageType = ["ORIGINAL" if derivation is None else "DERIVED", "PRIMARY"]
    if derivation is not None:
        common.DerivationDescription = derivation
    _describe_scan(common, series.header)
    _state_times(common, series.header)
    common.NumberOfSlices = series.suv.shape[2]
    common.PixelSpacing = [_ds(spacing[1]), _ds(spacing[0])]
    common.SliceThickness = _ds(spacing[2])
    lps = LPS_TO_RAS @ affine
    common.ImageOrientationPatient = [_ds(c) for c in (LPS_TO_RAS[:3, :3] @ directions)[:, :2].T.ravel()]
    headers = []
    for k in range(series.suv.shape[2]):
        header = deepcopy(common)
        header.SOPInstanceUID = uid("instance", description, str(k))
        header.InstanceNumber = header.ImageIndex = k + 1
        header.ImagePositionPatient = [_ds(c) for c in lps[:3, 2] * k + lps[:3, 3]]
        headers.append(header)
    return headers, affine


def _describe_scan(common: Dataset, header: PETHeader) -> None:
    """Write patient, scanner and radiopharmaceutical; `write_dicom_series` adds what may be empty."""
    common.SpecificCharacterSet = "ISO_IR 192"
    common.SOPClassUID = PositronEmissionTomographyImageStorage
    common.Modality = "PT"
    common.SeriesNumber = 1
    common.SeriesType = ["STATIC", "IMAGE"]
    common.PatientSex = header.patient_sex
    common.PatientWeight = _ds(header.patient_weight)
    common.PatientSize = _ds(header.patient_height)
    recumbent = code_item("102538003", "SCT", "recumbent")
    recumbent.PatientOrientationModifierCodeSequence = [code_item("40199007", "SCT", "supine")]
    common.PatientOrientationCodeSequence = [recumbent]
    common.PatientGantryRelationshipCodeSequence = [code_item("102540008", "SCT", "headfirst")]
    common.Manufacturer = _lo(header.manufacturer)
    common.ManufacturerModelName = _lo(header.model_name)
    common.ReconstructionMethod = _lo(header.reconstruction_method)
    if header.reconstruction_filter:
        common.ConvolutionKernel = _lo(header.reconstruction_filter)[:16]  # a short string
    common.Units = header.units
    if header.units == "GML":
        common.SUVType = "BW"
    common.CountsSource = "EMISSION"
    common.CorrectedImage = ["DECY", "ATTN"]
    common.CollimatorType = "NONE"
    common.LossyImageCompression = "00"
    item = Dataset()
    item.Radiopharmaceutical = _lo(header.radiopharmaceutical)
    item.RadionuclideTotalDose = _ds(header.injected_dose)
    item.RadionuclideHalfLife = _ds(header.radionuclide_half_life)
    if header.administration_time is not None:
        administered = _after(header.administration_time)
        item.RadiopharmaceuticalStartTime = administered.strftime("%H%M%S.%f")
        item.RadiopharmaceuticalStartDateTime = administered.strftime("%Y%m%d%H%M%S.%f")
    item.RadionuclideCodeSequence = [
        code_item(value, scheme, "^{1}^{0}".format(*nuclide.split("-")))
        for (scheme, value), nuclide in NUCLIDE_OF_CODE.items()
        if nuclide == header.radionuclide and scheme == "SCT"
    ]
    common.RadiopharmaceuticalInformationSequence = [item]


def _state_times(common: Dataset, header: PETHeader) -> None:
    """Write when the scan was, to which moment its decay is corrected, and by how much."""
    # The series starts where the decay correction refers to, PS3.3 C.8.9.1.1.4.
    reference = _after(header.reference_time if header.decay_correction == "START" else 0.0)
    moments = {"Study": ACQUISITION, "Series": reference, "Acquisition": ACQUISITION, "Content": ACQUISITION}
    for name, moment in moments.items():
        setattr(common, f"{name}Date", moment.strftime("%Y%m%d"))
        setattr(common, f"{name}Time", moment.strftime("%H%M%S.%f"))
    common.DecayCorrection = header.decay_correction
    if reference != ACQUISITION:
        common.DecayCorrectionDateTime = common.SeriesDate + common.SeriesTime
    duration, half_life = header.frame_duration or 0.0, header.radionuclide_half_life
    common.ActualFrameDuration = round(1000 * duration)
    within = 0.0
    if half_life is not None:
        within = moment_of_reference(header.manufacturer, frame_duration=duration, half_life=half_life)
        # What the decay correction multiplied the average activity of the frame by, C.8.9.4.1.9.
        elapsed = average_activity_time(duration, half_life) - (header.reference_time or 0.0)
        common.DecayFactor = _ds(1.0 / decay_factor(elapsed, half_life))
    common.FrameReferenceTime = _ds(1000 * ((ACQUISITION - reference).total_seconds() + within))
