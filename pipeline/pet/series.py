"""PETSeries: a calibrated whole-body volume, and where it comes from; PETHeader: what its SUV depends on."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from nibabel.orientations import aff2axcodes
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import PETError
from pipeline.pet.grid import Grid, check_geometry

__all__ = ["HIGHEST_SUV", "PETHeader", "PETSeries"]

HIGHEST_SUV = 1000.0
"""No voxel of a sound scan has more [g/mL]; a full bladder has about 200."""


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

    reconstruction_filter: str = ""
    """Filter of the reconstruction, as the source names it, such as ``"Gaussian 5"``."""

    @property
    def uptake_time(self) -> float | None:
        """Time from the administration to the reference time [s], if both are known."""
        if self.administration_time is None or self.reference_time is None:
            return None
        return self.reference_time - self.administration_time


@dataclass(frozen=True, kw_only=True, eq=False)
class PETSeries:
    """A PET volume in SUVbw.

    Raises
    ------
    PETError
        If the volume is not three-dimensional, empty or not finite, the affine is not an invertible 4x4 matrix
        whose axes come closest to RAS+, or the padding has another shape or holds values.
    """

    suv: NDArray[np.float32]
    """Standardised uptake value by body weight [g/mL]. Shape (X, Y, Z)."""

    affine: NDArray[np.float64]
    """Voxel index to position in the patient [mm], RAS+: X grows to the right, Y to the front, Z to the head.
    Shape (4, 4)."""

    header: PETHeader
    """What SUV depends on."""

    suvbw_factor: float | None = None
    """SUVbw per unit of the quantity that `header.units` names, such as [g/mL] per [Bq/mL] of a NIfTI file in kBq/mL,
    too; None if a NIfTI source was SUVbw already, or where every slice has a factor of its own."""

    padding: NDArray[np.bool_] | None = None
    """True where the source stored PixelPaddingValue (0028,0120), so that nothing was measured; SUV is 0 there.
    None if there is no such voxel. Shape (X, Y, Z)."""

    warnings: tuple[str, ...] = ()
    """Those sentences of the provenance that a person should see at once, because SUV may be wrong."""

    provenance: tuple[str, ...] = ()
    """How the volume came about, one sentence each; no names, identifiers or dates."""

    source_files: tuple[Path, ...] = ()
    """Files it was read from; DICOM slices in the order of the axis that the slices were stacked along (Z of
    an axial series), from the lowest index to the highest."""

    def __post_init__(self) -> None:
        # A value too large for float32 becomes infinite, and is refused as such.
        with np.errstate(over="ignore"):
            suv = _contiguous(np.asarray(self.suv))
        affine = np.array(self.affine, dtype=np.float64)
        _check_volume(suv)
        if affine.shape != (4, 4):
            raise PETError(f"affine has shape {affine.shape}, expected an invertible 4x4 matrix")
        check_geometry(Grid(suv.shape, affine))
        axes = "".join(str(axis) for axis in aff2axcodes(affine))
        if axes != "RAS":
            raise PETError(f"axes of the volume point to {axes}, expected RAS")
        object.__setattr__(self, "padding", _checked_padding(self.padding, suv))
        object.__setattr__(self, "suv", suv)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "warnings", tuple(self.warnings))
        object.__setattr__(self, "provenance", tuple(self.provenance))
        object.__setattr__(self, "source_files", tuple(self.source_files))

    @property
    def grid(self) -> Grid:
        """Number and place of the voxels."""
        return Grid(self.suv.shape, self.affine)

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxels along X, Y and Z [mm]."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    def with_suv(self, suv: ArrayLike, *, note: str | None = None) -> "PETSeries":
        """Return this series with other voxel values.

        Parameters
        ----------
        suv
            SUVbw [g/mL]. Shape (X, Y, Z) of this series. Padding stays 0, whatever is given for it.
        note
            One sentence on what was done, appended to the provenance.

        Raises
        ------
        PETError
            If the shape differs, or a value is not finite.
        """
        array = np.asarray(suv)
        if array.shape != self.suv.shape:
            raise PETError(f"volume has shape {array.shape}, expected {self.suv.shape}")
        if self.padding is not None:
            array = np.where(self.padding, array.dtype.type(0), array)
        provenance = self.provenance if note is None else (*self.provenance, note)
        return replace(self, suv=array, provenance=provenance)

    def with_implausible_voxels_noted(self) -> "PETSeries":
        """Return this series, with a warning if voxels exceed `HIGHEST_SUV` in either direction."""
        n = int(np.count_nonzero(np.abs(self.suv) > HIGHEST_SUV))
        if not n:
            return self
        lowest, highest = float(self.suv.min()), float(self.suv.max())
        note = (
            f"{n} voxels beyond SUV {HIGHEST_SUV:g} (from {lowest:.4g} to {highest:.4g} g/mL), which no sound scan has."
        )
        return replace(self, provenance=(*self.provenance, note), warnings=(*self.warnings, note))


def _checked_padding(padding: ArrayLike | None, suv: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    if padding is None:
        return None
    mask = np.ascontiguousarray(padding, dtype=bool)
    if mask.shape != suv.shape:
        raise PETError(f"padding has shape {mask.shape}, expected {suv.shape}")
    if suv[mask].any():
        raise PETError("voxels of padding have an SUV, expected 0")
    return mask if mask.any() else None


def _contiguous(values: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return a volume in C order, which takes a copy unless it is."""
    if values.ndim != 3 or values.flags.c_contiguous:
        return np.ascontiguousarray(values, dtype=np.float32)
    copy = np.empty(values.shape, dtype=np.float32)
    # A few slices at a time fill whole cache lines of both, which halves the time of the copy.
    for k in range(0, values.shape[2], 16):
        copy[:, :, k : k + 16] = values[:, :, k : k + 16]
    return copy


def _check_volume(suv: NDArray[np.float32]) -> None:
    if suv.ndim != 3 or suv.size == 0:
        raise PETError(f"volume has shape {suv.shape}, expected (X, Y, Z)")
    n_bad = suv.size - int(np.isfinite(suv).sum())
    if n_bad:
        raise PETError(f"{n_bad} voxels are not finite, expected numbers")
