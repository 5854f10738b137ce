"""Networks that must know the dose: one conditioned on it, and one for every dose.

The dose is stated, or read from the noise of the scan.
"""

import math
from collections.abc import Sequence
from copy import copy
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from pipeline.networks.base_denoising import BaseDenoisingNetwork
from pipeline.networks.modulated_body import ModulatedBody
from pipeline.networks.noise.statistics import NOISE_STATISTICS, TISSUE_SUV, noise_statistics

__all__ = ["DoseConditionedNetwork", "DoseReader", "DoseSpecificNetworks", "KnowsDose"]

_HIGHEST = 400.0
"""Dose reduction factor above which none is read: twice the highest that anybody tests."""
_RIDGE = 1e-3
_HIDDEN = 32


class DoseReader(nn.Module):
    """Read the dose reduction factor of a whole scan from the statistics of its noise.

    Linear regression of the factor's logarithm on the seven noise statistics of training scans, kept in buffers, hence
    in the checkpoint. A scan that cannot be measured gets the geometric mean of the training's factors.

    Parameters
    ----------
    suv_scale
        SUVbw [g/mL] per network unit.
    tissue_threshold
        That of :func:`~pipeline.networks.noise_statistics`, SUVbw [g/mL].
    """

    mean: Tensor
    slopes: Tensor
    middle: Tensor
    error: Tensor

    def __init__(self, *, suv_scale: float = 2.0, tissue_threshold: float = TISSUE_SUV) -> None:
        super().__init__()
        self.suv_scale = suv_scale
        self.tissue_threshold = tissue_threshold
        self.register_buffer("mean", torch.zeros(len(NOISE_STATISTICS)))
        self.register_buffer("slopes", torch.zeros(len(NOISE_STATISTICS)))
        self.register_buffer("middle", torch.tensor(math.log(10.0)))
        self.register_buffer("error", torch.tensor(math.nan))

    @torch.no_grad()
    def fit(self, statistics: Tensor, factors: Tensor) -> None:
        """Fit to the noise statistics (N, 7) of training scans and their dose reduction factors (N,).

        ``error`` becomes the standard deviation of what the fit leaves of log factor.

        Raises
        ------
        ValueError
            If fewer than ten scans could be measured.
        """
        measured = statistics.isfinite().all(dim=1)
        x, y = statistics[measured].double(), factors[measured].double().log()
        if len(x) < 10:
            raise ValueError(f"the noise of {len(x)} of {len(statistics)} scans can be measured, expected that of ten")
        mean, middle = x.mean(dim=0), y.mean()
        centred = x - mean
        penalty = _RIDGE * len(x) * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        slopes = torch.linalg.solve(centred.T @ centred + penalty, centred.T @ (y - middle))
        self.mean.copy_(mean)
        self.slopes.copy_(slopes)
        self.middle.copy_(middle)
        self.error.copy_((y - middle - centred @ slopes).std())

    def statistics(self, x: Tensor) -> Tensor:
        """Return the noise statistics (B, 7) of whole scans x (B, 1, X, Y, Z), scaled SUV."""
        return noise_statistics(x, suv_scale=self.suv_scale, tissue_threshold=self.tissue_threshold)

    @torch.no_grad()
    def read(self, x: Tensor) -> Tensor:
        """Return the dose reduction factors (B,), at least 1, of whole scans x; NaN where noise cannot be measured."""
        logarithm = self.middle + (self.statistics(x).to(self.mean.dtype) - self.mean) @ self.slopes
        return logarithm.exp().clamp(1.0, _HIGHEST)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Return the dose reduction factors (B,), at least 1, of whole scans x (B, 1, X, Y, Z), scaled SUV."""
        found = self.read(x)
        return found.where(found.isfinite(), self.middle.exp())


@runtime_checkable
class KnowsDose(Protocol):
    """A network that reads the dose of a scan, unless it is stated."""

    def at_dose(self, factor: float | None) -> Self:
        """Return this network, sharing its weights, for scans of a stated dose reduction factor; None reads it."""

    def dose_of(self, x: Tensor) -> Tensor:
        """Return the dose reduction factors (B,), stated or read, of whole scans x (B, 1, X, Y, Z), scaled SUV."""

    def read_dose(self, x: Tensor) -> Tensor:
        """Return those that are read, (B,), whatever is stated; NaN of scans that cannot be measured."""


class _Dosed(nn.Module):
    """What both have: a reader, and a dose that is stated or not."""

    def __init__(self, *, suv_scale: float) -> None:
        super().__init__()
        self.dose_reader = DoseReader(suv_scale=suv_scale)
        self.stated: float | None = None

    def at_dose(self, factor: float | None) -> Self:
        """Return this network, sharing its weights, for scans of a stated dose reduction factor; None reads it.

        Raises
        ------
        ValueError
            If the factor is no finite number of at least 1.
        """
        if factor is not None and not 1 <= factor < math.inf:
            raise ValueError(f"dose reduction factor {factor}, expected a finite number of at least 1")
        other = copy(self)
        other.stated = factor
        return other

    def dose_of(self, x: Tensor) -> Tensor:
        """Return the dose reduction factors (B,), stated or read, of whole scans x (B, 1, X, Y, Z), scaled SUV."""
        if self.stated is not None:
            return x.new_full((len(x),), self.stated)
        return self.dose_reader(x)

    def read_dose(self, x: Tensor) -> Tensor:
        """Return those that are read, (B,), whatever is stated; NaN of scans that cannot be measured."""
        return self.dose_reader.read(x)


class DoseConditionedNetwork(_Dosed):
    """One network for all doses that is told the dose: its convolutions are modulated by log dose reduction factor.

    The modulation is that of UniPET (scales of the input channels, demodulated), of two layers; its maps start at zero.

    Parameters
    ----------
    channels, n_blocks, resolution_factor, initial_scale
        Of the :class:`~pipeline.networks.BaseDenoisingNetwork`.
    latent_size
        Length of the latent that is made of the dose.
    suv_scale
        SUVbw [g/mL] per network unit.
    """

    reads = ("dose_reduction_factor",)

    def __init__(
        self,
        channels: int,
        n_blocks: int | Sequence[int],
        *,
        resolution_factor: int = 2,
        initial_scale: float = 0.2,
        latent_size: int = 32,
        suv_scale: float = 2.0,
    ) -> None:
        super().__init__(suv_scale=suv_scale)
        body = BaseDenoisingNetwork(
            channels, n_blocks, resolution_factor=resolution_factor, initial_scale=initial_scale
        )
        self.body = ModulatedBody(body, latent_size=latent_size)
        self.to_latent = nn.Sequential(nn.Linear(1, _HIDDEN), nn.SiLU(), nn.Linear(_HIDDEN, latent_size), nn.SiLU())

    @property
    def base(self) -> BaseDenoisingNetwork:
        """The body."""
        return self.body.base

    def latents(self, factors: Tensor) -> Tensor:
        """Latents (B, 1, latent_size) of dose reduction factors (B,)."""
        # From -1 to 1 between DRF 1 and 100.
        position = factors.to(self.to_latent[0].weight.dtype).log() / math.log(10.0) - 1
        return self.to_latent(position[:, None])[:, None]

    def plain_for(self, x: Tensor) -> BaseDenoisingNetwork:
        """Return the plain network for the dose of a whole scan x (1, 1, X, Y, Z)."""
        return self.body.fold(self.latents(self.dose_of(x)))

    def forward(self, x: Tensor, dose_reduction_factor: Tensor | None = None) -> Tensor:
        """Denoise x (B, 1, X, Y, Z), scaled SUV; of parts of scans the scans' factors (B,) are given beside it."""
        factors = self.dose_of(x) if dose_reduction_factor is None else dose_reduction_factor
        return self.body.modulated(self.base.shallow_features(x), x, self.latents(factors))[0]


class DoseSpecificNetworks(_Dosed):
    """One network for every dose; a scan goes to the one whose dose is nearest, in the logarithm.

    Parameters
    ----------
    factors
        Dose reduction factors of the networks.
    channels, n_blocks, resolution_factor, initial_scale
        Of each :class:`~pipeline.networks.BaseDenoisingNetwork`.
    suv_scale
        SUVbw [g/mL] per network unit.
    """

    reads = ("dose_reduction_factor",)

    def __init__(
        self,
        factors: Sequence[float],
        *,
        channels: int,
        n_blocks: int | Sequence[int],
        resolution_factor: int = 2,
        initial_scale: float = 0.2,
        suv_scale: float = 2.0,
    ) -> None:
        super().__init__(suv_scale=suv_scale)
        if not factors or min(factors) < 1:
            raise ValueError(f"factors {list(factors)}, expected dose reduction factors of at least 1")
        self.factors = tuple(float(factor) for factor in factors)
        self.networks = nn.ModuleList(
            BaseDenoisingNetwork(channels, n_blocks, resolution_factor=resolution_factor, initial_scale=initial_scale)
            for _ in self.factors
        )

    @property
    def base(self) -> BaseDenoisingNetwork:
        """One of the networks: all have the same shape."""
        return self.networks[0]  # type: ignore[return-value]

    def nearest(self, factor: float) -> int:
        """Return the index of the network for a dose reduction factor."""
        return min(range(len(self.factors)), key=lambda i: abs(math.log(self.factors[i] / factor)))

    def plain_for(self, x: Tensor) -> BaseDenoisingNetwork:
        """Return the network for the dose of a whole scan x (1, 1, X, Y, Z)."""
        return self.networks[self.nearest(float(self.dose_of(x)))]  # type: ignore[return-value]

    def forward(self, x: Tensor, dose_reduction_factor: Tensor | None = None) -> Tensor:
        """Denoise x (B, 1, X, Y, Z), scaled SUV; of parts of scans the scans' factors (B,) are given beside it."""
        factors = self.dose_of(x) if dose_reduction_factor is None else dose_reduction_factor
        chosen = [self.nearest(factor) for factor in factors.tolist()]
        parts = [i for i in range(len(self.factors)) if i in chosen]
        if len(parts) == 1:
            return self.networks[parts[0]](x)
        result = torch.empty_like(x)
        for i in parts:
            where = torch.tensor([c == i for c in chosen], device=x.device)
            result[where] = self.networks[i](x[where]).to(result.dtype)
        return result
