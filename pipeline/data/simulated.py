"""From a recipe to simulated data and its manifest, and from any manifest to the store that training reads."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from pipeline.data.building.build import build_manifest
from pipeline.data.manifest import Cohort, Manifest, Recipe, Split
from pipeline.data.store.prepare import prepare_store
from pipeline.data.store.store import Store
from pipeline.engine import Workers
from pipeline.errors import PETError, naming
from pipeline.simulation import check_dose_reduction_factors, scanner_preset, tracer_named
from pipeline.simulation.cohort import CohortRequest, simulate_cohorts, subject_seed

__all__ = ["check_recipe", "described_data", "prepared_store", "simulated_manifest"]


def check_recipe(recipe: Recipe) -> None:
    """Check that a recipe can be followed, and that no patient is in two of its splits.

    Raises
    ------
    PETError
        If cohorts share a folder, a patient's seed is in two splits, a scanner or tracer does not exist, or the dose
        reduction factors are not different, rising, above 1 and up to what can be simulated.
    """
    folders = [cohort.folder for cohort in recipe.cohorts]
    if twice := sorted({folder for folder in folders if folders.count(folder) > 1}):
        raise PETError(f"cohorts share the folder {', '.join(twice)}, expected one for each")
    splits: dict[int, set[str]] = defaultdict(set)
    for cohort in recipe.cohorts:
        scanner_preset(cohort.scanner)
        tracer_named(cohort.tracer)
        with naming(f"cohort {cohort.folder}"):
            _check_doses(cohort.dose_reduction_factors or recipe.dose_reduction_factors)
        for index in range(cohort.n_subjects):
            splits[subject_seed(cohort.seed, index)].add(cohort.split)
    if leaks := [names for names in splits.values() if len(names) > 1]:
        raise PETError(f"{len(leaks)} simulated patients are in {' and '.join(sorted(leaks[0]))}, expected other seeds")


def _check_doses(factors: tuple[float, ...]) -> None:
    if not factors:
        raise PETError("has no dose reduction factor, expected at least one above 1")
    if check_dose_reduction_factors(factors) != factors:
        raise PETError(f"dose reduction factors {factors} do not rise, expected the smallest first")


def simulated_manifest(
    recipe: Manifest,
    folder: str | Path,
    *,
    jobs: Workers | int = 1,
    checksums: bool = False,
    device: str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Manifest:
    """Simulate what is missing of a recipe's cohorts, and describe all of them.

    `recipe` is a manifest with a recipe, such as ``data_manifests/simulated_v2.yaml``. Each cohort goes into a folder
    of its own below `folder`; subjects that are there are kept, and other subjects are left out of the result, which
    has the recipe's own splits. `jobs` is the number of subjects simulated at once, and `device` torch's name of what
    projects them, such as ``cuda``; None is numpy on the CPU. `checksums` records the SHA-256 of every file. `progress`
    is called with the number of finished subjects and of all, also for those that are there already.

    Raises
    ------
    PETError
        If there is no recipe, it cannot be followed, or a subject is there that was made with other parameters.
    """
    if recipe.recipe is None:
        raise PETError(f"{recipe.name}: is of layout {recipe.layout} and has no recipe, expected simulated data")
    check_recipe(recipe.recipe)
    folder = Path(folder)
    cohorts = recipe.recipe.cohorts
    made = simulate_cohorts(
        [
            CohortRequest(
                folder / cohort.folder,
                n_subjects=cohort.n_subjects,
                seed=cohort.seed,
                scanner=scanner_preset(cohort.scanner),
                tracer=tracer_named(cohort.tracer),
                dose_reduction_factors=cohort.dose_reduction_factors or recipe.recipe.dose_reduction_factors,
                dose_mode=recipe.recipe.dose_mode,
                n_lesions=cohort.n_lesions,
                axial_extent=cohort.axial_extent,
                references=cohort.references,
            )
            for cohort in cohorts
        ],
        jobs=jobs,
        device=device,
        progress=progress,
    )
    splits = {
        f"{cohort.folder}_{subject.name}": cohort.split
        for cohort, subjects in zip(cohorts, made, strict=True)
        for subject in subjects
    }
    found = build_manifest("simulated", folder, recipe=recipe, checksums=checksums)
    subjects = tuple(s.model_copy(update={"split": splits[s.id]}) for s in found.subjects if s.id in splits)
    if len(subjects) != len(splits):
        broken = next((e for e in found.exclusions if e.subject in splits), None)
        what = "" if broken is None else f": {broken.subject}, {broken.reason}"
        raise PETError(f"{folder}: {len(subjects)} of {len(splits)} simulated subjects are usable{what}")
    exclusions = tuple(exclusion for exclusion in found.exclusions if exclusion.subject in splits)
    return found.model_copy(update={"subjects": subjects, "split_rule": None, "exclusions": exclusions})


def described_data(
    source: str | Path,
    *,
    root: str | Path | None = None,
    simulated_root: str | Path | None = None,
    split: Split | None = None,
    cohorts: Mapping[str, int] | None = None,
    jobs: Workers | int = 1,
    device: str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> tuple[Manifest, Path]:
    """Return the manifest of a data set with its subjects, and the folder that its paths are relative to.

    `source` is a YAML manifest; a recipe, whose subjects are simulated where they are missing; or a folder of simulated
    subjects. `root` is the folder of the data, by default that of the manifest, or `simulated_root` for a recipe, which
    needs one of the two. Only the cohorts of `split` are simulated, or all if it is None. `cohorts` takes a part of a
    recipe: the folders of cohorts, and how many subjects of each, the first ones. The other arguments are those of
    `simulated_manifest`.

    Raises
    ------
    PETError
        If there is no such file or folder, a recipe has no root, a simulated subject of a folder is broken, or a cohort
        does not exist or is smaller.
    """
    source = Path(source)
    if source.is_dir():
        found = build_manifest("simulated", source)
        if found.exclusions:
            raise PETError(f"{source}: {found.exclusions[0].subject}: {found.exclusions[0].reason}")
        return _whole(found, source, cohorts), source
    if not source.exists():
        raise PETError(f"{source}: no such file or folder, expected a manifest or a folder of simulated subjects")
    described = Manifest.from_file(source)
    if described.recipe is None or described.subjects:
        return _whole(described, source, cohorts), source.absolute().parent if root is None else Path(root)
    root = simulated_root if root is None else root
    if root is None:
        raise PETError(f"{source}: is a recipe, expected --root with the folder to simulate its subjects in")
    chosen = tuple(cohort for cohort in described.recipe.cohorts if split in (None, cohort.split))
    if not chosen:
        raise PETError(f"{source}: has no cohort of split {split}, expected at least one")
    if cohorts is not None:
        with naming(source):
            chosen = _part_of(chosen, cohorts)
    described = described.model_copy(update={"recipe": described.recipe.model_copy(update={"cohorts": chosen})})
    return simulated_manifest(described, root, jobs=jobs, device=device, progress=progress), Path(root)


def _whole(described: Manifest, source: Path, cohorts: Mapping[str, int] | None) -> Manifest:
    if cohorts is not None:
        raise PETError(f"{source}: is no recipe, expected one to take cohorts of")
    return described


def _part_of(cohorts: tuple[Cohort, ...], sizes: Mapping[str, int]) -> tuple[Cohort, ...]:
    """Return the cohorts of these folders, each with as many subjects as are asked for, in the order asked for."""
    known = {cohort.folder: cohort for cohort in cohorts}
    if absent := [folder for folder in sizes if folder not in known]:
        raise PETError(f"has no cohort {absent[0]}, expected one of {', '.join(known)}")
    for folder, size in sizes.items():
        if not 1 <= size <= known[folder].n_subjects:
            raise PETError(f"{size} subjects of cohort {folder}, expected 1 to {known[folder].n_subjects}")
    return tuple(known[folder].model_copy(update={"n_subjects": size}) for folder, size in sizes.items())


def prepared_store(
    manifest: str | Path,
    store: str | Path,
    *,
    root: str | Path,
    jobs: int = 1,
    device: str | None = None,
    progress: Callable[[str, int, int], object] | None = None,
) -> Store:
    """Bring a store up to date with a manifest or a recipe, and open what the manifest has of it.

    Subjects that an earlier manifest left there, or that this one excludes, stay on the disk and are not opened.
    Arguments are those of `described_data`; `progress` is also told what is done, ``simulating`` or ``preparing``.

    Raises
    ------
    PETError
        If a subject cannot be simulated or converted: training on a part of a data set must be asked for, by
        excluding the rest.
    """
    simulating = None if progress is None else partial(progress, "simulating")
    described, _ = described_data(manifest, root=root, jobs=jobs, device=device, progress=simulating)
    preparing = None if progress is None else partial(progress, "preparing")
    done = prepare_store(described, store, root=root, jobs=jobs, progress=preparing)
    if failed := done.of_status("failed"):
        raise PETError(f"{store}: {failed[0].subject} cannot be prepared ({failed[0].reason}), {len(failed)} in all")
    return Store(store, subjects=[outcome.subject for outcome in done.outcomes])
