"""What every inferer asks of a scan before it starts, and what it calls the scan in a message."""

import math

import torch
from monai.data import MetaTensor
from torch import Tensor

from pipeline.errors import PETError

__all__ = ["check_body_threshold", "check_finite", "check_shape", "name_of_scan"]


def name_of_scan(inputs: Tensor, index: int) -> str:
    """What to call a scan of a batch (B, 1, X, Y, Z): its file where the metadata know it, else its number."""
    files = inputs.meta.get("filename_or_obj") if isinstance(inputs, MetaTensor) else None
    if isinstance(files, list | tuple):
        files = files[index] if index < len(files) else None
    return str(files) if files else f"scan {index + 1} of {len(inputs)}"


def check_shape(x: Tensor) -> None:
    """Refuse what is no batch of volumes.

    Raises
    ------
    ValueError
        If x is not (B, 1, X, Y, Z) with at least one voxel.
    """
    shape = tuple(getattr(x, "shape", ()))
    if not isinstance(x, Tensor) or len(shape) != 5 or shape[1] != 1 or min(shape) < 1:
        raise ValueError(
            f"got {type(x).__name__} of shape {shape}, expected a tensor (B, 1, X, Y, Z) that is not empty"
        )


def check_body_threshold(threshold: float | None) -> None:
    """Refuse a threshold that no comparison can be made with.

    Raises
    ------
    ValueError
        If it is neither None nor a finite number.
    """
    if threshold is not None and not math.isfinite(threshold):
        raise ValueError(f"body_threshold is {threshold}, expected a finite number or None")


def check_finite(x: Tensor, name: str) -> None:
    """Refuse a volume (1, 1, X, Y, Z) with NaN or infinite voxels: convolutions would spread them.

    Raises
    ------
    PETError
        Says how many there are.
    """
    n_bad = sum(int((~torch.isfinite(plane)).sum()) for plane in x[0, 0])
    if n_bad:
        raise PETError(f"{name}: {n_bad} of {x.numel()} voxels are NaN or infinite, expected finite SUV")
