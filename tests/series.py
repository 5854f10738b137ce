"""Small PET series whose SUV is known, because the scan that made them is computed forwards.

A `Scan` states the physics: what was injected, when, into whom, and how the scanner wrote it down. The voxels of a
series follow from the law of decay and from the definition of SUV, not from any rule that a reader applies. The
files are written with pydicom alone, so that no code under test takes part in making its own test.
"""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage, generate_uid
from pydicom.valuerep import format_number_as_ds

__all__ = [
    "AFFINE",
    "SHAPE",
    "STARTED",
    "TRUE_SUV",
    "Scan",
    "code_item",
    "date_and_time",
    "save_dataset",
    "save_series",
    "set_pixels",
    "slices_of",
]

SHAPE = (16, 14, 12)
"""Voxels along X, Y and Z. All differ, so that exchanged axes are noticed."""

VOXEL_SIZE = (4.0, 4.0, 3.0)
"""[mm]"""

FIRST_VOXEL = (-33.0, -21.0, -310.5)
"""RAS position of the voxel that lies most to the left, back and feet [mm]. Off-centre, so that flips are noticed."""

STARTED = datetime(2000, 5, 17, 10, 0, 0)
"""Start of every acquisition, unless a kind says otherwise."""

F18, GA68 = 6586.2, 4062.6
"""Half-lives [s]."""

NUCLIDES = {F18: ("FDG", "77004003", "^18^Fluorine"), GA68: ("DOTATATE", "35337001", "^68^Gallium")}
"""For each half-life the radiopharmaceutical, and SNOMED CT code and meaning of the nuclide (PS3.16 CID 4020)."""

LARGEST = 32767


def _affine() -> NDArray[np.float64]:
    affine = np.diag([*VOXEL_SIZE, 1.0])
    affine[:3, 3] = FIRST_VOXEL
    return affine


AFFINE = _affine()
"""Voxel index to RAS+ position [mm]. Shape (4, 4)."""


def _phantom() -> NDArray[np.float64]:
    suv = np.random.default_rng(20).uniform(1.0, 10.0, SHAPE)
    # A bladder through all slices: slopes are then far from 1, as in a patient.
    suv[7, 4] *= 6.0
    return suv


TRUE_SUV = _phantom()
"""SUVbw [g/mL]; every voxel differs, so that every displacement is noticed. Shape (X, Y, Z)."""


@dataclass(frozen=True, kw_only=True)
class Scan:
    """How a patient was scanned, and how the scanner writes it down."""

    units: str = "BQML"
    """Units (0054,1001)."""

    suv_type: str = ""
    """SUVType (0054,1006)."""

    decay_correction: str = "START"
    """DecayCorrection (0054,1102)."""

    half_life: float = F18
    """Half-life [s]."""

    dose: float = 350e6
    """Activity at `injected` [Bq]."""

    injected: datetime = STARTED - timedelta(hours=1)
    """Time of the administration."""

    started: datetime = STARTED
    """Start of the acquisition of the first bed."""

    corrected_to: datetime | None = None
    """Time to which START corrects; the start of the acquisition if None."""

    n_beds: int = 1
    """Beds scanned one after the other, from the feet; the slices are shared among them."""

    frame_duration: float = 120.0
    """Duration of a bed [s]."""

    bed_interval: float = 150.0
    """From the start of a bed to the start of the next [s]."""

    weight: float = 70.0
    """Body weight [kg]."""

    height: float = 1.75
    """Body height [m]."""

    sex: str = "F"
    """``"F"`` or ``"M"``."""

    manufacturer: str = "SIEMENS"
    """Manufacturer; GE counts FrameReferenceTime to the start of the frame, others to its average activity."""

    slope_per_slice: bool = False
    """Whether each slice has a RescaleSlope of its own."""

    units_per_count: float = 1.0
    """What one unit of the stored quantity is worth in the physical one; the vendor's factor of CNTS."""

    suv: NDArray[np.float64] | None = None
    """True SUVbw, `TRUE_SUV` if None. Shape (X, Y, Z)."""

    @property
    def decay_constant(self) -> float:
        """Decay constant ln 2 / half-life [1/s]."""
        return math.log(2.0) / self.half_life

    @property
    def reference(self) -> datetime:
        """Time to which START corrects."""
        return self.corrected_to or self.started

    def bed_start(self, k: int) -> datetime:
        """Return when the acquisition of slice `k`, counted from the feet, began."""
        bed = k * self.n_beds // SHAPE[2]
        return self.started + timedelta(seconds=bed * self.bed_interval)

    def activity_per_suv(self, k: int) -> float:
        """Return what one SUVbw is in Bq/mL in slice `k`, as this scanner corrects it for decay.

        SUVbw is the concentration at the time of administration over dose per gram of body weight.
        """
        at_administration = self.dose / (1000.0 * self.weight)
        if self.decay_correction == "ADMIN":
            return at_administration
        moment = self.bed_start(k) if self.decay_correction == "NONE" else self.reference
        left = math.exp(-self.decay_constant * (moment - self.injected).total_seconds())
        if self.decay_correction == "NONE":
            # Mean of the decaying activity over the frame.
            exponent = self.decay_constant * self.frame_duration
            left *= -math.expm1(-exponent) / exponent
        return at_administration * left

    def body_size(self) -> float:
        """Return by what `suv_type` divides the dose, over body weight [g/g], or [cm2/g] for the surface.

        Sources: James 1976, Janmahasatian 2005, Du Bois 1916, and the ideal body weight of DICOM PS3.16 CID 85.
        """
        w, h, male = self.weight, 100.0 * self.height, self.sex == "M"
        bmi = w / self.height**2
        sizes = {
            "": w,
            "BW": w,
            # James as DICOM has it (LBM: 120), and with the factor that some papers print (LBMJAMES128).
            "LBM": 1.10 * w - 120 * (w / h) ** 2 if male else 1.07 * w - 148 * (w / h) ** 2,
            "LBMJAMES128": 1.10 * w - 128 * (w / h) ** 2 if male else 1.07 * w - 148 * (w / h) ** 2,
            "LBMJANMA": 9270 * w / (6680 + 216 * bmi) if male else 9270 * w / (8780 + 244 * bmi),
            "IBW": 48.0 + 1.06 * (h - 152) if male else 45.5 + 0.91 * (h - 152),
            # 0.007184 H^0.725 W^0.425 m2 is so many cm2; per kg of body weight to per g.
            "BSA": 71.84 * h**0.725 * w**0.425 / 1000.0,
        }
        return sizes[self.suv_type] / w

    def stored_per_suv(self, k: int) -> float:
        """Return what one SUVbw is in `units` in slice `k`."""
        if self.units in {"GML", "CM2ML"}:
            return self.body_size()
        return self.activity_per_suv(k) / self.units_per_count

    def stored_quantity(self) -> NDArray[np.float64]:
        """Return the volume in `units`, before it is rounded to integers. Shape (X, Y, Z)."""
        suv = TRUE_SUV if self.suv is None else self.suv
        return suv * np.array([self.stored_per_suv(k) for k in range(SHAPE[2])])


def _date(moment: datetime) -> str:
    return moment.strftime("%Y%m%d")


def _time(moment: datetime) -> str:
    return moment.strftime("%H%M%S.%f")


def date_and_time(moment: datetime) -> tuple[str, str]:
    """Return DA and TM of a moment."""
    return _date(moment), _time(moment)


def code_item(value: str, meaning: str, *, scheme: str = "SCT") -> Dataset:
    """Return an item of a code sequence."""
    item = Dataset()
    item.CodingSchemeDesignator, item.CodeMeaning = scheme, meaning
    # A short string has 16 characters.
    setattr(item, "CodeValue" if len(value) <= 16 else "LongCodeValue", value)
    return item


def set_pixels(dataset: Dataset, values: NDArray[np.floating], *, signed: bool) -> None:
    """Give a data set the pixels of one slice (rows, columns), or of several frames (frames, rows, columns)."""
    dataset.Rows, dataset.Columns = values.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, int(signed)
    dataset.add_new("PixelData", "OW", np.rint(values).astype("<i2" if signed else "<u2").tobytes())


def _radiopharmaceutical(scan: Scan) -> Dataset:
    item = Dataset()
    item.Radiopharmaceutical, *code = NUCLIDES[scan.half_life]
    item.RadionuclideTotalDose = format_number_as_ds(scan.dose)
    item.RadionuclideHalfLife = format_number_as_ds(scan.half_life)
    item.RadiopharmaceuticalStartTime = _time(scan.injected)
    item.RadiopharmaceuticalStartDateTime = _date(scan.injected) + _time(scan.injected)
    item.RadionuclideCodeSequence = [code_item(*code)]
    return item


def _series_header(scan: Scan, name: str) -> Dataset:
    """Return what all slices share, by module of the PET Image IOD (PS3.3 A.21)."""
    header = Dataset()
    header.PatientName = header.PatientID = "PHANTOM"
    header.PatientBirthDate = ""
    header.PatientSex = scan.sex
    header.PatientWeight, header.PatientSize = format_number_as_ds(scan.weight), format_number_as_ds(scan.height)
    header.StudyInstanceUID = generate_uid(entropy_srcs=["study"])
    header.SeriesInstanceUID = generate_uid(entropy_srcs=["series", name])
    header.FrameOfReferenceUID = generate_uid(entropy_srcs=["frame"])
    header.PositionReferenceIndicator = ""
    header.StudyDate, header.StudyTime = _date(scan.started), _time(scan.started)
    header.StudyID = header.AccessionNumber = header.ReferringPhysicianName = header.Laterality = ""
    # As scanners write it, although PS3.3 has it either here or in the sequences below.
    header.PatientPosition = "HFS"
    header.Modality, header.SeriesNumber, header.SeriesDescription = "PT", 1, name
    header.SeriesDate, header.SeriesTime = _date(scan.reference), _time(scan.reference)
    header.SeriesType = ["STATIC" if scan.n_beds == 1 else "WHOLE BODY", "IMAGE"]
    header.NumberOfSlices = SHAPE[2]
    header.Units, header.DecayCorrection, header.CountsSource = scan.units, scan.decay_correction, "EMISSION"
    if scan.suv_type:
        header.SUVType = scan.suv_type
    header.CorrectedImage = ["ATTN"] if scan.decay_correction == "NONE" else ["DECY", "ATTN"]
    header.CollimatorType, header.ReconstructionMethod = "NONE", "OSEM"
    header.RadiopharmaceuticalInformationSequence = [_radiopharmaceutical(scan)]
    header.PatientOrientationCodeSequence = [code_item("102538003", "recumbent")]
    header.PatientOrientationCodeSequence[0].PatientOrientationModifierCodeSequence = [code_item("40199007", "supine")]
    header.PatientGantryRelationshipCodeSequence = [code_item("102540008", "headfirst")]
    header.Manufacturer, header.ManufacturerModelName = scan.manufacturer, "Phantom"
    header.SOPClassUID = PositronEmissionTomographyImageStorage
    header.ImageType = ["ORIGINAL", "PRIMARY"]
    header.ContentDate, header.ContentTime = _date(scan.started), _time(scan.started)
    header.ActualFrameDuration = round(1000 * scan.frame_duration)
    header.LossyImageCompression = "00"
    header.PixelSpacing = [VOXEL_SIZE[1], VOXEL_SIZE[0]]
    header.SliceThickness = VOXEL_SIZE[2]
    header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    return header


def _set_times(dataset: Dataset, scan: Scan, k: int) -> None:
    acquired = scan.bed_start(k)
    dataset.AcquisitionDate, dataset.AcquisitionTime = _date(acquired), _time(acquired)
    # FrameReferenceTime counts from the reference time to the moment of average activity (PS3.3 C.8.9.4.1.5).
    exponent = scan.decay_constant * scan.frame_duration
    average = math.log(exponent / -math.expm1(-exponent)) / scan.decay_constant
    within = 0.0 if "GE" in scan.manufacturer.split() else average
    elapsed = (acquired - scan.reference).total_seconds()
    dataset.FrameReferenceTime = format_number_as_ds(1000.0 * (elapsed + within))
    if scan.decay_correction == "START":
        dataset.DecayFactor = format_number_as_ds(math.exp(scan.decay_constant * (elapsed + average)))


def slices_of(scan: Scan, *, name: str = "PET") -> list[Dataset]:
    """Return the slices of a scan from feet to head, each a complete PET image.

    Parameters
    ----------
    scan
        What was scanned, and how.
    name
        SeriesDescription; series of different names are different series of one study.
    """
    common, quantity, slices = _series_header(scan, name), scan.stored_quantity(), []
    for k in range(SHAPE[2]):
        dataset = deepcopy(common)
        _set_times(dataset, scan, k)
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=["instance", name, str(k)])
        dataset.InstanceNumber = dataset.ImageIndex = k + 1
        # Pixels are stored from right to left and from front to back; DICOM's X and Y grow to the left and back.
        right, front, height = (AFFINE @ [SHAPE[0] - 1, SHAPE[1] - 1, k, 1])[:3]
        dataset.ImagePositionPatient = [-right, -front, height]
        values = quantity[::-1, ::-1, k].T
        slope = format_number_as_ds(float((values if scan.slope_per_slice else quantity).max()) / LARGEST)
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, "0"
        set_pixels(dataset, values / float(slope), signed=True)
        slices.append(dataset)
    return slices


def save_series(slices: Sequence[Dataset], folder: Path) -> Path:
    """Write slices as ``IM_0001.dcm`` and so on into a new folder, in Explicit VR Little Endian.

    A slice that carries file meta information keeps its transfer syntax.
    """
    folder.mkdir(parents=True)
    for number, dataset in enumerate(slices, start=1):
        save_dataset(dataset, folder / f"IM_{number:04d}.dcm")
    return folder


def save_dataset(dataset: Dataset, path: Path) -> None:
    """Write one data set, in Explicit VR Little Endian unless it carries another transfer syntax."""
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)
