"""What the page says of the whole burden, and of the organ that PERCIST compares lesions with."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.images import ReferenceRegion
from pipeline.report.page import in_base64
from pipeline.report.scan.region_figures import region_figure, region_window

__all__ = ["burden_facts", "percist_facts"]


def burden_facts(burden: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of the burden table, the interval of a change as text, empty where there is none."""
    rows = burden.to_dict("records")
    for row in rows:
        for quantity, unit in (("tmtv", "_ml"), ("tlg", "")):
            low, high = (row[f"{quantity}_change_{end}{unit}"] for end in ("low", "high"))
            row[f"{quantity}_interval"] = f"{low:+.1f} to {high:+.1f}".replace("-", "−") if np.isfinite(low) else ""
    return rows


def percist_facts(
    references: Mapping[str, ReferenceRegion], images: Mapping[str, NDArray[np.floating]], voxel_size: Sequence[float]
) -> dict[str, Any]:
    """Return the reference of PERCIST by image, "after" and perhaps "before", and a figure of where it was measured.

    `images` are those of `region_figure`. There is no figure of numbers that somebody gave.
    """
    after = references["after"]
    figure = ""
    if after.voxels is not None:
        labels = np.zeros(next(iter(images.values())).shape, np.uint8)
        labels[tuple(after.voxels.T)] = 1
        window = region_window(after.suv_mean)
        (box,) = ndimage.find_objects(labels)
        drawn = region_figure(images, labels, region=1, box=box, voxel_size=voxel_size, suv_window=window)
        figure = in_base64(drawn)
    rows = [(name, references[name]) for name in ("before", "after") if name in references]
    return {"organ": after.organ, "measured_in": after.measured_in, "found": after.found, "rows": rows} | {
        "center": after.center,
        "figure": figure,
    }
