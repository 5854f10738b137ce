"""A method of a bundle, the one file that says its network, weights, scale and inferer; and what such files call."""

import re
import sys
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import nn

from pipeline.errors import PETError
from pipeline.files import read_yaml
from pipeline.networks.weights import scale_of
from pipeline.shipped import method_files, own_bundle

__all__ = ["Method", "fast_dtype", "find_bundle", "load_weights"]

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
        self._parser["device"] = f"$torch.device({str(device)!r})"

    def __getitem__(self, key: str) -> Any:
        """Return what the method has under a key, built once."""
        if key not in self._parser:
            raise PETError(f"{self.files[-1]}: has no {key}, expected one")
        return self._parser.get_parsed_content(key)


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
    if path is None:
        return network.eval()
    try:
        state_dict = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(state_dict)
    except FileNotFoundError:
        raise PETError(f"{path}: the weights do not exist") from None
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise PETError(f"{path}: not weights of this network ({reason})") from error
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
