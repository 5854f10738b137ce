"""A method of a bundle, what the files of methods call, and the denoiser that applies a method to a PET series."""

import math
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from torch import Tensor, nn

from pipeline.errors import PETError, causes_of, reason_of
from pipeline.files import read_yaml, sha256_of
from pipeline.inference.sampling import sampler_of, with_uncertainty
from pipeline.inference.streaming.inferer import Progress, TellsProgress
from pipeline.inference.streaming.plan import is_out_of_memory
from pipeline.networks import KnowsDose, UniPET
from pipeline.pet import PETSeries
from pipeline.pet.series import HIGHEST_SUV
from pipeline.shipped import method_files, own_bundle
from pipeline.transforms import pet_to_tensor, scale_of, scale_suv, tensor_to_pet

__all__ = ["Denoiser", "Method", "fast_dtype", "find_bundle", "load_weights"]

_CONFIG_PATH = re.compile(r"[^,'\"\[\]=]+\.(?:ya?ml|json)")


class Method:
    """What ``configs/methods/NAME.yaml`` says, built when it is asked for: ``method["network_def"]``.

    The keys are ``network_def``, ``weights`` (a path, or null for a method without), ``suv_scale`` (SUVbw [g/mL] per
    network unit) and ``inferer``. They may refer to each other and to ``bundle_root`` and ``device``. A file that says
    ``based_on: OTHER`` has what OTHER has and it does not.

    Parameters
    ----------
    bundle
        Folder of the bundle. Its configuration is code: use bundles that you trust.
    name
        Name of a file in ``configs/methods``, or the path of such a file.
    device
        Where the network will lie.

    Attributes
    ----------
    name
        Name for records: that of the file.

    Raises
    ------
    PETError
        If there is no such method, or when it is asked for a key that it lacks.
    """

    def __init__(self, bundle: str | Path, name: str, *, device: torch.device | str = "cpu") -> None:
        self.files = method_files(bundle, name)
        self.name = self.files[-1].stem
        self._parser = ConfigParser({}, globals={"pipeline": "pipeline"})
        for path in self.files:
            for key, value in read_yaml(path).items():
                parts = key.replace("::", "#").split("#")
                # Keys of sections that are not the method's own are for training.
                if len(parts) == 1 or parts[0] in self._parser:
                    self._parser["::".join(parts)] = value
        self._parser["bundle_root"] = str(bundle)
        self._parser["device"] = f"$torch.device({str(available_device(device))!r})"

    def __getitem__(self, key: str) -> Any:
        """Return what the method has under a key, built once.

        Raises
        ------
        PETError
            If there is no such key, or what it says cannot be built.
        """
        if key not in self._parser:
            raise PETError(f"{self.files[-1]}: has no {key}, expected one")
        try:
            return self._parser.get_parsed_content(key)
        except RuntimeError as error:  # MONAI's, around whatever was raised
            first = causes_of(error)[-1]
            if isinstance(first, PETError | MemoryError) or not isinstance(first, Exception):
                raise
            raise PETError(f"{self.files[-1]}: {key} cannot be built ({reason_of(first)})") from error


def find_bundle() -> str:
    """Return the folder of the bundle that is being run, as an absolute path.

    MONAI does not tell a configuration where it was read from. This looks, in order, at the configuration files named
    on the command line, at the working directory, and at the bundle that comes along with this package, and takes the
    first that is one. Give ``--bundle_root`` to say it yourself.

    Raises
    ------
    PETError
        If none of them is a bundle.
    """
    named = (Path(path.strip()).resolve().parent.parent for arg in sys.argv[1:] for path in _CONFIG_PATH.findall(arg))
    for folder in (*named, Path.cwd()):
        if (folder / "configs" / "metadata.json").is_file():
            return str(folder)
    return str(own_bundle())


def load_weights(network: nn.Module, path: str | Path | None, *, suv_scale: float | None = None) -> nn.Module:
    """Load a state dict saved by training into the network, in place, and return it for inference.

    Tensors only: the file cannot run code.

    Parameters
    ----------
    network
        Network of the weights.
    path
        File; None for a network without.
    suv_scale
        Scale that the network will be used with, SUVbw [g/mL] per network unit; None for any. Weights of version 0.2.0
        and earlier carry none.

    Raises
    ------
    PETError
        If the file is missing, damaged, of another network, or of another scale.
    """
    if suv_scale is not None:
        check_scale(suv_scale)
    if path is None:
        return network.eval()
    try:
        state_dict = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise PETError(f"{path}: the weights do not exist") from None
    except OSError as error:
        raise PETError(f"{path}: the weights cannot be read ({error.strerror or error})") from error
    except Exception as error:
        # What torch says is how a file could be read all the same that one does not trust.
        raise PETError(f"{path}: not weights of this network (it is no file of tensors)") from error
    try:
        network.load_state_dict(state_dict)
    except Exception as error:
        reason = reason_of(error).partition(":")[2].strip() or reason_of(error)
        raise PETError(f"{path}: not weights of this network ({reason[:200]})") from error
    found = scale_of(state_dict)
    if None not in (found, suv_scale) and found != suv_scale:
        raise PETError(f"{path}: weights of suv_scale {found:g}, expected {suv_scale:g} as configured")
    return network.eval()


def fast_dtype(device: torch.device | str) -> torch.dtype | None:
    """Return bfloat16 where the processor computes in it, else None, which stands for float32.

    Processors without bfloat16 instructions emulate them, several times slower than float32.
    """
    if torch.device(device).type == "cuda":
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        supported = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.bfloat16 if supported else None


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
                device=parser.get_parsed_content("device"),
                weights_sha256=sha256_of(loaded) if loaded else None,
            )

    @property
    def knows_dose(self) -> bool:
        """Whether the network must know the dose."""
        return isinstance(self.network, KnowsDose)

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
        """Return the dose reduction factor a scan is denoised for and where it is from; None where none is asked for.

        On the scan's own voxels; where a network runs on coarser ones as well, it reads the dose of those from them.
        """
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
                pred, deviation = with_uncertainty(self.inferer, inputs, self.network)
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


def check_scale(suv_scale: float) -> None:
    """Refuse a scale that nothing can be divided by.

    Raises
    ------
    PETError
        If it is no finite number above 0.
    """
    if not isinstance(suv_scale, int | float) or not 0 < suv_scale < math.inf:
        raise PETError(f"suv_scale {suv_scale!r}: expected a number above 0, SUVbw [g/mL] per network unit")


def available_device(device: str | torch.device) -> torch.device:
    """Return a device that torch can use.

    Raises
    ------
    PETError
        If there is none of that name.
    """
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
