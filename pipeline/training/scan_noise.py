"""The noise of the scans that patches are cut from, measured as inference measures it."""

import logging
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import Transform
from torch import Tensor, nn

from pipeline.data import PatchDataset
from pipeline.networks import BaseDenoisingNetwork, UniPET

__all__ = ["MeasureNoised", "fit_noise"]

logger = logging.getLogger(__name__)

_KEYS = {"image": "", "label": "label_"}
"""Images that are measured, and what the names of their measurements begin with."""


class MeasureNoised(Transform):
    """Add to a scan what a network reads of it as a whole: the statistics and the map of its noise.

    They go under ``statistics``, (7,), and ``noise_map``, (2, X / 2, Y / 2, Z / 2), those of the full dose under
    ``label_statistics`` and ``label_noise_map``; nothing goes there that the network does not read. Scans are
    ``image`` and ``label``, (1, X, Y, Z), SUVbw [g/mL].
    """

    def __init__(self, network: nn.Module, *, suv_scale: float) -> None:
        self.network = network
        self.suv_scale = suv_scale

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the scan with its measurements."""
        d = dict(data)
        for key, prefix in _KEYS.items():
            if key in d:
                measured = measured_noise(self.network, d[key][None] / self.suv_scale)
                d.update({prefix + name: value[0] for name, value in measured.items()})
        return d


def measured_noise(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Return what a network reads of whole scans x (B, 1, X, Y, Z), scaled SUV: ``statistics`` and ``noise_map``."""
    measured = {}
    if isinstance(network, UniPET) and network.needs_statistics:
        measured["statistics"] = network.scan_statistics(x)
    body = _body(network)
    if body is not None and (noise_map := body.measure_noise(x)) is not None:
        measured["noise_map"] = noise_map
    return measured


def fit_noise(network: nn.Module, patches: PatchDataset, *, n_scans: int = 24) -> nn.Module:
    """Standardise what a network reads of the noise by scans of epoch 0, which no training sees; return the network.

    Full doses count as much as low doses: users denoise both.

    Raises
    ------
    PETError
        If a scan cannot be read.
    """
    local_noise = None if (body := _body(network)) is None else body.local_noise
    style = network.statistics_style if isinstance(network, UniPET) and network.needs_statistics else None
    if style is None and local_noise is None:
        return network
    logger.info("measuring the noise of %d scans", n_scans)
    patches.set_epoch(0)
    statistics, means, variances = [], [], []
    for number in range(n_scans):
        scan = patches.scan(number)
        for prefix in _KEYS.values():
            if f"{prefix}statistics" in scan:
                statistics.append(scan[f"{prefix}statistics"])
            if f"{prefix}noise_map" in scan:
                noise = scan[f"{prefix}noise_map"].flatten(1)
                means.append(noise.mean(dim=1))
                variances.append(noise.var(dim=1, correction=0))
    if style is not None:
        style.fit(torch.stack(statistics))
    if local_noise is not None:
        local_noise.fit(torch.stack(means), torch.stack(variances))
    return network


def _body(network: nn.Module) -> BaseDenoisingNetwork | None:
    """Return the part of a network that may see the map of the noise."""
    body = network.base if isinstance(network, UniPET) else network
    return body if isinstance(body, BaseDenoisingNetwork) else None
