"""explain_suv: where the SUV of a series comes from, in words, without converting it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.pet.dicom_survey import survey_series
from pipeline.pet.errors import PETError, naming, one_line
from pipeline.pet.header import PETHeader
from pipeline.pet.nifti import is_nifti_name, survey_nifti

__all__ = ["SUVExplanation", "explain_suv"]


@dataclass(frozen=True, kw_only=True)
class SUVExplanation:
    """What was found about the SUV of one series; no names, identifiers or dates."""

    header: PETHeader
    """What SUV depends on."""

    factors: tuple[float, float]
    """Smallest and largest SUVbw per stored unit; they differ where every slice has its own."""

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
        return "\n".join([*table, "", *(f"- {one_line(sentence)}" for sentence in self.provenance)])


def _quantity(value: float | None, unit: str, *, scale: float = 1.0) -> str:
    return "" if value is None else f"{value * scale:.6g} {unit}"


def explain_suv(path: str | Path) -> SUVExplanation:
    """Work out the SUVbw factor of a series from its headers alone.

    The checks are those of `read_pet`, except for what only pixel data can show.

    Parameters
    ----------
    path
        What `read_pet` reads.

    Raises
    ------
    PETError
        If SUVbw cannot be computed, saying why.
    """
    path = Path(path)
    with naming(path):
        if not path.exists():
            raise PETError("no such file or folder")
        if is_nifti_name(path) and not path.is_dir():
            found = survey_nifti(path)
            factor = 1.0 if found.factor is None else found.factor
            return SUVExplanation(header=found.header, factors=(factor, factor), provenance=found.provenance)
        survey = survey_series(path, with_pixels=False)
        factors = float(survey.factors.min()), float(survey.factors.max())
        return SUVExplanation(header=survey.header, factors=factors, provenance=survey.provenance)
