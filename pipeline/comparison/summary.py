"""Means over subjects and over lesions of a size."""

import numpy as np
import pandas as pd

__all__ = ["LESION_CLASSES", "lesions_in_class", "summarise", "summarise_lesions"]

LESION_CLASSES: dict[str, tuple[float, float]] = {
    "all >= 10 mm": (10.0, np.inf),
    ">= 15 mm": (15.0, np.inf),
    "10 to 15 mm": (10.0, 15.0),
    "15 to 25 mm": (15.0, 25.0),
    ">= 25 mm": (25.0, np.inf),
}
"""Diameters of the classes that lesions are reported in, from and below [mm]."""


def summarise(rows: pd.DataFrame, *, measure: str = "psnr_full") -> pd.DataFrame:
    """Mean of one measure over subjects: a row per method in the order measured, a column per dose.

    Parameters
    ----------
    rows
        :attr:`Measurements.scans`, or lesions of it.
    measure
        Column to average; missing values are left out.
    """
    table = rows.pivot_table(
        index="method", columns="dose_reduction_factor", values=measure, aggfunc="mean", dropna=False
    )
    return table.reindex(rows["method"].unique())


def lesions_in_class(lesions: pd.DataFrame, *, diameter_from: float, diameter_below: float) -> pd.DataFrame:
    """Rows of :attr:`Measurements.lesions` with a diameter [mm] from one value and below another."""
    return lesions[(lesions["diameter_mm"] >= diameter_from) & (lesions["diameter_mm"] < diameter_below)]


def summarise_lesions(lesions: pd.DataFrame, *, quantity: str) -> dict[str, tuple[int, pd.DataFrame]]:
    """Mean error of ``suv_max``, ``suv_peak`` or ``suv_mean`` over the lesions of each class [%].

    Returns
    -------
    dict
        Class -> number of different lesions, and the table of :func:`summarise`. Classes without lesions are left out.
    """
    summaries = {}
    for name, (low, high) in LESION_CLASSES.items():
        members = lesions_in_class(lesions, diameter_from=low, diameter_below=high)
        if len(members):
            n_lesions = len(members[["subject", "region"]].drop_duplicates())
            summaries[name] = (n_lesions, summarise(members, measure=f"{quantity}_error_percent"))
    return summaries
