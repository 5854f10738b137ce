"""Denoiser: a method of the bundle applied to a PET series."""

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
from pipeline.inference.progress import Progress
from pipeline.inference.resampling import ResamplingInferer
from pipeline.pet import PETSeries
from pipeline.shipped import own_bundle
from pipeline.transforms import pet_to_tensor, scale_suv, tensor_to_pet

__all__ = ["Denoiser", "method_names"]


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
        """Denoiser of a bundle: ``configs/inference.yaml`` and, on top, ``configs/methods/METHOD.yaml``.

        Parameters
        ----------
        bundle
            Folder of the bundle; by default the one that comes with this package. Its configuration is code:
            use bundles that you trust.
        method
            ``unipet``, or the name of an overlay in ``configs/methods``.
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
        names = method_names(bundle)
        if method not in names:
            raise PETError(f"unknown method {method!r}, expected one of {', '.join(names)}")
        parser = ConfigParser()
        parser.read_config([str(path) for path in _config_files(bundle, method)])
        parser["bundle_root"] = str(bundle.resolve())
        if device is not None:
            parser["device"] = _available(device)
        with _original_errors():
            weights = parser.get_parsed_content("weights")
            inferer = parser.get_parsed_content("inferer")
            if on_progress is not None and hasattr(inferer, "on_progress"):
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
        """Denoised series on the grid of the given one."""
        image = scale_suv(pet_to_tensor(series).as_tensor(), suv_scale=self.suv_scale)[None].to(self.device)
        with torch.inference_mode():
            pred = self.inferer(MetaTensor(image, affine=torch.from_numpy(series.affine)), self.network)[0]
        return tensor_to_pet(pred, series, suv_scale=self.suv_scale, note=f"Denoised by {self.method}.")


def method_names(bundle: str | Path) -> list[str]:
    """Methods of a bundle: ``unipet`` and the overlays in ``configs/methods``."""
    return ["unipet", *sorted(path.stem for path in (Path(bundle) / "configs" / "methods").glob("*.yaml"))]


def _available(device: str | torch.device) -> torch.device:
    try:
        found = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # which depends on how torch was built
        raise PETError(f"device {str(device)!r} cannot be used: {str(error).splitlines()[0][:200]}") from error
    if found.type not in ("cpu", "cuda"):
        raise PETError(f"device {str(device)!r} cannot be used, expected cpu or cuda")
    return found


@contextmanager
def _original_errors() -> Iterator[None]:
    """Bring back the PETError that MONAI's parser wraps in errors of its own."""
    try:
        yield
    except RuntimeError as error:
        raise next((cause for cause in causes_of(error) if isinstance(cause, PETError)), error) from None


def _config_files(bundle: Path, method: str) -> list[Path]:
    overlay = bundle / "configs" / "methods" / f"{method}.yaml"
    return [bundle / "configs" / "inference.yaml", *([overlay] if overlay.is_file() else [])]
