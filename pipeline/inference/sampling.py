"""Sampling of a diffusion: the denoised scan as the mean of several draws, and how far these lie apart."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor

from pipeline.diffusion import Coding, Process
from pipeline.inference.streaming.inferer import (
    InfererAround,
    Progress,
    ProgressClock,
    check_body_threshold,
    check_finite,
    check_shape,
    name_of_scan,
)
from pipeline.inference.windows import blended_windows
from pipeline.networks.noise.statistics import body_box, tissue_mask

__all__ = ["SamplingInferer", "TellsUncertainty", "sampler_of", "with_uncertainty"]


@runtime_checkable
class TellsUncertainty(Protocol):
    """An inferer that tells how far its result may lie from the truth."""

    def with_uncertainty(
        self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Return the denoised volumes and their standard deviations, (B, 1, X, Y, Z) both; None if it knows none."""


def with_uncertainty(
    inferer: Callable[..., Tensor], inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    """Run any inferer; return its result and, where it tells, the standard deviation of every voxel."""
    if isinstance(inferer, TellsUncertainty):
        return inferer.with_uncertainty(inputs, network, *args, **kwargs)
    return inferer(inputs, network, *args, **kwargs), None


class SamplingInferer(Inferer):
    """Draw samples of the full dose given the low dose, all of a scan's body at once.

    A step is taken by the whole body together; the network alone may be run in windows, blended at every step. Noise is
    drawn for the whole from the seed, on the CPU: windows, batches and devices share it.

    Parameters
    ----------
    process, coding
        As in training.
    n_steps
        Evaluations of the network for a sample.
    n_samples
        The result is the mean of so many.
    seed
        Noise follows from it; every scan gets the same.
    dtype
        Precision inside the network, such as ``torch.bfloat16``; None is float32.
    body_threshold
        Only the box around the voxels whose 5x5x5 mean exceeds this, in the network's scaled SUV, is computed; beyond
        it the result is 0. None computes all.
    whole
        A body of at most so many voxels goes through the network at once, a larger one in windows: about 200 bytes a
        voxel.
    roi_size, overlap
        Window along X, Y, Z [voxels], and the part of it that it shares with the next.
    on_progress
        Is told after every step how far the scan is.

    Raises
    ------
    ValueError
        If the numbers of steps or samples are none, or the process has not so many steps.
    """

    def __init__(
        self,
        *,
        process: Process,
        coding: Coding,
        n_steps: int,
        n_samples: int = 1,
        seed: int = 0,
        dtype: torch.dtype | None = None,
        body_threshold: float | None = None,
        whole: int = 8_000_000,
        roi_size: Sequence[int] = (128, 128, 128),
        overlap: float = 0.25,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        if not all(isinstance(n, int) and n >= 1 for n in (n_steps, n_samples)):
            raise ValueError(f"n_steps {n_steps}, n_samples {n_samples}: expected whole numbers of at least 1")
        process.times(n_steps)  # which the schedule may not have
        check_body_threshold(body_threshold)
        self.process = process
        self.coding = coding
        self.n_steps = n_steps
        self.n_samples = n_samples
        self.seed = seed
        self.dtype = dtype
        self.body_threshold = body_threshold
        self.whole = whole
        self.roi_size = tuple(roi_size)
        self.overlap = overlap
        self.on_progress = on_progress

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Denoised volumes, a plain float32 tensor like inputs (B, 1, X, Y, Z): the mean of the samples.

        Raises
        ------
        PETError
            If a voxel is NaN or infinite.
        """
        return self.with_uncertainty(inputs, network, *args, **kwargs)[0]

    @torch.no_grad()
    def with_uncertainty(
        self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Mean and standard deviation of the samples, plain float32 tensors like inputs; None instead of that of one.

        Raises
        ------
        PETError
            If a voxel is NaN or infinite.
        """
        x = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        check_shape(x)
        means, deviations = torch.zeros_like(x, dtype=torch.float32), torch.zeros_like(x, dtype=torch.float32)
        clock = ProgressClock(self.on_progress)
        for i, scan in enumerate(x.split(1)):
            check_finite(scan, name_of_scan(inputs, i))
            clock.begin(self.n_samples * self.n_steps)
            scan = scan.float()
            box = (slice(None),) * 5 if self.body_threshold is None else body_box(scan, self.body_threshold)
            low, mean, squares = scan[box], means[i : i + 1][box], deviations[i : i + 1][box]
            code = self.coding(low)
            run = self._network_on(low, network, *args, **kwargs)
            for k in range(self.n_samples):
                draw = self._draws(low, k)
                sample = code.decode(self._sample(code.condition, run, draw, clock))
                # Welford's running mean and sum of squares.
                change = sample - mean
                mean += change / (k + 1)
                squares += change * (sample - mean)
            squares.div_(max(self.n_samples - 1, 1)).sqrt_()
        return means, deviations if self.n_samples > 1 else None

    def _sample(
        self,
        condition: Tensor,
        run: Callable[[Tensor, int], Tensor],
        draw: Callable[[], Tensor],
        clock: ProgressClock,
    ) -> Tensor:
        """One x0, (1, 1, X, Y, Z)."""
        times = self.process.times(self.n_steps)
        x = draw()
        for time, following in zip(times, [*times[1:], None], strict=True):
            output = run(torch.cat([x, condition], dim=1), time)
            x = self.process.step(output, x, time=time, following=following, draw=draw)
            clock.advance(1)
        return x

    def _draws(self, like: Tensor, k: int) -> Callable[[], Tensor]:
        """Return a function that draws noise for a sample, anew with every call."""
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + k) % 2**63)
        return lambda: torch.randn(like.shape, generator=generator).to(like.device)

    def _network_on(
        self, low: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> Callable[[Tensor, int], Tensor]:
        """Return a function of x (1, C, X, Y, Z) and a time that gives the network's output for the whole body."""

        def predict(x: Tensor, time: int) -> Tensor:
            timesteps = torch.full((len(x),), time, device=x.device)
            with torch.autocast(x.device.type, dtype=self.dtype, enabled=self.dtype is not None):
                return network(x, timesteps, *args, **kwargs).float()

        if low.numel() <= self.whole:
            return predict
        mask = None if self.body_threshold is None else tissue_mask(low, self.body_threshold)
        return lambda x, time: blended_windows(
            x,
            lambda windows: predict(windows, time),
            mask=mask,
            roi_size=self.roi_size,
            overlap=self.overlap,
            n_channels=self.process.n_outputs,
        )


def sampler_of(inferer: Any) -> SamplingInferer | None:
    """Return the inferer that samples: the given one, or the one that it lies around; None if there is none."""
    while isinstance(inferer, InfererAround):
        inferer = inferer.inferer
    return inferer if isinstance(inferer, SamplingInferer) else None
