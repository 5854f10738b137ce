"""PETHeader: the attributes that a standardised uptake value depends on, each with its unit."""

from dataclasses import dataclass

__all__ = ["PETHeader"]


@dataclass(frozen=True, kw_only=True)
class PETHeader:
    """What is known of a PET series beyond its voxels.

    Times are relative, in seconds after the start of the acquisition (of its earliest slice), so that a
    header can never carry a date. What a source does not state is None or ``""``: a volume that is SUVbw
    already needs neither dose nor weight. The vocabulary of `units`, `suv_type` and `decay_correction` is
    that of DICOM PS3.3 C.8.9.1, whatever the source.
    """

    units: str
    """Units (0054,1001) of the values in the source: ``"BQML"`` [Bq/mL], ``"GML"`` [g/mL], ..."""

    suv_type: str = ""
    """SUVType (0054,1006) of the source: ``"BW"``, ``"LBM"``, ``"BSA"``, ...; empty means body weight."""

    decay_correction: str = ""
    """DecayCorrection (0054,1102): ``"START"``, ``"ADMIN"`` or ``"NONE"``."""

    patient_weight: float | None = None
    """Body weight [kg]."""

    patient_height: float | None = None
    """Body height [m]."""

    patient_sex: str = ""
    """``"M"``, ``"F"``, ``"O"`` or empty."""

    radionuclide: str = ""
    """Radionuclide, such as ``"F-18"``."""

    radiopharmaceutical: str = ""
    """Radiopharmaceutical, as the source names it."""

    radionuclide_half_life: float | None = None
    """Half-life [s]."""

    injected_dose: float | None = None
    """Activity at `administration_time` [Bq]."""

    administration_time: float | None = None
    """Start of the administration [s] after the start of the acquisition, so negative after an uptake."""

    reference_time: float | None = None
    """Time to which the voxels are decay-corrected [s] after the start of the acquisition; None for
    DecayCorrection NONE, where every slice has a time of its own."""

    frame_duration: float | None = None
    """Duration of one bed position [s]."""

    suv_per_count: float | None = None
    """SUVbw [g/mL] per count, a factor that a vendor states for Units ``"CNTS"``."""

    activity_per_count: float | None = None
    """Activity concentration [Bq/mL] per count, a factor that a vendor states for Units ``"CNTS"``."""

    attenuation_corrected: bool = True
    """Whether the image is corrected for attenuation."""

    manufacturer: str = ""
    """Manufacturer of the scanner."""

    model_name: str = ""
    """Model of the scanner."""

    reconstruction_method: str = ""
    """Reconstruction, as the source names it."""

    @property
    def uptake_time(self) -> float | None:
        """Time from the administration to the reference time [s], if both are known."""
        if self.administration_time is None or self.reference_time is None:
            return None
        return self.reference_time - self.administration_time
