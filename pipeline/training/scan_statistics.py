"""Noise statistics of the scans that patches are cut from: the style of a patch is that of its scan."""

import hashlib
import logging
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.transforms import Transform

from pipeline.data import Store
from pipeline.networks import StatisticsByDose, noise_statistics, scaled_statistics
from pipeline.networks.noise_statistics import BODY_THRESHOLD
from pipeline.training.checkpoint_files import save_atomically

__all__ = ["ScanStatisticsd", "measure_statistics"]

logger = logging.getLogger(__name__)


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
