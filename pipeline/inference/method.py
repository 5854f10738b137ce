"""A method of a bundle, and what the files of methods call: its network with weights, precision, bundle."""

import hashlib
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import nn

from pipeline.errors import PETError, causes_of, reason_of
from pipeline.files import read_yaml
from pipeline.shipped import method_files, own_bundle
from pipeline.transforms import scale_of

__all__ = ["Method", "available_device", "check_scale", "fast_dtype", "find_bundle", "load_weights"]

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
    sha256
        Digest of what the files of the method say, but not of their comments.

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
        said = json.dumps(self._parser.config, sort_keys=True, default=str)
        self.sha256 = hashlib.sha256(said.encode()).hexdigest()
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
