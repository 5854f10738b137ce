"""From a manifest to a store that training reads: simulate what is missing, convert what is new."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from pipeline.data.manifest import Manifest
from pipeline.data.simulated import simulated_manifest
from pipeline.data.store.prepare import prepare_store
from pipeline.data.store.store import Store
from pipeline.errors import PETError

__all__ = ["prepared_store"]


def prepared_store(
    manifest: str | Path,
    store: str | Path,
    *,
    root: str | Path,
    jobs: int = 1,
    device: str | None = None,
    progress: Callable[[str, int, int], object] | None = None,
) -> Store:
    """Bring a store up to date with a manifest, and open what the manifest has of it.

    Subjects that an earlier manifest left there, or that this one excludes, stay on the disk and are not opened.

    Parameters
    ----------
    manifest
        YAML file: one with subjects, or a recipe, whose subjects are then simulated where they are missing.
    store
        Folder of the store.
    root
        Folder of the data that the manifest describes.
    jobs
        Subjects simulated, and converted, at once.
    device
        torch's name of the device that simulates, such as ``cuda``; None is numpy on the CPU.
    progress
        Called with what is done, ``simulating`` or ``preparing``, and the number of finished subjects and of all.

    Raises
    ------
    PETError
        If a subject cannot be simulated or converted: training on a part of a data set must be asked for, by
        excluding the rest.
    """
    described = Manifest.from_file(manifest)
    if described.recipe is not None:
        simulating = None if progress is None else partial(progress, "simulating")
        described = simulated_manifest(described, root, jobs=jobs, device=device, progress=simulating)
    preparing = None if progress is None else partial(progress, "preparing")
    done = prepare_store(described, store, root=root, jobs=jobs, progress=preparing)
    if failed := done.of_status("failed"):
        raise PETError(f"{store}: {failed[0].subject} cannot be prepared ({failed[0].reason}), {len(failed)} in all")
    return Store(store, subjects=[outcome.subject for outcome in done.outcomes])
