"""Inferer that runs a network at a lower precision inside, on data that stays float32 outside."""

from collections.abc import Callable
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor

__all__ = ["AutocastInferer", "fast_dtype"]


def fast_dtype(device: torch.device | str) -> torch.dtype | None:
    """bfloat16 where the processor computes in it, else None, which stands for float32.

    Processors without bfloat16 instructions emulate them, several times slower than float32.
    """
    if torch.device(device).type == "cuda":
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        supported = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.bfloat16 if supported else None


class AutocastInferer(Inferer):
    """Pass the whole input through the network under autocast.

    Parameters
    ----------
    dtype
        Precision inside the network, such as ``torch.bfloat16``; None is float32.
    """

    def __init__(self, dtype: torch.dtype | None = torch.bfloat16) -> None:
        self.dtype = dtype

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """network(inputs) for inputs (B, 1, X, Y, Z), as a plain float32 tensor."""
        x = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        x = x.contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast(x.device.type, dtype=self.dtype, enabled=self.dtype is not None):
            return network(x, *args, **kwargs).float()
