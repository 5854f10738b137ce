"""What the training of weights has cost: patches, epochs and hours, from the folder that the training wrote."""

from pathlib import Path
from typing import Any

from pipeline.files import read_yaml
from pipeline.training.progress import progress_rows

__all__ = ["budget_of"]


def budget_of(folder: Path) -> dict[str, Any]:
    """Return what the training in a folder has done so far; what its files do not say is left out.

    ``hours`` are those of the epochs, validation left out; ``epochs`` and ``n_patches`` are sums over the stages, and a
    patch counts as often as it was seen; ``seed`` and ``batch_size`` are what the training was told.
    """
    seconds = {(row.stage, row.epoch): row.seconds for row in progress_rows(folder / "progress.tsv")}
    found: dict[str, Any] = {}
    if seconds:
        found = {"epochs": len(seconds), "hours": sum(seconds.values()) / 3600}
    path = folder / "config.yaml"
    told = read_yaml(path) if path.is_file() else {}
    if isinstance(told, dict):
        if isinstance(told.get("n_patches"), int) and seconds:
            found["n_patches"] = told["n_patches"] * len(seconds)
        found |= {key: told[key] for key in ("seed", "batch_size") if isinstance(told.get(key), int)}
    return found
