"""Noise statistics of the scans that patches are cut from: the style of a patch is that of its scan."""

import hashlib
import logging
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.transforms import Transform
from torch import Tensor

from pipeline.data import Store
from pipeline.networks import noise_statistics, scaled_statistics
from pipeline.networks.noise_statistics import BODY_THRESHOLD
from pipeline.training.checkpoint_files import save_atomically

__all__ = ["ScanStatisticsd", "StatisticsByDose", "measure_statistics"]

logger = logging.getLogger(__name__)


class StatisticsByDose:
    """Table of noise statistics by scan and dose reduction factor, interpolated linearly in the factor's logarithm.

    A patch of training carries the style of the whole scan that it was cut from. To measure that scan again for every
    patch would cost more than the training step; the statistics are smooth in the factor, so a few doses are enough.

    Parameters
    ----------
    measured
        Scan -> dose reduction factor -> :func:`~pipeline.networks.noise_statistics` of it, shape (5,).
    """

    def __init__(self, measured: Mapping[str, Mapping[float, Tensor]]) -> None:
        self._tables = {}
        for scan, by_factor in measured.items():
            if not by_factor or min(by_factor) < 1:
                raise ValueError(f"{scan}: has factors {sorted(by_factor)}, expected at least one, none below 1")
            ordered = sorted(by_factor.items())
            factors = torch.tensor([float(factor) for factor, _ in ordered])
            self._tables[scan] = factors.log(), torch.stack([value.detach().cpu() for _, value in ordered])

    def all(self) -> Tensor:
        """Every measured row, shape (N, 5): what :meth:`~pipeline.networks.StatisticsStyle.fit` wants."""
        return torch.cat([rows for _, rows in self._tables.values()])

    def __call__(self, scans: Sequence[str], dose_reduction_factors: Tensor) -> Tensor:
        """Statistics (B, 5) of scans at factors (B,); beyond the measured factors, those of the nearest.

        Raises
        ------
        KeyError
            If a scan was not measured.
        """
        logs = dose_reduction_factors.detach().cpu().float().log()
        return torch.stack([self._at(scan, log) for scan, log in zip(scans, logs, strict=True)])

    def _at(self, scan: str, log_factor: Tensor) -> Tensor:
        logs, rows = self._tables[scan]
        above = int(torch.searchsorted(logs, log_factor).clamp(1, max(len(logs) - 1, 1)))
        if len(logs) == 1:
            return rows[0]
        low, high = logs[above - 1], logs[above]
        weight = ((log_factor - low) / (high - low)).clamp(0, 1)
        return torch.lerp(rows[above - 1], rows[above], weight)


def measure_statistics(
    store: Store, *, suv_scale: float, body_threshold: float | None, split: str = "train", cache: str | Path
) -> StatisticsByDose:
    """Noise statistics of every scan of a split at every dose that it has, full dose included.

    Parameters
    ----------
    store
        Prepared store.
    suv_scale
        SUV [g/mL] per network unit.
    body_threshold
        See :func:`~pipeline.networks.noise_statistics`; in network units. None is its own, as for the network.
    split
        Which subjects.
    cache
        File to keep them in, for measuring takes a second or two a scan. One of other scans or settings is replaced.
    """
    subjects = [subject for subject in store.subjects.values() if subject.split == split]
    if body_threshold is None:
        body_threshold = BODY_THRESHOLD
    settings = repr((suv_scale, body_threshold, [(subject.id, subject.key) for subject in subjects]))
    key = hashlib.sha256(settings.encode()).hexdigest()
    measured = _cached(Path(cache), key)
    if measured is None:
        logger.info("measuring the noise of %d scans at every dose, once", len(subjects))
        measured = {}
        for subject in subjects:
            measured[subject.id] = {}
            for dose, name in subject.doses.items():
                suv = torch.from_numpy(store.volume(subject.id, name)[...])[None, None]
                statistics = noise_statistics(suv / suv_scale, body_threshold=body_threshold)
                measured[subject.id][dose] = statistics[0]
        save_atomically({"key": key, "measured": measured}, cache)
    return StatisticsByDose(measured)


class ScanStatisticsd(Transform):
    """Add to a patch the statistics of the scan that it is from, as ``statistics``, and at full dose, as
    ``label_statistics``; float32 tensors (5,).

    Items have ``subject``, ``dose_reduction_factor`` and, where :class:`~pipeline.transforms.RandScaleUptaked` ran,
    ``uptake_factor``.

    Parameters
    ----------
    statistics
        Of the scans, from :func:`measure_statistics`.
    """

    def __init__(self, statistics: StatisticsByDose) -> None:
        self.statistics = statistics

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        factor = torch.as_tensor(d.get("uptake_factor", 1.0)).reshape(1)
        for name, dose in (("statistics", d["dose_reduction_factor"]), ("label_statistics", torch.tensor(1.0))):
            rows = self.statistics([d["subject"]], dose.reshape(1))
            d[name] = scaled_statistics(rows, factor)[0]
        return d


def _cached(path: Path, key: str) -> dict[str, dict[float, torch.Tensor]] | None:
    if not path.is_file():
        return None
    try:
        kept = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types for a damaged file
        logger.warning("%s: damaged, measured anew (%s)", path, type(error).__name__)
        return None
    return kept["measured"] if kept.get("key") == key else None
