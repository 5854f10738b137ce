"""The kinds of PET series that a reader is tried on: every branch of SUV, and what must not pass silently.

Each kind says which SUV and which image a reader may give for it. Where there is none, the only right answer is to
refuse.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_encoder
from pydicom.uid import CTImageStorage, RLELossless, generate_uid

from tests.series import (
    AFFINE,
    GA68,
    SHAPE,
    STARTED,
    TRUE_SUV,
    Scan,
    save_series,
    slices_of,
)

__all__ = ["KINDS", "Kind"]

Volume = NDArray[np.float64]
Edit = Callable[[Dataset], object]

SOUND = Scan(slope_per_slice=True)
ODD = 6
"""The slice that differs from the others, where one does."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of series, and what is true of it."""

    group: str
    """Heading of the table under which it stands."""

    name: str
    """What is special about it."""

    slices: Callable[[], list[Dataset]]
    """Makes its slices, in the order of their file names."""

    suv: tuple[Volume, ...] = (TRUE_SUV,)
    """The frames of true SUVbw [g/mL]; none if SUV cannot be computed or the files are not one sound series."""

    images: tuple[Volume, ...] = ()
    """The frames as stored values times slope; none if the files are not one sound series."""

    damage: Callable[[Path], object] | None = None
    """Done to the folder after the files were written."""

    single_slice: bool = True
    """Whether what is special shows in a single slice, so that a tool that takes one file can be judged."""

    def write(self, folder: Path) -> Path:
        """Write the series into a new folder."""
        save_series(self.slices(), folder)
        if self.damage is not None:
            self.damage(folder)
        return folder


# ----------------------------------------------------------------------------------------------- building kinds


def _with(scan: Scan, *edits: Edit) -> Callable[[], list[Dataset]]:
    def make() -> list[Dataset]:
        slices = slices_of(scan)
        for dataset in slices:
            for edit in edits:
                edit(dataset)
        return slices

    return make


def _with_odd(edit: Edit) -> Callable[[], list[Dataset]]:
    def make() -> list[Dataset]:
        slices = slices_of(SOUND)
        edit(slices[ODD])
        return slices

    return make


def _set(**values: object) -> Edit:
    def edit(dataset: Dataset) -> None:
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    return edit


def _drop(*keywords: str) -> Edit:
    def edit(dataset: Dataset) -> None:
        for keyword in keywords:
            dataset.pop(keyword, None)

    return edit


def _injection(edit: Edit) -> Edit:
    return lambda dataset: edit(dataset.RadiopharmaceuticalInformationSequence[0])


def _private(group: int, creator: str, element: int, vr: str, value: str) -> Edit:
    return lambda dataset: dataset.private_block(group, creator, create=True).add_new(element, vr, value)


def _date_time(minutes: float) -> str:
    return (STARTED + timedelta(minutes=minutes)).strftime("%Y%m%d%H%M%S.00")


def _series_time(minutes: float) -> Edit:
    return _set(SeriesTime=(STARTED + timedelta(minutes=minutes)).strftime("%H%M%S"))


_PHILIPS = "Philips PET Private Group"


def _sound(group: str, name: str, scan: Scan, *edits: Edit) -> Kind:
    """Return a kind whose SUV can be computed."""
    return Kind(group=group, name=name, slices=_with(scan, *edits), images=(scan.stored_quantity(),))


def _uncalibrated(name: str, scan: Scan, *edits: Edit, group: str = "No SUV") -> Kind:
    """Return a kind whose image is sound, and whose SUV is nobody's to compute."""
    return Kind(group=group, name=name, slices=_with(scan, *edits), suv=(), images=(scan.stored_quantity(),))


def _broken(
    name: str,
    slices: Callable[[], list[Dataset]],
    *,
    images: tuple[Volume, ...] = (),
    damage: Callable[[Path], object] | None = None,
    single_slice: bool = False,
) -> Kind:
    """Return a kind that is not one sound series of one patient."""
    return Kind(
        group="Not one series",
        name=name,
        slices=slices,
        suv=(),
        images=images,
        damage=damage,
        single_slice=single_slice,
    )


# ------------------------------------------------------------------------------------ units and decay correction

_CNTS = Scan(units="CNTS", manufacturer="Philips Medical Systems", slope_per_slice=True)
_SUV_PER_COUNT = 0.00125
_COUNTS_OF_SUV = replace(_CNTS, units_per_count=_SUV_PER_COUNT * _CNTS.activity_per_suv(0))
_COUNTS_OF_ACTIVITY = replace(_CNTS, units_per_count=3.75)
_NONE = replace(SOUND, decay_correction="NONE")
_MAN = replace(SOUND, sex="M", weight=92.0, height=1.71)
_WOMAN = replace(SOUND, weight=92.0, height=1.61)

_UNITS = [
    _sound("Units and decay correction", "BQML, START", Scan()),
    _sound("Units and decay correction", "BQML, START, a slope per slice", SOUND),
    _sound("Units and decay correction", "BQML, START, two beds", replace(SOUND, n_beds=2)),
    _sound("Units and decay correction", "BQML, ADMIN", replace(SOUND, decay_correction="ADMIN")),
    _sound("Units and decay correction", "BQML, NONE", _NONE),
    _sound("Units and decay correction", "BQML, NONE, two beds with their own times", replace(_NONE, n_beds=2)),
    _sound(
        "Units and decay correction",
        "CNTS, Philips SUV factor",
        _COUNTS_OF_SUV,
        _private(0x7053, _PHILIPS, 0x00, "DS", f"{_SUV_PER_COUNT}"),
    ),
    _sound(
        "Units and decay correction",
        "CNTS, Philips activity factor",
        _COUNTS_OF_ACTIVITY,
        _private(0x7053, _PHILIPS, 0x09, "DS", "3.75"),
    ),
    _sound(
        "Units and decay correction",
        "CNTS, Philips activity factor, SUV factor 0",
        _COUNTS_OF_ACTIVITY,
        _private(0x7053, _PHILIPS, 0x00, "DS", "0.0"),
        _private(0x7053, _PHILIPS, 0x09, "DS", "3.75"),
    ),
    _sound("Units and decay correction", "GML, no SUVType", replace(SOUND, units="GML")),
    _sound("Units and decay correction", "GML, BW", replace(SOUND, units="GML", suv_type="BW")),
    # A woman: for men, tools disagree on the formula that plain LBM names.
    _sound("Units and decay correction", "GML, LBM", replace(_WOMAN, units="GML", suv_type="LBM")),
    *(
        _sound("Units and decay correction", f"GML, {suv_type}", replace(_MAN, units="GML", suv_type=suv_type))
        for suv_type in ("LBMJAMES128", "LBMJANMA", "IBW", "BSA")
    ),
    _sound("Units and decay correction", "CM2ML, BSA", replace(_MAN, units="CM2ML", suv_type="BSA")),
]

# ---------------------------------------------------------------------------------------------------- times

_LATER = replace(SOUND, corrected_to=STARTED - timedelta(minutes=10))
_MIDNIGHT = STARTED.replace(hour=0, minute=20)
_OVER_MIDNIGHT = replace(SOUND, started=_MIDNIGHT, injected=_MIDNIGHT - timedelta(hours=1))
_GE = {"manufacturer": "GE MEDICAL SYSTEMS"}
_TIME_ONLY = _injection(_drop("RadiopharmaceuticalStartDateTime"))

_TIMES = [
    _sound("Times", "injection time only", SOUND, _TIME_ONLY),
    _sound("Times", "injection date-time only", SOUND, _injection(_drop("RadiopharmaceuticalStartTime"))),
    _sound("Times", "injection before midnight, date-time", _OVER_MIDNIGHT),
    _sound("Times", "injection before midnight, time only", _OVER_MIDNIGHT, _TIME_ONLY),
    _sound(
        "Times",
        "injection date-time on a date of its own (de-identified)",
        SOUND,
        _injection(_set(RadiopharmaceuticalStartDateTime="19990101090000.00")),
    ),
    _sound("Times", "SeriesTime 40 min after AcquisitionTime", SOUND, _series_time(40)),
    _sound("Times", "SeriesTime 40 min after AcquisitionTime, GE", replace(SOUND, **_GE), _series_time(40)),
    _sound("Times", "SeriesTime 10 min before AcquisitionTime", _LATER),
    _sound(
        "Times",
        "DecayCorrectionDateTime",
        _LATER,
        _series_time(40),
        _set(DecayCorrectionDateTime=_date_time(-10)),
    ),
    _sound(
        "Times",
        "Siemens private decay time",
        _LATER,
        _series_time(40),
        _private(0x0071, "SIEMENS MED PT", 0x22, "DT", _date_time(-10)),
    ),
    _sound(
        "Times",
        "GE private decay time",
        replace(_LATER, **_GE),
        _series_time(40),
        _private(0x0009, "GEMS_PETD_01", 0x0D, "DT", _date_time(-10)),
    ),
]

# ---------------------------------------------------------------------------------------------------- repairs

_GALLIUM = Scan(half_life=GA68, dose=150e6, slope_per_slice=True)


def _dose_in_mbq(item: Dataset) -> None:
    item.RadionuclideTotalDose = "350"


_REPAIRS = [
    _sound("Repairs", "Ga-68", _GALLIUM),
    _sound("Repairs", "Ga-68, half-life missing, nuclide coded", _GALLIUM, _injection(_drop("RadionuclideHalfLife"))),
    _sound("Repairs", "dose in MBq", SOUND, _injection(_dose_in_mbq)),
    _sound("Repairs", "weight in g", SOUND, _set(PatientWeight="70000")),
    _sound(
        "Repairs",
        "height in cm, GML, LBMJAMES128",
        replace(_MAN, units="GML", suv_type="LBMJAMES128"),
        _set(PatientSize="171"),
    ),
]

# ------------------------------------------------------------------------------------------------ how it is stored


def _compress(dataset: Dataset) -> None:
    pixels = dataset.PixelData
    encoder = get_encoder(RLELossless)
    options = {
        key: dataset[keyword].value
        for key, keyword in {
            "rows": "Rows",
            "columns": "Columns",
            "samples_per_pixel": "SamplesPerPixel",
            "bits_allocated": "BitsAllocated",
            "bits_stored": "BitsStored",
            "pixel_representation": "PixelRepresentation",
            "photometric_interpretation": "PhotometricInterpretation",
        }.items()
    }
    frame = encoder.encode(pixels, index=0, number_of_frames=1, **options)
    dataset.add_new("PixelData", "OB", encapsulate([frame]))
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = RLELossless


def _reversed() -> list[Dataset]:
    return slices_of(SOUND)[::-1]


def _turned_stack(dataset: Dataset) -> None:
    """Store the rows from back to front: the same voxels at the same places, with another orientation."""
    pixels = np.frombuffer(dataset.PixelData, "<i2").reshape(SHAPE[1], SHAPE[0])
    dataset.PixelData = pixels[::-1].tobytes()
    position = list(dataset.ImagePositionPatient)
    position[1] += (SHAPE[1] - 1) * AFFINE[1, 1]
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = position, [1, 0, 0, 0, -1, 0]


_STORED_OTHERWISE = [
    Kind(
        group="Storage",
        name="file names from head to feet",
        slices=_reversed,
        images=(SOUND.stored_quantity(),),
    ),
    _sound("Storage", "rows stored from back to front", SOUND, _turned_stack),
    _sound("Storage", "RLE compressed", SOUND, _compress),
]

# ----------------------------------------------------------------------------------------------------- no SUV

_COUNT_RATE = replace(SOUND, units_per_count=2.4e3)
_NO_HALF_LIFE = _injection(_drop("RadionuclideHalfLife", "RadionuclideCodeSequence"))
_NO_INJECTION_TIME = _injection(_drop("RadiopharmaceuticalStartTime", "RadiopharmaceuticalStartDateTime"))
_AFTER_SCAN = {"RadiopharmaceuticalStartDateTime": _date_time(120), "RadiopharmaceuticalStartTime": "120000.00"}

_NO_SUV = [
    _uncalibrated("CNTS without a factor", replace(_CNTS, units_per_count=3.75)),
    *(_uncalibrated(units, replace(_COUNT_RATE, units=units)) for units in ("CPS", "PROPCNTS", "PROPCPS")),
    _uncalibrated(
        "not attenuation corrected",
        replace(SOUND, suv=0.3 * TRUE_SUV),
        _set(CorrectedImage=["DECY", "SCAT"], AttenuationCorrectionMethod="none"),
    ),
    _uncalibrated("weight missing", SOUND, _drop("PatientWeight")),
    _uncalibrated("weight 0", SOUND, _set(PatientWeight="0")),
    _uncalibrated("dose missing", SOUND, _injection(_drop("RadionuclideTotalDose"))),
    _uncalibrated("dose 0", SOUND, _injection(_set(RadionuclideTotalDose="0"))),
    _uncalibrated("half-life missing, nuclide not coded (Ga-68)", _GALLIUM, _NO_HALF_LIFE),
    _uncalibrated("injection time missing", SOUND, _NO_INJECTION_TIME),
    _uncalibrated("injection 2 h after the scan", SOUND, _injection(_set(**_AFTER_SCAN))),
    _uncalibrated(
        "GML, LBMJAMES128, height missing",
        replace(_MAN, units="GML", suv_type="LBMJAMES128"),
        _drop("PatientSize"),
    ),
]

# ------------------------------------------------------------------------------------------------ not one series


def _missing_slice() -> list[Dataset]:
    slices = slices_of(SOUND)
    del slices[ODD]
    for dataset in slices:
        dataset.NumberOfSlices = len(slices)
    return slices


def _duplicated_slice() -> list[Dataset]:
    slices = slices_of(SOUND)
    slices.insert(ODD, slices_of(SOUND)[ODD])
    slices[ODD].SOPInstanceUID = generate_uid(entropy_srcs=["duplicate"])
    # Another reconstruction of the same plane: which one is meant, nobody knows.
    slices[ODD].RescaleSlope = float(slices[ODD].RescaleSlope) * 1.5
    return slices


def _uneven() -> list[Dataset]:
    slices = slices_of(SOUND)
    for k, dataset in enumerate(slices):
        if k >= ODD:
            dataset.ImagePositionPatient[2] += 1.0
    return slices


_SECOND = replace(SOUND, suv=0.9 * TRUE_SUV)


def _two_series() -> list[Dataset]:
    return slices_of(SOUND) + slices_of(_SECOND, name="PET, another reconstruction")


def _frames(kind: str, counter: str) -> Callable[[], list[Dataset]]:
    def make() -> list[Dataset]:
        first, second = slices_of(SOUND), slices_of(replace(SOUND, suv=2 * TRUE_SUV))
        for frame, slices in enumerate((first, second)):
            for k, dataset in enumerate(slices):
                dataset.SeriesType = [kind, "IMAGE"]
                setattr(dataset, counter, 2)
                dataset.InstanceNumber = dataset.ImageIndex = frame * SHAPE[2] + k + 1
                dataset.SOPInstanceUID = generate_uid(entropy_srcs=[kind, str(frame), str(k)])
                if kind == "GATED":
                    dataset.TriggerTime = str(400.0 * frame)
                    continue
                start = STARTED + timedelta(seconds=frame * SOUND.bed_interval)
                dataset.AcquisitionTime = start.strftime("%H%M%S.%f")
                reference = float(dataset.FrameReferenceTime) + 1000.0 * frame * SOUND.bed_interval
                dataset.FrameReferenceTime = f"{reference:.1f}"
        return first + second

    return make


_TWO_FRAMES = tuple(replace(SOUND, suv=factor * TRUE_SUV).stored_quantity() for factor in (1.0, 2.0))


_IMAGE = (SOUND.stored_quantity(),)

_INTERCEPT = -1024.0
"""One that the values were not made with, as a careless converter leaves it; PS3.3 C.8.9.4 wants 0."""


def _computed_tomography(dataset: Dataset) -> None:
    dataset.Modality, dataset.SOPClassUID = "CT", CTImageStorage
    for keyword in ("Units", "DecayCorrection", "RadiopharmaceuticalInformationSequence", "CorrectedImage"):
        dataset.pop(keyword, None)


def _file(folder: Path) -> Path:
    return sorted(folder.iterdir())[ODD]


def _truncate(folder: Path) -> None:
    path = _file(folder)
    path.write_bytes(path.read_bytes()[: -SHAPE[0] * SHAPE[1]])


def _shorten(dataset: Dataset) -> None:
    dataset.PixelData = dataset.PixelData[: SHAPE[0] * SHAPE[1]]


def _mirror(dataset: Dataset) -> None:
    dataset.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]


def _two_injections(dataset: Dataset) -> None:
    dataset.RadiopharmaceuticalInformationSequence[0].RadionuclideTotalDose = "175000000"


_NOT_ONE_SERIES = [
    _broken("slice without RescaleSlope", _with_odd(_drop("RescaleSlope")), single_slice=True),
    _broken(
        "RescaleIntercept not 0",
        _with(SOUND, _set(RescaleIntercept=f"{_INTERCEPT:g}")),
        images=(SOUND.stored_quantity() + _INTERCEPT,),
        single_slice=True,
    ),
    _broken("one slice in other units", _with_odd(_set(Units="CNTS"))),
    _broken("one slice of another patient", _with_odd(_set(PatientID="OTHER", PatientName="OTHER"))),
    _broken("one slice with another weight", _with_odd(_set(PatientWeight="90")), images=_IMAGE),
    _broken("one slice with another dose", _with_odd(_two_injections), images=_IMAGE),
    Kind(
        group="Not one series",
        name="two series in the folder",
        slices=_two_series,
        suv=(TRUE_SUV, 0.9 * TRUE_SUV),
        images=(SOUND.stored_quantity(), _SECOND.stored_quantity()),
        single_slice=False,
    ),
    _broken("missing slice", _missing_slice),
    _broken("two slices at one position", _duplicated_slice),
    _broken("unequal spacing", _uneven),
    _broken("one slice mirrored", _with_odd(_mirror)),
    _broken("one slice with another pixel spacing", _with_odd(_set(PixelSpacing=[4.4, 4.4]))),
    *(
        Kind(
            group="Not one series",
            name=f"two {word} frames",
            slices=_frames(kind, counter),
            suv=(TRUE_SUV, 2 * TRUE_SUV),
            images=_TWO_FRAMES,
            single_slice=False,
        )
        for word, kind, counter in (
            ("dynamic", "DYNAMIC", "NumberOfTimeSlices"),
            ("gated", "GATED", "NumberOfTimeSlots"),
        )
    ),
    _broken("truncated file", _with(SOUND), damage=_truncate, single_slice=True),
    _broken("short pixel data", _with_odd(_shorten), single_slice=True),
    _broken("Rows and Columns 65535", _with_odd(_set(Rows=65535, Columns=65535)), single_slice=True),
    Kind(
        group="Not one series",
        name="a CT series",
        slices=_with(SOUND, _computed_tomography),
        suv=(),
        images=_IMAGE,
    ),
]

KINDS: Sequence[Kind] = (*_UNITS, *_TIMES, *_REPAIRS, *_STORED_OTHERWISE, *_NO_SUV, *_NOT_ONE_SERIES)
"""All kinds, in the order of the table."""
