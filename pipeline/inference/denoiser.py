"""Denoiser: a method of the bundle applied to a PET series."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from torch import Tensor, nn

from pipeline.errors import PETError, causes_of
from pipeline.files import sha256_of
from pipeline.inference.one_scan import Progress, TellsProgress
from pipeline.inference.resampling import ResamplingInferer
from pipeline.inference.streaming.plan import is_out_of_memory
from pipeline.pet import PETSeries
from pipeline.pet.series import HIGHEST_SUV
from pipeline.shipped import own_bundle
from pipeline.transforms import pet_to_tensor, scale_suv, tensor_to_pet

__all__ = ["Denoiser"]


@dataclass(frozen=True, kw_only=True)
class Denoiser:
    """A network, how it is run, and the scale it works in.

    Examples
    --------
    >>> denoise = Denoiser.from_bundle()
    >>> denoised = denoise(read_pet("scan/"))
    """

    network: nn.Module
    """Maps scaled SUV (B, 1, X, Y, Z) to the same."""

    inferer: Callable[[Tensor, nn.Module], Tensor]
    """MONAI inferer."""

    suv_scale: float
    """SUV [g/mL] per network unit."""

    method: str
    """Name of the method, for provenance."""

    device: torch.device
    """Where the network lies."""

    weights_sha256: str | None = None
    """SHA-256 of the file of the weights; None for a method without."""

    @classmethod
    def from_bundle(
        cls,
        bundle: str | Path | None = None,
        *,
        method: str = "unipet",
        device: str | torch.device | None = None,
        voxel_size: Literal["native", "training"] = "native",
        on_progress: Callable[[Progress], None] | None = None,
    ) -> "Denoiser":
        """Return the denoiser that ``configs/inference.yaml`` of a bundle builds of ``configs/methods/METHOD.yaml``.

        Parameters
        ----------
        bundle
            Folder of the bundle; by default the one that comes with this package. Its configuration is code:
            use bundles that you trust.
        method
            Name of a file in ``configs/methods``, or the path of such a file.
        device
            By default a GPU when there is one.
        voxel_size
            ``native`` runs the network on the scan's own voxels. ``training`` runs it on those it was trained on,
            ``voxel_size`` in the configuration, and brings the change back
            (:class:`~pipeline.inference.ResamplingInferer`).
        on_progress
            Is told how far a scan is, where the inferer tells.

        Raises
        ------
        PETError
            If the bundle, the method or the weights are missing, the weights do not fit the network, or the
            configuration does not say the voxel size of the training that is asked for.
        """
        bundle = own_bundle() if bundle is None else Path(bundle)
        if not (bundle / "configs" / "inference.yaml").is_file():
            raise PETError(f"{bundle}: not a bundle, configs/inference.yaml is missing")
        parser = ConfigParser()
        parser.read_config(str(bundle / "configs" / "inference.yaml"))
        parser["bundle_root"] = str(bundle.resolve())
        parser["method"] = method
        if device is not None:
            parser["device"] = _available(device)
        with _original_errors():
            weights = parser.get_parsed_content("weights")
            inferer = parser.get_parsed_content("inferer")
            if on_progress is not None and isinstance(inferer, TellsProgress):
                inferer.on_progress = on_progress
            if voxel_size == "training":
                if parser.get("voxel_size") is None:
                    raise PETError(f"{bundle}: configs/inference.yaml has no voxel_size, expected that of the training")
                inferer = ResamplingInferer(inferer, parser.get_parsed_content("voxel_size"))
            return cls(
                network=parser.get_parsed_content("network"),
                inferer=inferer,
                suv_scale=parser.get_parsed_content("suv_scale"),
                method=method,
                device=parser.get_parsed_content("device"),
                weights_sha256=sha256_of(weights) if weights else None,
            )

    def __call__(self, series: PETSeries) -> PETSeries:
        """Return the denoised series on the grid of the given one.

        Voxels beyond :data:`~pipeline.pet.series.HIGHEST_SUV` enter the network as that SUV: a single wrong one would
        change the result in all of the body.

        Raises
        ------
        PETError
            If memory does not suffice, or the inferer refuses the scan. The message names the file or folder.
        """
        image = scale_suv(pet_to_tensor(series).as_tensor(), suv_scale=self.suv_scale)[None].to(self.device)
        limit = HIGHEST_SUV / self.suv_scale
        note = f"Denoised by {self.method}."
        if float(image.abs().max()) > limit:
            image = image.clamp(-limit, limit)
            note += f" Voxels beyond SUV {HIGHEST_SUV:g} entered as SUV {HIGHEST_SUV:g}."
        name = _name_of(series)
        meta = {} if name is None else {"filename_or_obj": name}
        try:
            with torch.inference_mode():
                pred = self.inferer(MetaTensor(image, affine=torch.from_numpy(series.affine), meta=meta), self.network)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            shape = " x ".join(map(str, series.suv.shape))
            raise PETError(f"{name or 'the scan'}: memory does not suffice to denoise {shape} voxels") from error
        return tensor_to_pet(pred[0], series, suv_scale=self.suv_scale, note=note)


def _name_of(series: PETSeries) -> str | None:
    """Return the file or folder that a series was read from; None if it was not."""
    files = series.source_files
    return None if not files else str(files[0] if len(files) == 1 else files[0].parent)


def _available(device: str | torch.device) -> torch.device:
    if not re.fullmatch(r"cpu|cuda(:\d+)?", str(device)):
        raise PETError(f"device {str(device)!r} cannot be used, expected cpu, cuda or, of several GPUs, such as cuda:1")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # which depends on how torch was built
        raise PETError(f"device {str(device)!r} cannot be used: {str(error).splitlines()[0][:200]}") from error


@contextmanager
def _original_errors() -> Iterator[None]:
    """Bring back the PETError that MONAI's parser wraps in errors of its own."""
    try:
        yield
    except RuntimeError as error:
        raise next((cause for cause in causes_of(error) if isinstance(cause, PETError)), error) from None
