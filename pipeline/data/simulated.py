"""Make the simulated data that a recipe describes, and its manifest."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from pipeline.data.building.build import build_manifest
from pipeline.data.manifest import Manifest, Recipe
from pipeline.errors import PETError
from pipeline.simulation import scanner_preset, simulate_cohort, tracer_named
from pipeline.simulation.cohort import subject_seed

__all__ = ["check_recipe", "simulated_manifest"]


def check_recipe(recipe: Recipe) -> None:
    """Check that a recipe can be followed, and that no patient is in two of its splits.

    Raises
    ------
    PETError
        If cohorts share a folder, a patient's seed is in two splits, or a scanner or tracer does not exist.
    """
    folders = [cohort.folder for cohort in recipe.cohorts]
    if twice := sorted({folder for folder in folders if folders.count(folder) > 1}):
        raise PETError(f"cohorts share the folder {', '.join(twice)}, expected one for each")
    splits: dict[int, set[str]] = defaultdict(set)
    for cohort in recipe.cohorts:
        scanner_preset(cohort.scanner)
        tracer_named(cohort.tracer)
        for index in range(cohort.n_subjects):
            splits[subject_seed(cohort.seed, index)].add(cohort.split)
    if leaks := [names for names in splits.values() if len(names) > 1]:
        raise PETError(f"{len(leaks)} simulated patients are in {' and '.join(sorted(leaks[0]))}, expected other seeds")


def simulated_manifest(
    recipe: Manifest,
    folder: str | Path,
    *,
    jobs: int = 1,
    checksums: bool = False,
    device: str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Manifest:
    """Simulate what is missing of a recipe's cohorts, and describe all of them.

    Parameters
    ----------
    recipe
        Manifest with a recipe, such as ``data_manifests/simulated_v1.yaml``.
    folder
        Where the cohorts go, each into a folder of its own; subjects that are there are kept.
    jobs
        Subjects simulated at once.
    checksums
        Also record the SHA-256 of every file.
    device
        torch's name of the device that projects, such as ``cuda``; None is numpy on the CPU.
    progress
        Called with the number of finished subjects and of all, also for those that are there already.

    Returns
    -------
    Manifest
        The recipe with its subjects, whose splits are those of the recipe. Other subjects in the folder are left out.

    Raises
    ------
    PETError
        If there is no recipe, it cannot be followed, or a subject is there that was made with other parameters.
    """
    if recipe.recipe is None:
        raise PETError(f"{recipe.name}: is of layout {recipe.layout} and has no recipe, expected simulated data")
    check_recipe(recipe.recipe)
    folder = Path(folder)
    n_all = sum(cohort.n_subjects for cohort in recipe.recipe.cohorts)
    n_before = 0
    splits = {}
    for cohort in recipe.recipe.cohorts:

        def advance(n_done: int, _: int, n_before: int = n_before) -> None:
            if progress is not None:
                progress(n_before + n_done, n_all)

        made = simulate_cohort(
            folder / cohort.folder,
            n_subjects=cohort.n_subjects,
            seed=cohort.seed,
            scanner=scanner_preset(cohort.scanner),
            tracer=tracer_named(cohort.tracer),
            dose_reduction_factors=recipe.recipe.dose_reduction_factors,
            dose_mode=recipe.recipe.dose_mode,
            n_lesions=cohort.n_lesions,
            jobs=jobs,
            device=device,
            progress=advance,
        )
        splits.update({f"{cohort.folder}_{subject.name}": cohort.split for subject in made})
        n_before += cohort.n_subjects
    found = build_manifest("simulated", folder, recipe=recipe, checksums=checksums)
    subjects = tuple(s.model_copy(update={"split": splits[s.id]}) for s in found.subjects if s.id in splits)
    if len(subjects) != n_all:
        broken = next((e for e in found.exclusions if e.subject in splits), None)
        what = "" if broken is None else f": {broken.subject}, {broken.reason}"
        raise PETError(f"{folder}: {len(subjects)} of {n_all} simulated subjects are usable{what}")
    exclusions = tuple(exclusion for exclusion in found.exclusions if exclusion.subject in splits)
    return found.model_copy(update={"subjects": subjects, "split_rule": None, "exclusions": exclusions})
