"""The whole burden of a scan before and after denoising, and its change with what noise leaves open of it.

The change of TMTV and TLG is that from this scan to its denoised image. What it would be on average over repeats of the
scan is not known: the noise of this one scan is in the change. The interval is the change +- the spread that noise
gives it::

    repeats     t of Student x SD of the change over denoised repeats, see `pipeline.evaluation.half_width`
    counting    1.96 x root of the sum of (volume x SD of the measured SUVmean)^2 of all regions

The outlines are drawn anew in every repeat: on average they hold voxels that are hot by noise, and the change has that
in it. In outlines of one scan that are kept, other scans change less (``studies/burden_change.py``).

Counting knows means over fixed voxels only, and takes the noise of the denoised image for none, which makes intervals
wider. The volume that a threshold draws depends on noise voxel by voxel: of its change nothing but repeats can tell.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.evaluation import TOTAL_BURDEN, half_width, total_burden
from pipeline.images import Delineation, Regions, voxel_volume
from pipeline.trust.repeats import Repeats

__all__ = ["BURDEN_COLUMNS", "burden_changes", "burden_table"]

LEVEL = 0.95
"""Probability that intervals are stated at."""

_OPEN = "of what the change would be on average over repeats of the scan"
_CHANGES = {
    "tmtv_change_ml": "tmtv_ml less that of the image before; n/a for common outlines, whose volume is one [mL]",
    "tmtv_change_low_ml": f"lower end of the 95 % interval {_OPEN}; n/a without repeats, for nothing else tells what "
    "noise does to an outline [mL]",
    "tmtv_change_high_ml": "upper end of it [mL]",
    "tmtv_change_percent": "tmtv_change_ml in parts of the volume before [%]",
    "tlg_change": "tlg less that of the image before [g]",
    "tlg_change_low": f"lower end of the 95 % interval {_OPEN}; n/a for own outlines without repeats [g]",
    "tlg_change_high": "upper end of it [g]",
    "tlg_change_percent": "tlg_change in parts of the TLG before [%]",
    "interval_by": "repeats: spread of the change over denoised repeats; counting: the scan's own noise in fixed "
    "outlines; n/a: no interval can be given",
}

BURDEN_COLUMNS: dict[str, str] = (
    {
        "outlines": "common: the regions of the lesion table in every image; own: those that the same rule, with the "
        "same threshold, draws in each image alone",
        "image": "before denoising, after it, or the reference",
    }
    | {name: meaning for name, meaning in TOTAL_BURDEN.items() if name != "method"}
    | _CHANGES
    | {"method": TOTAL_BURDEN["method"]}
)
"""Meaning and unit of every column of `burden_table`, in order."""


def burden_changes(
    before: NDArray[np.floating],
    after: NDArray[np.floating],
    *,
    rule: Delineation | None,
    regions: Regions,
    voxel_size: Sequence[float],
) -> tuple[float, float, float]:
    """Return the changes of TMTV [mL] and of TLG [g] in own outlines, and of TLG in common ones, all drawn by the rule.

    Without a rule the common outlines are those of `regions`, and the first two are NaN. Images have one shape.
    """
    voxel = voxel_volume(voxel_size)
    if rule is None:
        volume = glycolysis = float("nan")
        common = regions.labels > 0
    else:
        inside = [rule.of(image).labels > 0 for image in (before, after)]
        first, second = (image[mask].sum(dtype=np.float64) for image, mask in zip((before, after), inside, strict=True))
        volume = (np.count_nonzero(inside[1]) - np.count_nonzero(inside[0])) * voxel
        glycolysis = float(second - first) * voxel
        common = rule.of_either(before, after).labels > 0
    return volume, glycolysis, float((after[common] - before[common]).sum(dtype=np.float64)) * voxel


def burden_table(
    images: Mapping[str, NDArray[np.floating]],
    regions: Regions,
    *,
    voxel_size: Sequence[float],
    own: Mapping[str, Regions] | None = None,
    tlg_sd: float | None = None,
    repeats: Repeats | None = None,
) -> pd.DataFrame:
    """Return one row for every image in common outlines, and one in its own, columns BURDEN_COLUMNS.

    Parameters
    ----------
    images
        SUV [g/mL] by name, shape (X, Y, Z): "before", "after", and perhaps others.
    regions
        Common to all of them.
    voxel_size
        Spacing along X, Y, Z [mm].
    own
        Regions of each image by its name; none if they were not drawn by a rule.
    tlg_sd
        Standard deviation that counting gives the TLG of all regions before denoising [g]; None if it is not known.
    repeats
        Of the scan, denoised, with `Repeats.changes` by `burden_changes`.
    """
    rows = []
    for outlines, drawn in (("common", dict.fromkeys(images, regions)), ("own", own or {})):
        of_image = {name: total_burden(images[name], found, voxel_size=voxel_size) for name, found in drawn.items()}
        for name, burden in of_image.items():
            row: dict[str, object] = dict.fromkeys(BURDEN_COLUMNS) | {"outlines": outlines, "image": name} | burden
            if name == "after":
                sd, by = _spread_of_change(outlines, tlg_sd, repeats)
                row |= _changes(of_image["before"], burden, outlines, sd) | {"interval_by": by}
            rows.append(row)
    table = pd.DataFrame(rows, columns=list(BURDEN_COLUMNS))
    texts = ("outlines", "image", "n_regions", "interval_by", "method")
    return table.astype({name: float for name in BURDEN_COLUMNS if name not in texts})


def _spread_of_change(
    outlines: str, tlg_sd: float | None, repeats: Repeats | None
) -> tuple[dict[str, float], str | None]:
    """Return half the width of the interval of the change of TMTV [mL] and TLG [g], and what says so."""
    if repeats is not None and repeats.changes is not None:
        spread = half_width(LEVEL, n_draws=len(repeats.changes)) * repeats.changes.std(axis=0, ddof=1)
        tmtv, own_tlg, common_tlg = spread.tolist()
        return ({"tmtv": tmtv, "tlg": own_tlg} if outlines == "own" else {"tlg": common_tlg}), "repeats"
    if outlines == "own" or tlg_sd is None:
        return {}, None
    return {"tlg": float(half_width(LEVEL)) * tlg_sd}, "counting"


def _changes(
    before: Mapping[str, float | str], after: Mapping[str, float | str], outlines: str, half: Mapping[str, float]
) -> dict[str, float]:
    """Return the columns of the changes that there are."""
    found = {}
    for quantity, unit in (("tmtv", "_ml"), ("tlg", "")):
        if quantity == "tmtv" and outlines == "common":
            continue
        old, new = (float(burden[f"{quantity}{unit}"]) for burden in (before, after))
        found[f"{quantity}_change{unit}"] = new - old
        found[f"{quantity}_change_percent"] = 100 * (new - old) / old if old else np.nan
        if quantity in half:
            found[f"{quantity}_change_low{unit}"] = new - old - half[quantity]
            found[f"{quantity}_change_high{unit}"] = new - old + half[quantity]
    return found
