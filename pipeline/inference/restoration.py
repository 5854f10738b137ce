"""Give lesions back the uptake that denoising took from them."""

from collections.abc import Callable
from math import inf
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.networks.layers import GaussianFilter
from torch import Tensor

from pipeline.inference.streaming.inferer import Progress, TellsProgress, check_shape

__all__ = ["LocalMeanRestoration"]


class LocalMeanRestoration(Inferer):
    """Denoise with another inferer, then give back the local mean of what it removed, where that is signal.

    With the noisy scan y and the denoised x, d = G(y - x) is the local mean of what was removed: noise, and the share
    of a lesion's uptake that the network took for it. The result is x + w d with

        w = s^2 / (s^2 + noise_weight * n^2),  s = max(x - B(x), 0),  n^2 = B(d^2)

    the contrast s of the denoised scan over its surroundings and the noise n of d there: a Wiener weight. Only what
    stands out of its surroundings gets anything back, and less of it the lower the dose.

    Takes seven more volumes of memory than the other inferer.

    Parameters
    ----------
    inferer
        Denoises; inputs and result (B, 1, X, Y, Z).
    sigma
        Standard deviation of the Gaussian G [voxels].
    background_sigma
        Standard deviation of the Gaussian B [voxels].
    noise_weight
        0 gives back everything that stands out, noise too; the larger, the less.
    """

    def __init__(
        self, inferer: Inferer, *, sigma: float = 1.0, background_sigma: float = 4.0, noise_weight: float = 30.0
    ) -> None:
        if not 0 < sigma < background_sigma < inf or not 0 <= noise_weight < inf:
            raise ValueError(
                f"sigma {sigma}, background_sigma {background_sigma}, noise_weight {noise_weight}: expected "
                "0 < sigma < background_sigma, noise_weight 0 or more"
            )
        self.inferer = inferer
        self.sigma, self.background_sigma = sigma, background_sigma
        self.noise_weight = noise_weight

    @property
    def on_progress(self) -> Callable[[Progress], None] | None:
        """Is told how far a scan is, where the other inferer tells."""
        return self.inferer.on_progress if isinstance(self.inferer, TellsProgress) else None

    @on_progress.setter
    def on_progress(self, on_progress: Callable[[Progress], None] | None) -> None:
        if isinstance(self.inferer, TellsProgress):
            self.inferer.on_progress = on_progress

    @torch.no_grad()
    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Denoised volumes."""
        check_shape(inputs)
        pred = self.inferer(inputs, network, *args, **kwargs)
        noisy = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        return torch.cat([self._restored(y, x) for y, x in zip(noisy.split(1), pred.split(1), strict=True)])

    def _restored(self, noisy: Tensor, denoised: Tensor) -> Tensor:
        removed = _local_mean(denoised, self.sigma)(noisy.to(denoised) - denoised)
        background = _local_mean(denoised, self.background_sigma)
        signal = (denoised - background(denoised)).clamp_min_(0).square_()
        noise = background(removed.square()).mul_(self.noise_weight)
        # Where nothing stands out nothing comes back, also where there is no noise either.
        weight = torch.where(signal > 0, signal / (signal + noise), 0)
        return denoised + weight * removed


def _local_mean(like: Tensor, sigma: float) -> Callable[[Tensor], Tensor]:
    """Gaussian mean of volumes like this one over what lies inside: nothing stands out because the scan ends there."""
    smooth = GaussianFilter(3, sigma).to(like)
    inside = smooth(torch.ones_like(like))
    return lambda x: smooth(x) / inside
