"""A method of a bundle: the one file that says its network, weights, scale and inferer."""

from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from pipeline.errors import PETError
from pipeline.shipped import method_files

__all__ = ["Method"]


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
        self._parser = ConfigParser(globals={"pipeline": "pipeline"})
        self._parser.read_config([str(path) for path in self.files])
        self._parser["bundle_root"] = str(bundle)
        self._parser["device"] = f"$torch.device({str(device)!r})"

    def __getitem__(self, key: str) -> Any:
        """Return what the method has under a key, built once."""
        if key not in self._parser:
            raise PETError(f"{self.files[-1]}: has no {key}, expected one")
        return self._parser.get_parsed_content(key)
