"""The denoiser: a method of a bundle that is applied to a PET series."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from torch import Tensor, nn

from pipeline.errors import PETError, causes_of
from pipeline.files import sha256_of
from pipeline.inference.method import available_device, check_scale
from pipeline.inference.sampling import sampler_of, with_uncertainty
from pipeline.inference.streaming.inferer import Progress, TellsProgress
from pipeline.inference.streaming.plan import is_out_of_memory
from pipeline.networks import KnowsDose, UniPET
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

    strength: float = 1.0
    """Part of the change that is made: 1 is the method's result, 0 the scan as it is."""

    method: str
    """Name of the method, for provenance."""

    device: torch.device
    """Where the network lies."""

    weights_sha256: str | None = None
    """SHA-256 of the file of the weights; None for a method without."""

    method_sha256: str | None = None
    """Digest of what the files of the method say; None where it is not known."""

    dose_reduction_factor: float | None = None
    """Stated dose, for a network that must know it; None reads it from the scan."""

    def __post_init__(self) -> None:
        check_scale(self.suv_scale)
        if not isinstance(self.strength, int | float) or not 0 <= self.strength <= 1:
            raise PETError(f"strength {self.strength}: expected a number from 0 to 1")

    @classmethod
    def from_bundle(
        cls,
        bundle: str | Path | None = None,
        *,
        method: str = "unipet",
        device: str | torch.device | None = None,
        weights: str | Path | None = None,
        strength: float | None = None,
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
        weights
            File of weights in place of those that the method names.
        strength
            Part of the change that is made, 0 to 1; by default what the configuration says, which is all of it.
        on_progress
            Is told how far a scan is, where the inferer tells.

        Raises
        ------
        PETError
            If the bundle, the method or the weights are missing, the weights do not fit the network, or the strength
            is not one.
        """
        bundle = own_bundle() if bundle is None else Path(bundle)
        if not (bundle / "configs" / "inference.yaml").is_file():
            raise PETError(f"{bundle}: not a bundle, configs/inference.yaml is missing")
        parser = ConfigParser()
        parser.read_config(str(bundle / "configs" / "inference.yaml"))
        parser["bundle_root"] = str(bundle.resolve())
        parser["method"] = method
        if weights is not None:
            parser["weights"] = str(Path(weights).absolute())
        if device is not None:
            parser["device"] = available_device(device)
        with _original_errors():
            loaded = parser.get_parsed_content("weights")
            inferer = parser.get_parsed_content("inferer")
            if on_progress is not None and isinstance(inferer, TellsProgress):
                inferer.on_progress = on_progress
            return cls(
                network=parser.get_parsed_content("network"),
                inferer=inferer,
                suv_scale=parser.get_parsed_content("suv_scale"),
                strength=parser.get_parsed_content("strength", default=1.0) if strength is None else strength,
                method=parser.get_parsed_content("method_def").name,
                method_sha256=parser.get_parsed_content("method_def").sha256,
                device=parser.get_parsed_content("device"),
                weights_sha256=sha256_of(loaded) if loaded else None,
            )

    @property
    def knows_dose(self) -> bool:
        """Whether the network must know the dose."""
        return isinstance(self.network, KnowsDose)

    @property
    def identity(self) -> dict[str, Any]:
        """Return all that a result depends on beside the scan and the device, for records."""
        return {
            "method": self.method,
            "method_sha256": self.method_sha256,
            "strength": self.strength,
            "suv_scale": self.suv_scale,
            "weights_sha256": self.weights_sha256,
            "stated_dose": self.dose_reduction_factor,
            **self.sampling,
        }

    @property
    def sampling(self) -> dict[str, int]:
        """How results are sampled, for records: n_samples, n_steps and sampling_seed; empty where they are not."""
        sampler = sampler_of(self.inferer)
        if sampler is None:
            return {}
        return {"n_samples": sampler.n_samples, "n_steps": sampler.n_steps, "sampling_seed": sampler.seed}

    def at_dose(self, factor: float | None) -> "Denoiser":
        """Return this denoiser for scans of a stated dose reduction factor; itself where the network asks for none.

        None reads the dose from each scan.

        Raises
        ------
        PETError
            If the factor is no finite number of at least 1.
        """
        if not isinstance(self.network, KnowsDose):
            return self
        if factor is not None and not 1 <= factor < math.inf:
            raise PETError(f"dose reduction factor {factor:g}, expected a finite number of at least 1")
        return replace(self, network=self.network.at_dose(factor), dose_reduction_factor=factor)

    def dose_of(self, series: PETSeries) -> tuple[float, str] | None:
        """Return the dose reduction factor of a scan, and where it is from; None where the network asks for none."""
        if not isinstance(self.network, KnowsDose):
            return None
        if self.dose_reduction_factor is not None:
            return self.dose_reduction_factor, "stated"
        image = self._entering(series)[0].to(next(self.network.parameters()).dtype)
        read = float(self.network.read_dose(image))
        if math.isfinite(read):
            return read, "read from the noise"
        return float(self.network.dose_of(image)), "the mean of the training, the noise cannot be measured"

    def __call__(self, series: PETSeries) -> PETSeries:
        """Return the denoised series on the grid of the given one.

        Voxels beyond :data:`~pipeline.pet.series.HIGHEST_SUV` enter the network as that SUV: a single wrong one would
        change the result in all of the body.

        Raises
        ------
        PETError
            If memory does not suffice, or the inferer refuses the scan. The message names the file or folder.
        """
        return self.with_uncertainty(series)[0]

    def with_uncertainty(self, series: PETSeries) -> tuple[PETSeries, PETSeries | None]:
        """Return the denoised series, and the standard deviation of its voxels [g/mL] where the method knows one.

        Raises
        ------
        PETError
            As in a call.
        """
        by = f"{self.method}, strength {self.strength:g}."
        note = f"Denoised by {by}"
        if self.strength == 0:
            return series.with_suv(series.suv, note=note), None
        image, clamped = self._entering(series)
        if clamped:
            note += f" Voxels beyond SUV {HIGHEST_SUV:g} entered as SUV {HIGHEST_SUV:g}."
        name = _name_of(series)
        meta = {} if name is None else {"filename_or_obj": name}
        inputs = MetaTensor(image, affine=torch.from_numpy(series.affine), meta=meta)
        try:
            with torch.inference_mode():
                pred, deviation = with_uncertainty(self.inferer, inputs, self._for_scan(image))
                if self.strength < 1:
                    pred = image.to(pred).lerp(pred, self.strength)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            shape = " x ".join(map(str, series.suv.shape))
            raise PETError(f"{name or 'the scan'}: memory does not suffice to denoise {shape} voxels") from error
        denoised = tensor_to_pet(pred[0], series, suv_scale=self.suv_scale, note=note)
        if deviation is None:
            return denoised, None
        scale = self.suv_scale * self.strength
        number = self.sampling.get("n_samples", "several")
        told = f"Standard deviation of {number} samples of {by}"
        return denoised, tensor_to_pet(deviation[0], series, suv_scale=scale, note=told)

    def _for_scan(self, image: Tensor) -> nn.Module:
        """Return the network; of one that reads the dose, for that of a scan, on whatever voxels it will be run."""
        if not isinstance(self.network, KnowsDose):
            return self.network
        factor = float(self.network.dose_of(image.to(next(self.network.parameters()).dtype)))
        return self.network.at_dose(factor)

    def style_deviation(self, series: PETSeries) -> dict[str, float]:
        """Return how far a scan's noise lies from that of the training scans, see `UniPET.style_deviation`."""
        if not isinstance(self.network, UniPET):
            return {}
        image, _ = self._entering(series)
        return self.network.style_deviation(image.to(next(self.network.parameters()).dtype))

    def _entering(self, series: PETSeries) -> tuple[Tensor, bool]:
        """Scan as it enters the network, (1, 1, X, Y, Z), and whether any voxel was clamped."""
        image = scale_suv(pet_to_tensor(series).as_tensor(), suv_scale=self.suv_scale)[None].to(self.device)
        limit = HIGHEST_SUV / self.suv_scale
        clamped = float(image.abs().max()) > limit
        return (image.clamp(-limit, limit) if clamped else image), clamped


def _name_of(series: PETSeries) -> str | None:
    """Return the file or folder that a series was read from; None if it was not."""
    files = series.source_files
    return None if not files else str(files[0] if len(files) == 1 else files[0].parent)


@contextmanager
def _original_errors() -> Iterator[None]:
    """Bring back the PETError that MONAI's parser wraps in errors of its own."""
    try:
        yield
    except RuntimeError as error:
        raise next((cause for cause in causes_of(error) if isinstance(cause, PETError)), error) from None
