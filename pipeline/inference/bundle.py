"""The bundle on disk: where it lies, which methods it has, and the network that its configuration describes."""

import re
import sys
from pathlib import Path

import torch
from monai.bundle import ConfigParser
from monai.inferers import Inferer
from torch import nn

from pipeline.errors import PETError
from pipeline.shipped import own_bundle

__all__ = ["checked_method", "fast_dtype", "find_bundle", "load_weights", "method_config", "method_names"]

_CONFIG_PATH = re.compile(r"[^,'\"\[\]=]+\.(?:ya?ml|json)")


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


def method_names(bundle: str | Path) -> list[str]:
    """Return the methods of a bundle: ``unipet`` and the overlays in ``configs/methods``."""
    return ["unipet", *sorted(path.stem for path in (Path(bundle) / "configs" / "methods").glob("*.yaml"))]


def method_config(bundle: str | Path, method: str) -> ConfigParser:
    """Read ``configs/inference.yaml`` and, on top, ``configs/methods/METHOD.yaml``.

    Raises
    ------
    PETError
        If the folder is no bundle, or has no such method.
    """
    configs = Path(bundle) / "configs"
    if not (configs / "inference.yaml").is_file():
        raise PETError(f"{bundle}: not a bundle, configs/inference.yaml is missing")
    names = method_names(bundle)
    if method not in names:
        raise PETError(f"unknown method {method!r}, expected one of {', '.join(names)}")
    overlay = configs / "methods" / f"{method}.yaml"
    parser = ConfigParser()
    parser.read_config([str(path) for path in (configs / "inference.yaml", overlay) if path.is_file()])
    return parser


def checked_method(method: str, *, bundle: str | Path, network: nn.Module, inferer: Inferer) -> str:
    """Return the name of a method, if the network and the inferer are of the classes that this method has.

    A configuration that is run by MONAI names its method by one key and builds it from others: this keeps results from
    being labelled by a method that did not run.

    Raises
    ------
    PETError
        If the bundle has no such method, or it has another network or inferer.
    """
    config = method_config(bundle, method)
    for key, built in (("network_def", network), ("inferer", inferer)):
        stated = str(config[key]["_target_"]).rpartition(".")[2]
        if stated != type(built).__name__:
            raise PETError(
                f"method {method}: {key} is {type(built).__name__}, expected {stated}; give inference.yaml "
                f"and methods/{method}.yaml"
            )
    return method


def load_weights(network: nn.Module, path: str | Path) -> nn.Module:
    """Load a state dict saved by training into the network, in place, and return it for inference.

    Tensors only: the file cannot run code.

    Raises
    ------
    PETError
        If the file is missing, damaged, or of another network.
    """
    try:
        state_dict = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(state_dict)
    except FileNotFoundError:
        raise PETError(f"{path}: the weights do not exist") from None
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise PETError(f"{path}: not weights of this network ({reason})") from error
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
