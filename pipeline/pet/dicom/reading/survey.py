"""Everything that the headers of a DICOM PET series say: its grid and the SUVbw factor of every slice.

What reading a series and explaining its SUV have in common; no pixel is decoded here.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PETError
from pipeline.pet.dicom.geometry import POSITION_TOLERANCE, SliceStack, stack_slices
from pipeline.pet.dicom.private import SCALE_FACTORS, private_number
from pipeline.pet.dicom.reading.enhanced import read_frames
from pipeline.pet.dicom.reading.files import ENHANCED, SliceFile, read_dataset, read_slice_files
from pipeline.pet.dicom.reading.header import SeriesHeader, read_header
from pipeline.pet.dicom.reading.one_series import check_instances, check_one_frame, check_one_series, check_uniform
from pipeline.pet.dicom.reading.pixels import check_pixels
from pipeline.pet.dicom.values import text_of
from pipeline.pet.header import PETHeader
from pipeline.pet.suv.body_size import suvbw_per_suv
from pipeline.pet.suv.factor import stored_header, suvbw_factor_of

__all__ = ["Survey", "survey_series"]

STORED = {"BQML": "Bq/mL", "CNTS": "count", "GML": "g/mL", "CM2ML": "cm2/mL"}
"""For each Units: one unit of the stored quantity in a sentence."""


@dataclass(frozen=True)
class Survey:
    """A series before its pixels are decoded."""

    files: tuple[SliceFile, ...]
    """The slices, in the order of the stack."""

    stack: SliceStack
    """Their grid."""

    header: PETHeader
    """What SUV depends on."""

    factors: NDArray[np.float64]
    """SUVbw per stored unit, one for each slice. Shape (slices,)."""

    provenance: tuple[str, ...]
    """How the factor came about, one sentence each."""

    @property
    def factor(self) -> float | None:
        """The factor of all slices, or None where every slice has its own."""
        return float(self.factors[0]) if (self.factors == self.factors[0]).all() else None


def survey_series(path: Path, *, with_pixels: bool) -> Survey:
    """Check the files of one series, and work out its grid and its factors.

    Parameters
    ----------
    path
        Folder of one series, or the file of a multi-frame one.
    with_pixels
        Whether to read the pixel data, too, so that the slices can be decoded afterwards.

    Raises
    ------
    PETError
        If this is not one complete, static, attenuation-corrected PET series of one patient from which SUVbw can
        be computed.
    """
    files, notes, stated = _find(path, with_pixels=with_pixels)
    check_pixels(files)
    stack = stack_slices([file.dataset for file in files], [file.name for file in files])
    if files[0].image is None:
        # After the geometry, which says more of a slice that is there twice.
        check_instances(files)
    if stack.unevenness > POSITION_TOLERANCE:
        notes = (*notes, f"Slices lie up to {stack.unevenness:.2f} mm off an even grid.")
    files = [files[k] for k in stack.order]
    found = read_header([file.dataset for file in files])
    factors = _factors_of(found, len(files))
    header = found.header
    kind = "slices" if files[0].image is None else "frames of a multi-frame image"
    return Survey(
        files=tuple(files),
        stack=stack,
        header=header,
        factors=factors,
        provenance=(
            f"Read from a DICOM series of {len(files)} {kind}, Units {header.units}, "
            f"DecayCorrection {header.decay_correction or 'missing'}.",
            *notes,
            *found.notes,
            _rule(header, factors),
            *_other_factors(header, files[0], factors[0], stated),
        ),
    )


def _find(path: Path, *, with_pixels: bool) -> tuple[list[SliceFile], tuple[str, ...], float | None]:
    """Return the checked slices of a series, what was noticed, and the factor that the images state."""
    if path.is_dir():
        files, n_other = read_slice_files(path, with_pixels=with_pixels)
    else:
        dataset = read_dataset(path, stop_before_pixels=not with_pixels)
        if dataset is None:
            raise PETError("not a DICOM file, expected the folder of a DICOM PET series")
        files, n_other = [SliceFile(path, path.name, dataset, has_pixels=with_pixels)], 0
    if len(files) > 1 or text_of(files[0].dataset, "SOPClassUID") not in ENHANCED:
        if not path.is_dir():
            raise PETError("a single DICOM file, expected the folder that holds the whole series")
        return files, check_one_series(files, n_other), None
    frames, stated = read_frames(files[0])
    check_uniform(frames)
    return frames, check_one_frame(frames), stated


def _factors_of(found: SeriesHeader, n_slices: int) -> NDArray[np.float64]:
    header = found.header
    if header.units in {"BQML", "CNTS"} and header.suv_per_count is None and found.average_times is not None:
        return np.array([suvbw_factor_of(replace(header, reference_time=time)) for time in found.average_times])
    return np.full(n_slices, suvbw_factor_of(header))


_LEAN_BODY_MASS = "James's formula with Morgan's 120 for men, as DICOM defines LBM (128 is SUVType LBMJAMES128)"


def _rule(header: PETHeader, factors: NDArray[np.float64]) -> str:
    """Return the sentence that says where the factor comes from."""
    lowest, highest = f"{factors.min():.6e}", f"{factors.max():.6e}"
    value = lowest if lowest == highest else f"{lowest} to {highest}, slice by slice,"
    suv_type = header.suv_type or "BW"
    if header.units == "CNTS":
        attribute = SCALE_FACTORS[0] if header.suv_per_count is not None else SCALE_FACTORS[1]
        how = attribute.name
    elif header.units == "CM2ML":
        how = "weight and body surface area by Du Bois"
    elif header.units == "GML" and suv_type == "BW":
        how = "values are SUVbw already" if header.suv_type else "SUVType is empty, which means body weight"
    elif header.units == "GML":
        how = f"weight and {_LEAN_BODY_MASS}" if suv_type == "LBM" else f"weight and body size of SUVType {suv_type}"
    else:
        how = "weight, dose and decay"
    return f"SUVbw factor {value} g/mL per {STORED[header.units]}, from {how}."


def _other_factors(header: PETHeader, file: SliceFile, factor: float, stated: float | None) -> list[str]:
    """Return a sentence for every other way to the factor, and how far from it that leads."""
    per_count, activity = (private_number(file.dataset, attribute) for attribute in SCALE_FACTORS)
    candidates = []
    if header.units == "GML" and header.suv_type == "LBM":
        candidates.append(("SUVType LBMJAMES128", suvbw_per_suv(header, "LBMJAMES128")))
    if header.units == "BQML" and stated is not None:
        candidates.append(("RealWorldValueMapping to SUVbw", stated))
    if header.units == "BQML" and per_count is not None and activity is not None:
        candidates.append((f"{SCALE_FACTORS[0].name} / {SCALE_FACTORS[1].name}", per_count / activity))
    is_corrected = header.decay_correction in {"START", "ADMIN"}
    if header.units == "CNTS" and per_count is not None and activity is not None and is_corrected:
        try:
            candidates.append((SCALE_FACTORS[1].name, activity * suvbw_factor_of(stored_header(header))))
        except PETError as error:
            return [f"{SCALE_FACTORS[1].name} gives no other factor: {error}."]
    return [
        f"Another candidate, {name}, gives a factor of {other:.6e}, {100 * (other / factor - 1):+.2f} % from it."
        for name, other in candidates
    ]
