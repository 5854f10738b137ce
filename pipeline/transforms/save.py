"""From a network's output back to a SUV-calibrated series, and to disk."""

import logging
import shutil
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform
from torch import Tensor

from pipeline.errors import PETError
from pipeline.pet import PETSeries, read_pet
from pipeline.pet.derived_files import denoised_name, scan_name, write_denoised
from pipeline.transforms.scale import unscale_suv

__all__ = [
    "SavePETd",
    "tensor_to_pet",
]

logger = logging.getLogger(__name__)


def tensor_to_pet(pred: Tensor, source: PETSeries, *, suv_scale: float, note: str) -> PETSeries:
    """Series of a network's output (1, X, Y, Z) in scaled SUV, on the grid and with the header of its source.

    Activity is not negative: where the network says so, the voxel is 0, or the source's own value if that is
    negative, too. ``note`` goes into the series' provenance.
    """
    suv = unscale_suv(pred.detach().cpu().float(), suv_scale=suv_scale)[0].numpy()
    return source.with_suv(np.maximum(suv, np.minimum(source.suv, 0)), note=note)


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
