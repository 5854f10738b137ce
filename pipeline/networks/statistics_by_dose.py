"""Noise statistics of training scans at any dose, measured at a few."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["StatisticsByDose"]


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
