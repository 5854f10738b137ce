"""The bundle on disk: where it lies, what its weights are, and the network that its configuration describes."""

import re
import sys
from pathlib import Path

import torch
from torch import nn

from pipeline.errors import PETError
from pipeline.shipped import own_bundle

__all__ = ["find_bundle", "load_weights"]

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
    except Exception as error:  # torch raises half a dozen types for a file that is not what it should be
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise PETError(f"{path}: not weights of this network ({reason})") from error
    return network.eval()
