"""UniPET: one denoising network for every dose, its convolutions modulated by the style of the scan."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.networks.base_denoising import BaseDenoisingNetwork, ResidualBlock, Upsample
from pipeline.networks.modulated_body import ModulatedBody, zero_linear
from pipeline.networks.noise.local import LocalNoise
from pipeline.networks.noise.statistics import (
    NOISE_STATISTICS,
    TISSUE_SUV,
    StatisticsStyle,
    noise_statistics,
    tissue_mask,
)
from pipeline.networks.released_weights import convert_released_state_dict, released_architecture
from pipeline.networks.style_alignment import StyleAlignmentNetwork, halved

__all__ = ["UniPET", "untrained_body"]


class UniPET(ModulatedBody):
    """Universal whole-body PET denoiser: base denoising network, style of the scan, style maps.

    Parameters
    ----------
    channels, n_blocks, resolution_factor
        Width, depth and working resolution of the :class:`~pipeline.networks.BaseDenoisingNetwork`.
    style
        Where the style comes from. ``convolutional``: from the image, by the style alignment network, as published.
        ``statistics``: from :func:`~pipeline.networks.noise_statistics` of the whole scan, with an output gain: how
        much of the estimated noise is taken away.
    style_width, latent_size, n_stages
        Convolutional: width, latent length and number of stages of the style alignment network. The latents are
        shared out over the blocks in order; a remainder goes to the first latents. Statistics: hidden width and
        latent length; there is one latent.
    suv_scale
        SUVbw [g/mL] per network unit.
    tissue_threshold
        The style is that of voxels whose 5x5x5 mean exceeds this, SUVbw [g/mL]: a whole scan is mostly air and a
        training patch is not. If None, the convolutional style is that of every voxel, as published, and the
        statistics are those above 0.1 g/mL.
    local_noise
        Whether the body sees the map of the scan's local noise beside the image,
        :func:`~pipeline.networks.noise_map`.

    Notes
    -----
    The defaults are the published network with 2,748,487 parameters. Every modulated convolution has its own
    affine map from latent to style; the maps start at zero, so training starts from the plain body.

    References
    ----------
    UniPET, arXiv 2606.11131; Medical Image Analysis 2026, 104059.
    """

    def __init__(
        self,
        channels: int = 64,
        n_blocks: int | Sequence[int] = 8,
        *,
        resolution_factor: int = 1,
        style: Literal["convolutional", "statistics"] = "convolutional",
        style_width: int = 256,
        latent_size: int = 256,
        n_stages: int = 4,
        suv_scale: float = 2.0,
        tissue_threshold: float | None = None,
        local_noise: bool = False,
    ) -> None:
        threshold = TISSUE_SUV if tissue_threshold is None else tissue_threshold
        base = BaseDenoisingNetwork(
            channels,
            n_blocks,
            resolution_factor=resolution_factor,
            local_noise=LocalNoise(suv_scale=suv_scale, tissue_threshold=threshold) if local_noise else None,
        )
        super().__init__(base, latent_size=latent_size)
        self.style = style
        self.suv_scale = suv_scale
        self.tissue_threshold = tissue_threshold
        if style == "convolutional":
            if len(self.base.steps) < n_stages:
                raise ValueError(
                    f"n_blocks must be at least n_stages, got {len(self.base.steps)} blocks for {n_stages} latents"
                )
            self.san = StyleAlignmentNetwork(channels, width=style_width, latent_size=latent_size, n_stages=n_stages)
        elif style == "statistics":
            self.statistics_style = StatisticsStyle(width=style_width, latent_size=latent_size)
            self.output_gain = zero_linear(latent_size, 1)
        else:
            raise ValueError(f"style must be 'convolutional' or 'statistics', got {style!r}")

    @classmethod
    def from_released_state_dict(cls, state_dict: Mapping[str, Tensor]) -> "UniPET":
        """Network of the released architecture holding the weights of a state dict saved by the released code.

        Raises
        ------
        ValueError
            If a tensor is missing, unknown, or of the wrong shape.
        """
        network = cls(**released_architecture(state_dict))
        network.load_state_dict(convert_released_state_dict(state_dict))
        return network

    def load_base(self, base_state_dict: Mapping[str, Tensor]) -> None:
        """Start from a pretrained body: with styles at zero the result then equals that of the body."""
        self.base.load_state_dict(base_state_dict)
        self.base.normalise_kernels()

    @property
    def needs_statistics(self) -> bool:
        """Whether the style is made of noise statistics of the whole scan."""
        return self.style == "statistics"

    @property
    def reads(self) -> tuple[str, ...]:
        """What of a whole scan is given beside a part of it, see `read_by`."""
        return (*(("statistics",) if self.needs_statistics else ()), *self.base.reads)

    def scan_statistics(self, x: Tensor) -> Tensor:
        """Return the noise statistics (B, 7) of whole scans x (B, 1, X, Y, Z), scaled SUV, that this network takes."""
        threshold = TISSUE_SUV if self.tissue_threshold is None else self.tissue_threshold
        return noise_statistics(x, suv_scale=self.suv_scale, tissue_threshold=threshold)

    @torch.no_grad()
    def style_deviation(self, x: Tensor) -> dict[str, float]:
        """Return how far the noise of a whole scan x (1, 1, X, Y, Z), scaled SUV, lies from that of the training scans.

        By name of the statistic, in standard deviations of the training scans, see `StatisticsStyle.standardised`. The
        style stops to follow at 3. Empty where the style is not from statistics, or the scan holds too little body to
        be measured.
        """
        if self.style != "statistics":
            return {}
        deviations = self.statistics_style.standardised(self.scan_statistics(x))[0]
        return dict(zip(NOISE_STATISTICS, deviations.tolist(), strict=True)) if deviations.isfinite().all() else {}

    def encode_style(self, x: Tensor, statistics: Tensor | None = None) -> Tensor:
        """Style of each volume: latents (B, number of latents, latent_size) of x (B, 1, X, Y, Z), scaled SUV.

        A whole scan has one style: compute it once and pass it to :meth:`denoise` however the scan is cut. Where x
        is but a part of a scan, ``statistics`` (B, 7) of the whole are given beside it.

        Raises
        ------
        ValueError
            If statistics are given to a network whose style is convolutional.
        """
        if statistics is not None and self.style != "statistics":
            raise ValueError(f"statistics were given to a network with {self.style} style, expected none")
        if self.style == "statistics":
            return self.statistics_style(self.scan_statistics(x) if statistics is None else statistics)
        return self._pooled_latents(self.base.shallow_features(x), x)

    def plain_for(self, x: Tensor) -> BaseDenoisingNetwork:
        """Return the plain network that denoises a whole scan x (1, 1, X, Y, Z) as this one does."""
        return self.fold(self.encode_style(x))

    def denoise(self, x: Tensor, latents: Tensor) -> Tensor:
        """Denoised volume of x (B, 1, X, Y, Z) under given latents (B, number of latents, latent_size)."""
        return self.modulated(self.base.shallow_features(x), x, latents)[0]

    def denoise_with_features(
        self, x: Tensor, statistics: Tensor | None = None, noise_map: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Denoised volume and the output of every block, which the style alignment loss compares.

        Where x is but a part of a scan, the scan's statistics (B, 7) and its noise map there are given beside it.

        Raises
        ------
        ValueError
            If statistics are given to a network whose style is convolutional, or missing in training of one whose
            style is from statistics: those of a patch are not those of its scan.
        """
        if self.training and self.style == "statistics" and statistics is None:
            raise ValueError("statistics are missing, expected those of each patch's whole scan in training")
        shallow = self.base.shallow_features(x, noise_map)
        if self.style == "convolutional" and statistics is None:
            return self.modulated(shallow, x, self._pooled_latents(shallow, x))
        return self.modulated(shallow, x, self.encode_style(x, statistics))

    def forward(self, x: Tensor, statistics: Tensor | None = None, noise_map: Tensor | None = None) -> Tensor:
        """Denoised volume (B, 1, X, Y, Z) of x, scaled SUV, under its own style or that of given statistics (B, 7)."""
        return self.denoise_with_features(x, statistics, noise_map)[0]

    def _pooled_latents(self, shallow: Tensor, x: Tensor) -> Tensor:
        if self.tissue_threshold is None:
            return self.san(shallow)
        body = tissue_mask(x, self.tissue_threshold / self.suv_scale).to(x.dtype)
        if self.base.resolution_factor > 1:
            body = halved(body)
        # What the features were padded by is no part of the body.
        missing = [n - m for n, m in zip(shallow.shape[2:], body.shape[2:], strict=True)]
        return self.san(shallow, F.pad(body, [p for n in reversed(missing) for p in (0, n)]))


def untrained_body(network: UniPET | BaseDenoisingNetwork, *, initial_scale: float) -> BaseDenoisingNetwork:
    """Return a copy of the body of an untrained network, for a training of its own.

    Parameters
    ----------
    network
        UniPET, whose :meth:`~UniPET.load_base` takes the trained weights, or a body.
    initial_scale
        Where ``res_scale``, and the scale of what a deeper level adds, start.
    """
    body = deepcopy(network.base if isinstance(network, UniPET) else network)
    with torch.no_grad():
        for step in body.steps:
            if isinstance(step, ResidualBlock):
                step.res_scale.fill_(initial_scale)
            elif isinstance(step, Upsample):
                step.scale.fill_(initial_scale)
    return body
