"""The random states of a process, as plain values and tensors."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

__all__ = ["random_state", "restore_random_state"]


def random_state() -> dict[str, Any]:
    """States of Python's, NumPy's and PyTorch's global generators, of every GPU too."""
    kind, keys, *numpy_rest = np.random.get_state()  # noqa: NPY002 (the one that others may draw from)
    version, values, gauss = random.getstate()
    return {
        "python": [version, list(values), gauss],
        "numpy": [kind, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *numpy_rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Continue where :func:`random_state` was taken; states of GPUs that this machine lacks are left out."""
    version, values, gauss = state["python"]
    random.setstate((version, tuple(values), gauss))
    kind, keys, *numpy_rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *numpy_rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
