"""Noise statistics of the scans that patches are cut from: the style of a patch is that of its scan."""

import hashlib
import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.transforms import Transform
from torch import Tensor, nn

from pipeline.data import Store
from pipeline.networks import UniPET, scaled_statistics
from pipeline.networks.noise_statistics import STATISTICS_VERSION
from pipeline.pet import READING_VERSION
from pipeline.training.checkpoint_files import save_atomically

__all__ = ["ScanStatisticsd", "StatisticsByDose", "measure_statistics"]

logger = logging.getLogger(__name__)


class StatisticsByDose:
    """Table of the noise statistics by scan and dose reduction factor, interpolated linearly in the factor's logarithm.

    A patch of training carries the style of the whole scan that it was cut from. To measure that scan again for every
    patch would cost more than the training step; the statistics are smooth in the factor, so a few doses are enough.
    `measured` is scan -> dose reduction factor -> :func:`~pipeline.networks.noise_statistics` of it, shape (5,).
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
        """Return every measured row, shape (N, 5): what :meth:`~pipeline.networks.StatisticsStyle.fit` takes."""
        return torch.cat([rows for _, rows in self._tables.values()])

    def __call__(self, scans: Sequence[str], dose_reduction_factors: Tensor) -> Tensor:
        """Return the statistics (B, 5) of scans at factors (B,); beyond the measured factors, those of the nearest.

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
    store: Store,
    network: nn.Module,
    *,
    cache: str | Path,
    split: str = "train",
    progress: Callable[[str, int, int], object] | None = None,
) -> StatisticsByDose | None:
    """Measure the noise statistics of every scan at every dose, full dose too, and fit the network's style to them.

    If the network needs no statistics, nothing is measured. The file `cache` keeps them, since measuring takes a second
    or two a scan; one of other scans, of other settings, or of another version of reading or measuring is replaced.
    `progress` is called with what is done and the number of finished scans and of all. If it raises, the next call goes
    on.
    """
    if not isinstance(network, UniPET) or not network.needs_statistics:
        return None
    subjects = [subject for subject in store.subjects.values() if subject.split == split]
    versions = (READING_VERSION, STATISTICS_VERSION, network.suv_scale, network.tissue_threshold)
    settings = repr((versions, [(subject.id, subject.key) for subject in subjects]))
    key = hashlib.sha256(settings.encode()).hexdigest()
    measured = _cached(Path(cache), key)
    missing = [subject for subject in subjects if subject.id not in measured]
    if missing:
        logger.info("measuring the noise of %d scans at every dose, once", len(missing))
    try:
        for subject in missing:
            by_dose = {}
            for dose, name in subject.doses.items():
                suv = torch.from_numpy(store.volume(subject.id, name)[...])[None, None]
                by_dose[dose] = network.scan_statistics(suv / network.suv_scale)[0]
            measured[subject.id] = by_dose
            if progress is not None:
                progress("measuring the noise", len(measured), len(subjects))
    finally:
        if missing:
            save_atomically({"key": key, "measured": measured}, cache)
    statistics = StatisticsByDose(measured)
    network.statistics_style.fit(statistics.all())
    return statistics


class ScanStatisticsd(Transform):
    """Add to a patch the statistics of the scan that it is from, see :func:`measure_statistics`; if None, nothing.

    They go under ``statistics``, and at full dose under ``label_statistics``; float32 tensors (5,). Items have
    ``subject``, ``dose_reduction_factor`` and, if :class:`~pipeline.transforms.RandScaleUptaked` ran,
    ``uptake_factor``.
    """

    def __init__(self, statistics: StatisticsByDose | None) -> None:
        self.statistics = statistics

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with its statistics."""
        d = dict(data)
        if self.statistics is None:
            return d
        factor = torch.as_tensor(d.get("uptake_factor", 1.0)).reshape(1)
        for name, dose in (("statistics", d["dose_reduction_factor"]), ("label_statistics", torch.tensor(1.0))):
            rows = self.statistics([d["subject"]], dose.reshape(1))
            d[name] = scaled_statistics(rows, factor)[0]
        return d


def _cached(path: Path, key: str) -> dict[str, dict[float, Tensor]]:
    """Return what a file holds under a key: nothing, if it holds something else or is damaged."""
    if not path.is_file():
        return {}
    try:
        kept = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - a damaged cache makes torch raise anything
        logger.warning("%s: damaged, measured anew (%s)", path, type(error).__name__)
        return {}
    return kept["measured"] if isinstance(kept, dict) and kept.get("key") == key else {}
