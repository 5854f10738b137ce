"""What a user may choose about the DICOM series that is written."""

from dataclasses import dataclass

from pipeline.errors import PETError

__all__ = ["DicomOptions"]

UNITS = ("BQML", "GML")


@dataclass(frozen=True, kw_only=True)
class DicomOptions:
    """Choices for `write_dicom_series`.

    Raises
    ------
    PETError
        If the units are not among those that can be written.
    """

    units: str = "BQML"
    """Stored quantity: ``"BQML"`` [Bq/mL], or ``"GML"``, SUVbw [g/mL] with SUVType BW."""

    keep_private: bool = True
    """Whether a derived series keeps the private attributes of its source."""

    deidentify: bool = False
    """Whether the series is de-identified by DICOM PS3.15 Annex E: Basic Profile, with the options to retain
    patient characteristics and longitudinal temporal information with modified dates. Private attributes go.
    Dates move together by whole days and times of day stay: a shift of seconds could carry a scan over midnight,
    and with it the SUV of readers that know times alone."""

    deidentification_key: str | None = None
    """Secret from which new UIDs and the shift of dates are derived: the same key maps all series of a patient
    alike. By default a new one that nobody knows."""

    uid_key: str | None = None
    """Text from which the UIDs of a series that never was DICOM are derived, so that it is written alike again:
    series of one key share study and frame of reference, their descriptions tell them apart. By default new UIDs."""

    def __post_init__(self) -> None:
        if self.units not in UNITS:
            raise PETError(f"units {self.units!r} cannot be written, expected one of {', '.join(UNITS)}")
