"""The entry for every form of a PET series: read it, or explain where its SUV comes from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PETError, naming, one_line
from pipeline.pet.dicom.reading.reader import Survey, read_dicom_series, survey_series
from pipeline.pet.nifti import read_nifti, survey_nifti
from pipeline.pet.series import PETHeader, PETSeries
from pipeline.pet.sidecar import SidecarHeader
from pipeline.pet.volumes import is_volume_name

__all__ = ["READING_VERSION", "SUVExplanation", "explain_suv", "names_volume", "read_pet"]

READING_VERSION = 2
"""What SUV a given file gives, as a number: raise it by one whenever some file gives another SUV than before. It is
part of the key of everything that is cached from a volume that was read. 1 was version 0.2.0."""


def read_pet(
    path: str | Path, *, sidecar: Mapping[str, Any] | None = None, series: str | int | None = None
) -> PETSeries:
    """Read a PET series into SUVbw: DICOM slices, a DICOM multi-frame image, or NIfTI with its JSON sidecar.

    Parameters
    ----------
    path
        Folder of a DICOM series or study, zip archive of one, DICOMDIR, the file of an enhanced PET image, or a file
        ending in .nii, .nii.gz, .mha or .nrrd.
    sidecar
        Takes the place of the JSON file beside a NIfTI volume; None reads the file.
    series
        SeriesInstanceUID, SeriesNumber or SeriesDescription of the DICOM series to read, needed where a study has
        several of PET, and not only one of them is corrected for attenuation.

    Raises
    ------
    PETError
        If the path does not exist, cannot be opened, or is not a PET series from which SUVbw can be computed.
    """
    path = Path(path)
    with naming(path):
        if names_volume(path, series):
            return read_nifti(path, sidecar=sidecar)
        if sidecar is not None:
            raise PETError("a sidecar was given for DICOM, expected one for NIfTI only")
        return read_dicom_series(path, series=series)


def names_volume(path: Path, series: str | int | None) -> bool:
    """Return whether a path is that of a NIfTI volume, for which no series can be chosen, rather than of DICOM.

    Raises
    ------
    PETError
        If there is nothing, or a series was chosen for a volume.
    """
    if not path.exists():
        raise PETError("no such file or folder")
    if path.is_dir() or not is_volume_name(path):
        return False
    if series is not None:
        raise PETError("a series was chosen for a NIfTI volume, expected a choice for DICOM only")
    return True


@dataclass(frozen=True, kw_only=True)
class SUVExplanation:
    """What was found about the SUV of one series; no names, identifiers or dates."""

    header: PETHeader
    """What SUV depends on."""

    factors: tuple[float, float]
    """Smallest and largest SUVbw per stored unit; they differ where every slice has its own."""

    warnings: tuple[str, ...]
    """Those sentences of `provenance` that a person should see at once."""

    provenance: tuple[str, ...]
    """Which rule gave the factor, which repairs were made, which candidates disagree, one sentence each."""

    def as_dict(self) -> dict[str, Any]:
        """Return everything as numbers and texts for JSON; what is not known is None or empty."""
        lowest, highest = self.factors
        return {
            "suvbw_factor": lowest if lowest == highest else None,
            "suvbw_factor_range": [lowest, highest],
            "uptake_time": self.header.uptake_time,
            "header": asdict(self.header),
            "warnings": list(self.warnings),
            "provenance": list(self.provenance),
        }

    def as_text(self) -> str:
        """Return several lines for a person: what SUV depends on, then how the factor came about."""
        header, (lowest, highest) = self.header, self.factors
        rows = {
            "SUVbw factor": f"{lowest:.6e}" if lowest == highest else f"{lowest:.6e} to {highest:.6e}",
            "Units": " ".join(filter(None, (header.units, header.suv_type))),
            "Decay correction": header.decay_correction,
            "Weight": _quantity(header.patient_weight, "kg"),
            "Height": _quantity(header.patient_height, "m"),
            "Sex": header.patient_sex,
            "Injected dose": _quantity(header.injected_dose, "MBq", scale=1e-6),
            "Nuclide": header.radionuclide,
            "Half-life": _quantity(header.radionuclide_half_life, "s"),
            "Uptake time": _quantity(header.uptake_time, "s"),
            "Frame duration": _quantity(header.frame_duration, "s"),
            "Scanner": " ".join(filter(None, (header.manufacturer, header.model_name))),
        }
        width = max(map(len, rows)) + 2
        table = [f"{name:<{width}}{one_line(value) or 'not stated'}" for name, value in rows.items()]
        sentences = [f"{'!' if text in self.warnings else '-'} {one_line(text)}" for text in self.provenance]
        return "\n".join([*table, "", *sentences])


def _quantity(value: float | None, unit: str, *, scale: float = 1.0) -> str:
    return "" if value is None else f"{value * scale:.6g} {unit}"


def explain_suv(path: str | Path, *, series: str | int | None = None) -> SUVExplanation:
    """Work out the SUVbw factor of a series from its headers alone.

    The arguments, the checks and the errors are those of `read_pet`, except for what only pixel data can show.
    """
    path = Path(path)
    with naming(path):
        found: SidecarHeader | Survey
        if names_volume(path, series):
            found, _ = survey_nifti(path)
            lowest = highest = 1.0 if found.factor is None else found.factor
        else:
            found = survey_series(path, with_pixels=False, series=series)
            lowest, highest = float(found.factors.min()), float(found.factors.max())
    return SUVExplanation(
        header=found.header, factors=(lowest, highest), warnings=found.warnings, provenance=found.provenance
    )
