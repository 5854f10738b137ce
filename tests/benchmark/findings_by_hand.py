"""Stored results with figures that can be computed by hand."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.benchmark.definition import Definition
from pipeline.benchmark.reporting.findings import Findings
from pipeline.benchmark.results import Stored

FACTORS = (4.0, 20.0)
N_SUBJECTS = 3


def row_of(name: str, **changes: Any) -> dict[str, Any]:
    """What is stored of a row of the benchmark."""
    entry, _, seed = name.partition("_seed")
    kind = "input" if name == "input" else "network"
    row = {"name": name, "entry": entry, "label": name, "kind": kind, "seed": int(seed or 0), "dose": "", "facts": {}}
    return row | changes


def images_of(
    name: str, gains: Sequence[float], *, error: float = 10.0, part: str = "images", condition: str = "held_out"
) -> Stored:
    """Result on three subjects: PSNR 40 dB, 10 less at DRF 20, plus the gain of each subject; one lesion of 12 mm."""
    scans, lesions = [], []
    for subject, gain in enumerate(gains):
        for factor in FACTORS:
            psnr = (40.0 if factor == 4 else 30.0) + gain
            which = {"condition": condition, "truth": "noise_free", "regions": "lesions", "subject": f"s{subject}"}
            which["dose_reduction_factor"] = factor
            counts = {"n_lesions": 20, "n_lesions_full": 10, "n_lesions_seen": 9, "n_lesions_both": 8}
            counts |= {"n_spots_full": 5, "n_spots_seen": 6, "n_spots_both": 4}
            figures = {"psnr_noise_free": psnr, "psnr_full": psnr - 1, "local_variance_ratio_full": 0.5}
            scans.append({**which, "scanner": "A", **figures, **counts})
            lesions.append({**which, "region": 1, "diameter_mm": 12.0, "suv_mean_error_percent": -error})
            lesions.append({**which, "region": 2, "diameter_mm": 8.0, "suv_mean_error_percent": -90.0})
    return Stored(part, row_of(name), {"version": "1", "n_cores": 2}, {"scans": scans, "lesions": lesions})


def definition_of(methods: Sequence[str], **changes: Any) -> Definition:
    """A definition with methods of given names, of which "unipet" is the reference."""
    entries: Mapping[str, Any] = {name: {"weights": "none"} for name in methods}
    content = {"title": "By hand", "filters": [], "methods": entries, "images": {"held_out": {"manifest": "m"}}}
    return Definition.model_validate(content | changes)


def findings_of(*results: Stored) -> Findings:
    """Findings of results of any methods, and a definition that names them."""
    names = [str(stored.row["entry"]) for stored in results if stored.row["kind"] == "network"]
    return Findings(definition_of(list(dict.fromkeys(["unipet", *names]))), results)
