"""What the page says of the body, of its regions together, and of how far the result may be believed."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.evaluation import body_change
from pipeline.images.regions import BODY_THRESHOLD
from pipeline.trust import ScanTrust

__all__ = ["body_facts", "region_facts", "trust_facts"]

_ONE_SIDED = ("before only", "after only")
DOSE = "dose, relative to one that gives the liver a coefficient of variation of 10 %"
"""What a dose that is read means."""
MOST_CHANGES = 20
"""Rows of the table of changes; the others are in its file."""


def body_facts(
    before: NDArray[np.floating], after: NDArray[np.floating], body: NDArray[np.bool_]
) -> dict[str, float | str]:
    """Return mean and noise of the body in both images; what is not defined is NaN, and ``undefined`` says why."""
    facts, undefined = body_change(before, after, body=body)
    if not body.any():
        undefined += f", expected SUV of {BODY_THRESHOLD:g} or more"
    return {**facts, "undefined": undefined}


def region_facts(lesions: pd.DataFrame) -> dict[str, object]:
    """Return how many regions are in both images and in one, the median change of SUVpeak, and how they were drawn."""
    found_in = lesions["found_in"]
    return {
        "n_in_both": int((found_in == "both").sum()),
        "n_in_one": int(found_in.isin(_ONE_SIDED).sum()),
        "peak_change": None if lesions.empty else float(lesions["suv_peak_change_percent"].median()),
        # A table without rows still names its method if it comes from lesion_table.
        "method": lesions.attrs.get("method", "") if lesions.empty else lesions["method"].iloc[0],
    }


def trust_facts(trust: ScanTrust) -> dict[str, object]:
    """Return what is said of the scan: lines, the domain, what is not stated, and the most significant changes."""
    changes = trust.evidence.regions
    return {
        "lines": [
            f"{DOSE}: the scan {trust.domain.dose_statement}" if trust.domain.dose else trust.domain.dose_statement,
            trust.evidence.statement,
            trust.spots.statement,
            str(trust.conservation),
        ],
        "domain": trust.domain.rows,
        "not_stated": trust.not_stated,
        "changes": changes.head(MOST_CHANGES).to_dict("records"),
        "n_changes": len(changes),
        "spots_rule": trust.spots.rule,
    }
