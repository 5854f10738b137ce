"""The committed manifests: complete, readable, and in agreement with what training and evaluation use."""

import re
from typing import get_args

import pytest
import yaml

from pipeline.data import Manifest, own_manifest
from pipeline.data.checking.check import check_manifest
from pipeline.data.layouts import LAYOUTS
from pipeline.data.manifest import Split
from pipeline.data.simulated import check_recipe
from pipeline.pet import PETError
from pipeline.simulation import tracer_named
from pipeline.simulation.cohort import subject_seed
from pipeline.simulation.scanner.unfiltered import UNFILTERED

NAMES = ("autopet", "benchmark_unseen", "enhance_pet", "simulated_v2", "trust", "udpet")


@pytest.fixture
def recipe(repository):
    return Manifest.from_file(repository / "data_manifests" / "simulated_v2.yaml").recipe


@pytest.fixture
def unseen(repository):
    return Manifest.from_file(repository / "data_manifests" / "benchmark_unseen.yaml").recipe


@pytest.fixture
def trust(repository):
    return Manifest.from_file(repository / "data_manifests" / "trust.yaml").recipe


def test_every_manifest_is_tested(repository):
    assert tuple(sorted(path.stem for path in (repository / "data_manifests").glob("*.yaml"))) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_manifest_says_what_it_must(repository, name):
    manifest = Manifest.from_file(repository / "data_manifests" / f"{name}.yaml")
    assert manifest.name == name
    assert manifest.layout in LAYOUTS
    assert not manifest.subjects
    assert check_manifest(manifest, repository) == []
    assert name in (repository / "data_manifests" / "README.md").read_text()


@pytest.mark.parametrize("name", ["autopet", "enhance_pet"])
def test_non_commercial_parts_are_not_called_commercial(repository, name):
    licence = Manifest.from_file(repository / "data_manifests" / f"{name}.yaml").licence
    assert "CC BY-NC" in licence.name
    assert not licence.commercial_use
    assert "weights" in licence.allows


def test_training_uses_the_recipe_that_is_committed(repository, recipe):
    train = yaml.safe_load((repository / "bundles" / "unipet_3d" / "configs" / "train.yaml").read_text())
    name = re.fullmatch(r"\$pipeline\.data\.own_manifest\('(\w+)'\)", train["manifest"])[1]
    assert own_manifest(name) == str(repository / "data_manifests" / f"{name}.yaml")
    assert {cohort.split for cohort in recipe.cohorts} == {"train", "validation", "test"}
    low, high = train["patches"]["drawn"]["dose_range"]
    assert high == max(recipe.dose_reduction_factors)
    assert 1 < low <= min(recipe.dose_reduction_factors)


def test_no_scanner_of_validation_or_test_is_in_training(recipe):
    scanners = {split: {c.scanner for c in recipe.cohorts if c.split == split} for split in get_args(Split)}
    assert scanners["train"] == {scanner.name for scanner in UNFILTERED}
    assert not scanners["validation"] & scanners["test"]
    assert not (scanners["validation"] | scanners["test"]) & scanners["train"]
    assert all(cohort.references for cohort in recipe.cohorts if cohort.split != "train")


def test_an_unknown_manifest_is_refused():
    with pytest.raises(PETError, match=r"no manifest is called 'udpet2', expected one of autopet, .*udpet"):
        own_manifest("udpet2")


def test_no_simulated_patient_is_in_two_splits(recipe):
    check_recipe(recipe)


def test_unseen_conditions_are_unseen(recipe, unseen):
    check_recipe(unseen)
    training = [cohort for cohort in recipe.cohorts if cohort.split == "train"]
    of_test = {cohort.scanner for cohort in recipe.cohorts if cohort.split == "test"}
    assert {cohort.split for cohort in unseen.cohorts} == {"test"}
    new_scanners = {cohort.scanner for cohort in unseen.cohorts} - of_test
    assert len(new_scanners) == 1
    assert not new_scanners & {cohort.scanner for cohort in recipe.cohorts}
    new_tracers = {tracer_named(cohort.tracer).name for cohort in unseen.cohorts} - {"FDG"}
    assert len(new_tracers) == 2
    assert not new_tracers & {tracer_named(cohort.tracer).name for cohort in training}
    new_doses = {factor for cohort in unseen.cohorts for factor in cohort.dose_reduction_factors or ()}
    assert new_doses == {3, 7, 30, 200}
    assert not new_doses & set(recipe.dose_reduction_factors)
    for cohort in unseen.cohorts:
        differs = (cohort.scanner in new_scanners, cohort.tracer != "FDG", cohort.dose_reduction_factors is not None)
        assert sum(differs) == 1, f"{cohort.folder}: one thing is unseen at a time"


def test_the_recipe_of_trust_keeps_the_presets_of_each_split_and_judges_on_enough(recipe, trust):
    check_recipe(trust)
    for split in ("validation", "test"):
        scanners, known = ({c.scanner for c in r.cohorts if c.split == split} for r in (trust, recipe))
        assert scanners <= known
    judged = [cohort for cohort in trust.cohorts if cohort.split == "test"]
    assert sum(cohort.n_subjects for cohort in judged) >= 12
    assert len({cohort.scanner for cohort in judged}) >= 5
    assert len({cohort.tracer for cohort in judged}) >= 2


def test_no_patient_is_in_two_recipes(recipe, unseen, trust):
    recipes = (recipe, unseen, trust)
    patients = [{subject_seed(c.seed, i) for c in r.cohorts for i in range(c.n_subjects)} for r in recipes]
    assert len(set.union(*patients)) == sum(len(of) for of in patients)
