"""From a network's output back to a SUV-calibrated series, and to disk."""

import hashlib
import logging
import re
import shutil
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform
from torch import Tensor

from pipeline import __version__
from pipeline.errors import PETError
from pipeline.pet import DicomOptions, PETSeries, read_pet, write_dicom_series, write_nifti
from pipeline.pet.suv.factor import stored_header, suvbw_factor_of
from pipeline.transforms.scale import unscale_suv

__all__ = [
    "SavePETd",
    "denoised_name",
    "denoising_fields",
    "scan_name",
    "tensor_to_pet",
    "write_denoised",
    "write_derived",
]

logger = logging.getLogger(__name__)

_BIDS_NAME = re.compile(r"(sub-[A-Za-z0-9]+(?:_[a-z]+-[A-Za-z0-9]+)*)_pet\.nii(?:\.gz)?$")


def tensor_to_pet(pred: Tensor, source: PETSeries, *, suv_scale: float, note: str) -> PETSeries:
    """Series of a network's output (1, X, Y, Z) in scaled SUV, on the grid and with the header of its source.

    Activity is not negative: where the network says so, the voxel is 0, or the source's own value if that is
    negative, too. ``note`` goes into the series' provenance.
    """
    suv = unscale_suv(pred.detach().cpu().float(), suv_scale=suv_scale)[0].numpy()
    return source.with_suv(np.maximum(suv, np.minimum(source.suv, 0)), note=note)


def scan_name(series: PETSeries) -> str:
    """Name for files made from a series that tells nothing of the patient.

    The entities of a BIDS name are pseudonyms and are kept; any other source is named by a digest of its voxels.
    """
    if len(series.source_files) == 1 and (match := _BIDS_NAME.match(series.source_files[0].name)):
        return match[1]
    return "pet-" + hashlib.sha256(series.suv.tobytes()).hexdigest()[:8]


def denoised_name(name: str) -> str:
    """File name of the denoised volume of a scan, see `scan_name`."""
    return f"{name}_desc-denoised_pet.nii.gz"


def denoising_fields(method: str, weights_sha256: str | None) -> dict[str, str]:
    """What the sidecar of a denoised volume says of how it was made."""
    weights = {} if weights_sha256 is None else {"DenoisingWeightsSHA256": weights_sha256}
    return {"DenoisingMethod": method, **weights}


def write_derived(
    series: PETSeries,
    image: str | Path,
    dicom_folder: str | Path,
    *,
    description: str,
    derivation: str,
    extra: Mapping[str, Any] | None = None,
    options: DicomOptions | None = None,
) -> str | None:
    """Write a derived series as NIfTI with sidecar, and as a DICOM series where that can be trusted.

    DICOM in Bq/mL needs dose, weight, half-life, times and corrections, so that every viewer computes the same SUV
    from it; a series of SUVbw without them is written as NIfTI alone, unless ``options`` ask for SUVbw in DICOM. The
    result then says why no DICOM was written; it is None if it was.
    """
    options = options or DicomOptions()
    why_not = None
    try:
        suvbw_factor_of(stored_header(series.header, units=options.units))
    except PETError as error:
        why_not = f"no reader could compute SUV from it: {error}"
    if why_not is None:
        write_dicom_series(series, dicom_folder, description=description, derivation=derivation, options=options)
    # Last: where it is, everything is.
    write_nifti(series, image, extra=extra)
    return why_not


def write_denoised(
    series: PETSeries,
    folder: str | Path,
    *,
    name: str,
    method: str,
    weights_sha256: str | None = None,
    dicom_folder: str = "dicom",
    options: DicomOptions | None = None,
) -> str | None:
    """Write a denoised series as ``NAME_desc-denoised_pet.nii.gz`` and DICOM into a folder; see `write_derived`."""
    return write_derived(
        series,
        Path(folder) / denoised_name(name),
        Path(folder) / dicom_folder,
        description=f"Denoised PET ({method})",
        derivation=f"Denoised by unipet_3d {__version__}, method {method}",
        extra=denoising_fields(method, weights_sha256),
        options=options,
    )


class SavePETd(MapTransform):
    """Write predictions (1, X, Y, Z), scaled SUV, as NIfTI and DICOM into a folder.

    Parameters
    ----------
    keys
        Predictions.
    image_key
        The input image, whose metadata names the source that geometry and header are taken from.
    output_dir
        Folder for all scans; DICOM goes to ``NAME_dicom`` in it.
    suv_scale
        SUV [g/mL] per network unit.
    method
        Name of the method, for sidecar and series description.
    weights_sha256
        SHA-256 of the file of the weights, for the sidecar; None for a method without.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        output_dir: str | Path,
        suv_scale: float,
        method: str,
        weights_sha256: str | None = None,
        image_key: str = "image",
    ) -> None:
        super().__init__(keys)
        self.weights_sha256 = weights_sha256
        self.output_dir = Path(output_dir)
        self.suv_scale = suv_scale
        self.method = method
        self.image_key = image_key
        self.source_of: dict[str, str] = {}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        path = str(d[self.image_key].meta["filename_or_obj"])
        source = read_pet(path)
        name = scan_name(source)
        other = self.source_of.setdefault(name, path)
        if other != path:
            raise PETError(f"{path}: would be written as {name}, as {other} was; expected another name")
        self.output_dir.mkdir(parents=True, exist_ok=True)
        for key in self.key_iterator(d):
            series = tensor_to_pet(d[key], source, suv_scale=self.suv_scale, note=f"Denoised by {self.method}.")
            dicom = self.output_dir / f"{name}_dicom"
            if dicom.exists() and not (self.output_dir / denoised_name(name)).exists():
                logger.warning("%s: is from a run that was interrupted, written anew", dicom)
                shutil.rmtree(dicom)
            write_denoised(
                series,
                self.output_dir,
                name=name,
                method=self.method,
                weights_sha256=self.weights_sha256,
                dicom_folder=dicom.name,
            )
        return d
