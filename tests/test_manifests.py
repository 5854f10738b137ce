"""The committed manifests: complete, readable, and in agreement with what training and evaluation use."""

import pytest
import yaml

from pipeline.data import Manifest
from pipeline.data.check import check_manifest
from pipeline.data.layouts import LAYOUTS
from pipeline.data.recipe import check_recipe

NAMES = ("autopet", "enhance_pet", "simulated_v1", "udpet")


@pytest.fixture
def recipe(repository):
    return Manifest.from_file(repository / "data_manifests" / "simulated_v1.yaml").recipe


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


def test_recipe_agrees_with_the_training_configuration(repository, recipe):
    train = yaml.safe_load((repository / "bundles" / "unipet_3d" / "configs" / "train.yaml").read_text())
    cohorts = {cohort.folder: cohort for cohort in recipe.cohorts}
    assert list(recipe.dose_reduction_factors) == train["dose_reduction_factors"]
    for name, configured in train["cohorts"].items():
        cohort = cohorts[configured["folder"].split("/")[-1].strip("'")]
        assert cohort.seed == configured["seed"]
        assert cohort.n_subjects == train["n_subjects"][name]
        assert cohort.n_lesions == (train["n_lesions"] if "n_lesions" in configured else None)


def test_no_simulated_patient_is_in_two_splits(recipe):
    check_recipe(recipe)
