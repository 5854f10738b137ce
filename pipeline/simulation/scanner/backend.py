"""Where a reconstruction runs: the few operations that OSEM needs beyond +, *, / and @."""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol

import numpy as np
from scipy import sparse

__all__ = ["NUMPY", "Backend", "backend_on"]


class Backend(Protocol):
    """Arrays of one library on one device. Its arrays know arithmetic in place, ``@``, ``reshape`` and ``max``."""

    def array(self, values: np.ndarray) -> Any:
        """Put the values on the device, as float32."""
        ...

    def matrix(self, values: sparse.csr_array) -> Any:
        """Put a sparse matrix on the device, to be multiplied with dense arrays."""
        ...

    def raise_to(self, floor: float, values: Any) -> None:
        """Replace what is below the floor by the floor, in place."""
        ...

    def numpy(self, values: Any) -> np.ndarray:
        """Return an array of the device as numpy's."""
        ...


class _NumpyBackend:
    """numpy and scipy: the reference, whose bytes a seed promises."""

    def array(self, values: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(values, dtype=np.float32)

    def matrix(self, values: sparse.csr_array) -> sparse.csr_array:
        return values

    def raise_to(self, floor: float, values: np.ndarray) -> None:
        np.maximum(values, np.float32(floor), out=values)

    def numpy(self, values: np.ndarray) -> np.ndarray:
        return values


NUMPY: Backend = _NumpyBackend()
"""numpy and scipy on the CPU."""


@cache
def backend_on(device: str | None) -> Backend:
    """Return the backend of a device: None is numpy, else torch on ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...

    Raises
    ------
    PETError
        If torch does not know the device or cannot reach it.
    """
    if device is None:
        return NUMPY
    from pipeline.simulation.scanner.torch_backend import TorchBackend

    return TorchBackend(device)
