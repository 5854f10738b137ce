"""The recipe of the data agrees with what training and evaluation use, and keeps subjects apart."""

import yaml

from pipeline.simulation import scanner_preset
from pipeline.simulation.cohort import subject_seed


def test_recipe_agrees_with_the_training_configuration(repository):
    recipe = yaml.safe_load((repository / "data_manifests" / "simulated_v1.yaml").read_text())
    train = yaml.safe_load((repository / "bundles" / "unipet_3d" / "configs" / "train.yaml").read_text())
    cohorts = {cohort["folder"]: cohort for cohort in recipe["cohorts"]}
    assert recipe["dose_reduction_factors"] == train["dose_reduction_factors"]
    for name, configured in train["cohorts"].items():
        cohort = cohorts[configured["folder"].split("/")[-1].strip("'")]
        assert cohort["seed"] == configured["seed"]
        assert cohort["n_subjects"] == train["n_subjects"][name]
        assert cohort["n_lesions"] == (train["n_lesions"] if "n_lesions" in configured else None)
        assert scanner_preset(cohort["scanner"]).name == cohort["scanner"]


def test_no_subject_is_in_two_cohorts(repository):
    recipe = yaml.safe_load((repository / "data_manifests" / "simulated_v1.yaml").read_text())
    seeds = [subject_seed(c["seed"], k) for c in recipe["cohorts"] for k in range(c["n_subjects"])]
    assert len(seeds) == len(set(seeds))
