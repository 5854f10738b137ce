"""Sex, height and girth of a patient, and the map between the patient and the reference body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.simulation.attenuation import WATER

__all__ = ["TOP_MARGIN", "Physique", "body_mass", "draw_physique"]

TOP_MARGIN = 12.0
"""Air above the vertex in every phantom [mm]."""

_REFERENCE_HEIGHT = 1.75  # [m] height for which the tables of organs are written
_REFERENCE_MASS_PER_HEIGHT = 36.0  # [kg/m] girth for which they are written
_LARGEST_MASS_PER_HEIGHT = 54.0  # [kg/m] wider patients leave a field of view of _FIELD_OF_VIEW
_FIELD_OF_VIEW = 480.0  # [mm]
_CHIN = 215.0  # [mm] below the vertex: above it the head's own scale holds
_SHOULDERS = 325.0  # [mm] below the vertex: below it the trunk's scale holds
_REFERENCE_BRAIN = 1.62  # [L] brain ellipsoid of the reference head

# Mass above a level, as a fraction of body mass, against depth below the vertex over height: head 7 %,
# trunk 43 %, arms 10 %, thighs 28 %, shanks and feet 12 % (segment masses: de Leva 1996, J Biomech 29:1223).
_LEVEL = np.array([0.0, 0.13, 0.19, 0.48, 0.73, 1.0])
_MASS_ABOVE = np.array([0.0, 0.07, 0.10, 0.60, 0.88, 1.0])


@dataclass(frozen=True)
class Physique:
    """Build of one patient."""

    sex: str
    """"F" or "M"."""
    height: float
    """Standing height [m]."""
    mass: float
    """Body mass that the girth is drawn for [kg]."""
    brain_volume: float
    """[L]."""
    liver_volume: float
    """[L]."""
    depth_ratio: float
    """Anterior-posterior over lateral girth, relative to the reference body."""
    fat_thickness: float
    """Subcutaneous fat at the abdomen [mm]."""

    @property
    def head_scale(self) -> float:
        """Size of the head relative to the reference head: follows the brain, not the girth."""
        return float(np.cbrt(self.brain_volume / _REFERENCE_BRAIN))

    @property
    def girth(self) -> float:
        """Lateral size of the trunk relative to the reference body: mass per height goes with area."""
        return float(np.sqrt(self.mass / self.height / _REFERENCE_MASS_PER_HEIGHT))

    @property
    def stature(self) -> float:
        """Length of the trunk relative to the reference body."""
        return self.height / _REFERENCE_HEIGHT

    def reference_depth(self, depth: np.ndarray) -> np.ndarray:
        """Return the depth below the vertex in the reference body [mm] for a depth in the patient [mm]."""
        chin = _CHIN * self.head_scale
        return np.where(depth < chin, depth / self.head_scale, _CHIN + (depth - chin) / self.stature)

    def stretch(self, reference_depth: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Return patient over reference size along x, y (by depth [mm]) and z (of the trunk)."""
        t = np.clip((reference_depth - _CHIN) / (_SHOULDERS - _CHIN), 0, 1)
        blend = t * t * (3 - 2 * t)
        along_x = self.head_scale + blend * (self.girth - self.head_scale)
        along_y = self.head_scale + blend * (self.girth * self.depth_ratio - self.head_scale)
        return along_x, along_y, self.stature


def draw_physique(
    rng: np.random.Generator, *, sexes: Sequence[str] = ("F", "M"), field_of_view: float = _FIELD_OF_VIEW
) -> Physique:
    """Draw a patient: body mass index 16.5 to 45 kg/m2, brain 1.1 to 1.6 L, liver 1.1 to 2.1 L.

    A patient who is too wide for the field of view [mm] is drawn as wide as it holds.
    """
    sex = str(rng.choice(list(sexes)))
    female = sex == "F"
    height = float(np.clip(rng.normal(1.63 if female else 1.76, 0.065), 1.45, 1.98))
    body_mass_index = float(np.clip(np.exp(rng.normal(np.log(25.5), 0.19)), 16.5, 45.0))
    brain_volume = float(np.clip(rng.normal(1.27 if female else 1.41, 0.09), 1.12, 1.60))
    # Mass per height goes with area, the field of view with length.
    widest = _LARGEST_MASS_PER_HEIGHT * (field_of_view / _FIELD_OF_VIEW) ** 2
    mass = min(body_mass_index * height**2, widest * height)
    # The liver follows body size, with a spread of its own.
    liver_volume = float(np.clip(1.55 * (mass / 75) ** 0.5 * np.exp(rng.normal(0, 0.12)), 1.1, 2.1))
    fat_thickness = float(np.clip(7 + 1.3 * (body_mass_index - 20) + (4 if female else 0) + rng.normal(0, 3), 6, 36))
    return Physique(
        sex=sex,
        height=height,
        mass=mass,
        brain_volume=brain_volume,
        liver_volume=liver_volume,
        depth_ratio=float(rng.uniform(0.94, 1.06)),
        fat_thickness=fat_thickness,
    )


def body_mass(attenuation: np.ndarray, voxel_size: tuple[float, float, float], *, height: float) -> float:
    """Estimate the whole body's mass from an attenuation map that shows it from the vertex downwards.

    Attenuation at 511 keV is nearly proportional to mass density; what lies below the field of view is
    added from the usual masses of body segments.

    `attenuation` is in 1/mm, shape (X, Y, Z) with Z to superior; `voxel_size` is in mm, `height` in m, the result in
    kg.
    """
    litres = float(attenuation.sum(dtype=np.float64)) / WATER * float(np.prod(voxel_size)) * 1e-6
    level = (attenuation.shape[2] * voxel_size[2] - TOP_MARGIN) / (1e3 * height)
    return litres / float(np.interp(level, _LEVEL, _MASS_ABOVE))
