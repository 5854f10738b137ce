"""`unipet bundle`: where the bundle lies, and a copy of it."""

from pathlib import Path

from pipeline.inference import Denoiser, method_names
from pipeline.shipped import own_bundle, work_folder


def test_path_is_that_of_the_bundle(unipet, repository):
    done = unipet("bundle", "path")
    assert (done.returncode, done.stdout) == (0, f"{repository / 'bundles' / 'unipet_3d'}\n")


def test_a_copy_is_a_bundle_of_its_own(unipet, tmp_path):
    copy = tmp_path / "mine"
    assert unipet("bundle", "copy", copy).returncode == 0
    assert sorted(path.name for path in copy.iterdir()) == ["LICENSE", "configs", "docs", "models"]
    assert method_names(copy) == method_names(own_bundle())
    assert Denoiser.from_bundle(copy).weights_sha256 == Denoiser.from_bundle().weights_sha256
    assert unipet("bundle", "copy", copy).returncode == 1


def test_data_and_results_lie_in_the_bundle_but_for_an_installed_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert work_folder("some/bundle") == str(tmp_path / "some" / "bundle")
    monkeypatch.setattr("pipeline.shipped._PACKAGE", Path("/site/pipeline"))
    assert work_folder("/site/pipeline/bundle") == str(tmp_path)
