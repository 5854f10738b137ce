"""The benchmark's training fits on top of every method, gives each the same budget, and keeps one set of patches."""

from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from pipeline.pet import PETError
from pipeline.shipped import method_files
from pipeline.training import checked_config

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "unipet_3d"
CONFIGS = BUNDLE / "configs"
METHODS = sorted(path.stem for path in (CONFIGS / "methods").glob("*.yaml") if path.stem != "identity")


def config_of(method: str, **settings) -> ConfigParser:
    files = [*method_files(BUNDLE, method), CONFIGS / "benchmark_training.yaml"]
    stated = [("bundle_root", str(BUNDLE)), ("method", method), *settings.items()]
    return ConfigParser(checked_config(CONFIGS / "train.yaml", files, stated))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_the_same_budget(method):
    config = config_of(method)
    stages = [reference[1:].partition("#")[0] for reference in config["stages"]]
    epochs = sum(config.get_parsed_content(f"{stage}#max_epochs") for stage in stages)
    batch, n_patches, doses = (config.get_parsed_content(key) for key in ("batch_size", "n_patches", "doses"))
    assert n_patches % batch == 0
    assert epochs * n_patches == 25_000 * len(doses or [None])
    # Two stages read the epochs of the patches once, in order.
    assert epochs == config["patches"]["dataset"]["epochs"] * len(doses or [None])


def test_seeds_of_a_method_share_the_patches():
    for seed in (0, 7):
        config = config_of("unet", seed=seed)
        assert config.get_parsed_content("patches#drawn#seed") == 0
        assert "@seed" in config["plain"]["trainer"]["train_data_loader"]


def test_a_file_for_several_methods_may_set_stages_that_one_of_them_lacks(tmp_path):
    both, other = tmp_path / "both.yaml", tmp_path / "other.yaml"
    both.write_text("plain#max_epochs: 3\npretrain#max_epochs: 2\n")
    other.write_text("pretrain#max_epochs: 2\n")
    files = method_files(BUNDLE, "unet")
    settings = [("bundle_root", str(BUNDLE)), ("method", "unet")]
    assert checked_config(CONFIGS / "train.yaml", [*files, both], settings)["plain"]["max_epochs"] == 3
    with pytest.raises(PETError, match=r"other.yaml: pretrain#max_epochs is of a stage that this method does not run"):
        checked_config(CONFIGS / "train.yaml", [*files, other], settings)
