"""Overlapping windows, for networks whose reach has no bound: U-Nets with normalisation, diffusion."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, sliding_window_inference
from torch import Tensor

from pipeline.inference.streaming.inferer import check_body_threshold, check_finite, check_shape, name_of_scan
from pipeline.networks import tissue_mask

__all__ = ["WindowInferer"]


class WindowInferer(Inferer):
    """MONAI's sliding window with what a whole-body scan needs: Gaussian weights, float32 blending, no work on air.

    Voxels are computed several times and windows disagree near their rims, so prefer
    :class:`~pipeline.inference.StreamingInferer` for a network that it can run.

    Parameters
    ----------
    roi_size
        Window along X, Y, Z [voxels]; larger windows cost less per voxel and see more.
    overlap
        Part of a window that it shares with the next. A quarter makes a voxel cost up to 2.4 windows, half up to 8.
    dtype
        Precision inside the network, such as ``torch.bfloat16``; None is float32.
    body_threshold
        Windows without a voxel whose 5x5x5 mean exceeds this, in the network's scaled SUV, are 0 and are not
        computed. None computes all.
    batch_size
        Windows that go through the network together.
    """

    def __init__(
        self,
        *,
        roi_size: Sequence[int] = (96, 96, 96),
        overlap: float = 0.25,
        dtype: torch.dtype | None = None,
        body_threshold: float | None = None,
        batch_size: int = 1,
    ) -> None:
        check_body_threshold(body_threshold)
        self.roi_size = tuple(roi_size)
        self.overlap = overlap
        self.dtype = dtype
        self.body_threshold = body_threshold
        self.batch_size = batch_size

    @torch.no_grad()
    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Denoised volumes, a plain float32 tensor like inputs (B, 1, X, Y, Z).

        Raises
        ------
        PETError
            If a voxel is NaN or infinite.
        """
        x = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        check_shape(x)
        for i, scan in enumerate(x.split(1)):
            check_finite(scan, name_of_scan(inputs, i))

        def predict(windows: Tensor) -> Tensor:
            with torch.autocast(x.device.type, dtype=self.dtype, enabled=self.dtype is not None):
                # Rounded to float32 before blending: sums of bfloat16 weights would print the windows' outlines.
                return network(windows, *args, **kwargs).float()

        x = x.float()
        mask = None if self.body_threshold is None else tissue_mask(x, self.body_threshold)
        return blended_windows(
            x, predict, mask=mask, roi_size=self.roi_size, overlap=self.overlap, batch_size=self.batch_size
        )


def blended_windows(
    x: Tensor,
    predict: Callable[[Tensor], Tensor],
    *,
    mask: Tensor | None,
    roi_size: Sequence[int],
    overlap: float,
    batch_size: int = 1,
    n_channels: int = 1,
) -> Tensor:
    """Return what a network makes of volumes window by window, blended with Gaussian weights, (B, n_channels, X, Y, Z).

    Parameters
    ----------
    x
        Shape (B, C, X, Y, Z), float32.
    predict
        From windows (n, C, *roi_size) to (n, n_channels, *roi_size).
    mask
        Bool, (B, 1, X, Y, Z): windows without a voxel of it are 0 and are not computed. None computes all.
    roi_size, overlap, batch_size
        See :class:`WindowInferer`.
    """

    def predict_occupied(both: Tensor) -> Tensor:
        windows, occupied = both[:, :-1], both[:, -1].flatten(1).any(dim=1)
        out = windows.new_zeros(len(windows), n_channels, *windows.shape[2:])
        if occupied.any():
            out[occupied] = predict(windows[occupied])
        return out

    # The mask of the whole goes along: in a window, what lies beyond its rim would count as air.
    mask = torch.ones_like(x[:, :1]) if mask is None else mask.to(x.dtype)
    both = torch.cat([x, mask], dim=1)
    return sliding_window_inference(both, roi_size, batch_size, predict_occupied, overlap=overlap, mode="gaussian")  # type: ignore[return-value]
