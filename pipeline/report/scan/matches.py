"""What the page says of lesions that are kept, lost or new."""

from typing import Any

import pandas as pd

from pipeline.evaluation import MATCHING_RULE, PUBLISHED_CONCORDANCE, READING_RULE, compared_images, match_counts

__all__ = ["match_facts", "status_of_regions"]

MOST_ROWS = 20
"""Lost and new lesions that are listed; the others are in their file."""


def match_facts(matches: pd.DataFrame, lesions: pd.DataFrame, *, has_reference: bool) -> dict[str, Any]:
    """Return the counts of each comparison, and the lesions that are lost or new, hottest first.

    `matches` are rows of `pipeline.evaluation.matches_of_images`, and `lesions` of the lesion table, perhaps with what
    trust adds to it.
    """
    comparisons = []
    for image, against in compared_images(has_reference=has_reference):
        counts = match_counts(matches[(matches["image"] == image) & (matches["against"] == against)])
        comparisons.append({"image": image, "against": against, "counts": counts})
    changed = matches[(matches["image"] == "after") & (matches["match"] != "kept")]
    heat = changed[["suv_peak_against", "suv_peak_image"]].max(axis=1)
    # Against the scan itself first: that comparison is in every report.
    order = changed.assign(heat=heat).sort_values(["against", "heat"], ascending=[True, False], kind="stable")
    support = {} if "support" not in lesions else dict(zip(lesions["region"], lesions["support"], strict=True))
    rows = []
    for row in order.head(MOST_ROWS).to_dict("records"):
        regions = _numbers(row["region"])
        said = [support[number] for number in regions if isinstance(support.get(number), str)]
        rows.append(row | {"regions": ", ".join(map(str, regions)), "support": ", ".join(dict.fromkeys(said))})
    return {
        "comparisons": comparisons,
        "changed": rows,
        "n_changed": len(changed),
        "has_reference": has_reference,
        "has_support": bool(support),
        "rule": MATCHING_RULE,
        "seen_rule": READING_RULE,
        "published": PUBLISHED_CONCORDANCE,
    }


def status_of_regions(matches: pd.DataFrame) -> dict[int, str]:
    """Return what became of the lesions in each region of the lesion table from before to after: kept, lost or new."""
    found: dict[int, list[str]] = {}
    for row in matches[(matches["image"] == "after") & (matches["against"] == "before")].to_dict("records"):
        for number in _numbers(row["region"]):
            found.setdefault(number, []).append(row["match"])
    return {number: ", ".join(dict.fromkeys(statuses)) for number, statuses in found.items()}


def _numbers(text: object) -> list[int]:
    return [int(number) for number in text.split(", ")] if isinstance(text, str) else []
