"""The noise of the scans that patches are cut from, measured as inference measures it."""

import logging
import math
from collections.abc import Hashable, Mapping
from typing import Any, Protocol

import torch
from monai.transforms import Transform
from torch import Tensor, nn

from pipeline.networks import (
    BaseDenoisingNetwork,
    DoseConditionedNetwork,
    DoseReader,
    DoseSpecificNetworks,
    UniPET,
    noise_map,
    noise_statistics,
)
from pipeline.networks.noise.statistics import STATISTICS_VERSION

__all__ = ["MeasureNoised", "fit_noise"]

logger = logging.getLogger(__name__)

_KEYS = {"image": "", "label": "label_"}
"""Images that are measured, and what the names of their measurements begin with."""


class MeasureNoised(Transform):
    """Add to a scan what a network reads of it as a whole: the statistics and the map of its noise.

    They go under ``statistics``, (7,), and ``noise_map``, (2, X / 2, Y / 2, Z / 2), with mean and variance of each
    channel of the map under ``noise_moments``, (2, 2). Those of the full dose have ``label_`` before their names.
    Nothing goes there that the network does not read; where it is None, all that the shipped one reads does, whatever
    network is trained. Scans are ``image`` and ``label``, (1, X, Y, Z), SUVbw [g/mL].
    """

    def __init__(self, network: nn.Module | None, *, suv_scale: float) -> None:
        self.network = network
        self.suv_scale = suv_scale
        self.version = STATISTICS_VERSION

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the scan with its measurements."""
        d = dict(data)
        for key, prefix in _KEYS.items():
            if key in d:
                measured = measured_noise(self.network, d[key][None] / self.suv_scale, suv_scale=self.suv_scale)
                d.update({prefix + name: value[0] for name, value in measured.items()})
        return d


def measured_noise(network: nn.Module | None, x: Tensor, *, suv_scale: float = 2.0) -> dict[str, Tensor]:
    """Return what a network reads of whole scans x (B, 1, X, Y, Z), scaled SUV: ``statistics`` and ``noise_map``.

    Without a network, both; `suv_scale` is then SUVbw [g/mL] per unit of x.
    """
    if network is None:
        measured = {
            "statistics": noise_statistics(x, suv_scale=suv_scale),
            "noise_map": noise_map(x, suv_scale=suv_scale),
        }
    else:
        measured = {}
        if isinstance(network, UniPET) and network.needs_statistics:
            measured["statistics"] = network.scan_statistics(x)
        if (reader := _dose_reader(network)) is not None:
            measured["statistics"] = reader.statistics(x)
        body = _body(network)
        if body is not None and (found := body.measure_noise(x)) is not None:
            measured["noise_map"] = found
    if "noise_map" in measured:
        flat = measured["noise_map"].flatten(2)
        measured["noise_moments"] = torch.stack([flat.mean(dim=2), flat.var(dim=2, correction=0)], dim=1)
    return measured


class Scans(Protocol):
    """Scans of which the noise was measured: `PatchDataset` and `KeptPatches`."""

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch."""

    def scan(self, number: int) -> Mapping[str, Any]:
        """Return what is known of a scan of the epoch."""


def fit_noise(network: nn.Module, patches: Scans, *, n_scans: int = 24) -> nn.Module:
    """Standardise what a network reads of the noise by scans of epoch 0, which no training sees; return the network.

    A network that reads the dose learns here how. Full doses count as much as low doses: users denoise both.

    Raises
    ------
    PETError
        If a scan cannot be read.
    """
    local_noise = None if (body := _body(network)) is None else body.local_noise
    style = network.statistics_style if isinstance(network, UniPET) and network.needs_statistics else None
    reader = _dose_reader(network)
    if style is None and local_noise is None and reader is None:
        return network
    logger.info("measuring the noise of %d scans", n_scans)
    patches.set_epoch(0)
    statistics, moments, factors = [], [], []
    for number in range(n_scans):
        scan = patches.scan(number)
        for prefix in _KEYS.values():
            if f"{prefix}statistics" in scan:
                statistics.append(scan[f"{prefix}statistics"])
                factors.append(float(scan["dose_reduction_factor"]) if prefix == "" else 1.0)
            if f"{prefix}noise_moments" in scan:
                moments.append(scan[f"{prefix}noise_moments"])
    if style is not None:
        style.fit(torch.stack(statistics))
    if reader is not None:
        reader.fit(torch.stack(statistics), torch.tensor(factors))
        logger.info("a dose that is read is wrong by a factor of %.2f (1 SD)", math.exp(reader.error))
    if local_noise is not None:
        local_noise.fit(*torch.stack(moments, dim=1))
    return network


def _dose_reader(network: nn.Module) -> DoseReader | None:
    """Return what of a network reads the dose from the noise."""
    return network.dose_reader if isinstance(network, DoseConditionedNetwork | DoseSpecificNetworks) else None


def _body(network: nn.Module) -> BaseDenoisingNetwork | None:
    """Return the part of a network that may see the map of the noise."""
    body = network.base if isinstance(network, UniPET) else network
    return body if isinstance(body, BaseDenoisingNetwork) else None
