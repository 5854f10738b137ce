"""OSEM's arrays on torch: the same products with ``torch.sparse_csr``, on a GPU or on the CPU.

Imported only when a device is asked for, so that simulating needs no torch.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from scipy import sparse

from pipeline.errors import PETError

__all__ = ["TorchBackend"]


class TorchBackend:
    """Arrays of torch on one device, see `pipeline.simulation.scanner.backend.Backend`."""

    def __init__(self, device: str) -> None:
        try:
            self.device = torch.device(device)
            torch.empty(1, device=self.device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise PETError(f"device {device!r}: {reason}; expected one that torch can reach, or None") from error

    def array(self, values: np.ndarray) -> torch.Tensor:
        """Put the values on the device, as float32."""
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(self.device)

    def matrix(self, values: sparse.csr_array) -> torch.Tensor:
        """Put a sparse matrix on the device."""
        values.sort_indices()  # as torch demands, and older scipy leaves undone
        rows, columns, entries = (torch.from_numpy(part) for part in (values.indptr, values.indices, values.data))
        with warnings.catch_warnings(), torch.sparse.check_sparse_tensor_invariants():
            # torch calls its sparse CSR a beta each time that one is made.
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            return torch.sparse_csr_tensor(rows, columns, entries, size=values.shape, device=self.device)

    def raise_to(self, floor: float, values: torch.Tensor) -> None:
        """Replace what is below the floor by the floor, in place."""
        values.clamp_(min=floor)

    def numpy(self, values: torch.Tensor) -> np.ndarray:
        """Return a tensor as a numpy array."""
        return values.cpu().numpy()
