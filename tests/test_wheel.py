"""The wheel, installed away from any checkout: it holds its bundle, runs from there, and writes nothing into itself."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

TINY = {
    "n_patches": 4,
    "network_def#channels": 8,
    "network_def#n_blocks": 4,
    "pretrain#max_epochs": 1,
    "train#max_epochs": 1,
    "train#trainer#critic_warmup": 1,
}


@pytest.fixture(scope="module")
def sdist(repository, tmp_path_factory) -> Path:
    """The source distribution, built from a copy, so that the checkout gets no build folder."""
    folder = tmp_path_factory.mktemp("sdist")
    source = folder / "source"
    made = (".*", "*.egg-info", "build", "dist", "__pycache__", "demo", "gpu")
    simulated = {str(repository / "bundles" / "unipet_3d"): ["data", "runs", "eval"]}

    def ignored(path: str, names: list[str]) -> set[str]:
        return {*shutil.ignore_patterns(*made)(path, names), *simulated.get(path, ())}

    shutil.copytree(repository, source, ignore=ignored)
    build = f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"
    built = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return next(folder.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory) -> Path:
    """The wheel, built from the source distribution."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps", "--no-build-isolation"]
    built = subprocess.run(
        [*pip, "-w", folder, sdist], cwd=folder, capture_output=True, text=True, check=False, env=_environment()
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return next(folder.glob("*.whl"))


def _environment(site: Path | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "COLUMNS")}
    kept |= {"PYTHONDONTWRITEBYTECODE": "1"}
    return kept if site is None else kept | {"PYTHONPATH": str(site)}


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> Path:
    """The wheel's content in a folder of its own, as `pip install --target` leaves it."""
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-compile", "--target", folder, wheel], check=True, env=_environment())
    return folder


@pytest.fixture
def run(site, tmp_path):
    """Run a command in an empty folder; the installation is the same before and after."""

    def content() -> dict[str, int]:
        return {str(path.relative_to(site)): path.stat().st_mtime_ns for path in sorted(site.rglob("*"))}

    def command(*arguments: object) -> str:
        before = content()
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=tmp_path,
            env=_environment(site),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert content() == before
        return done.stdout

    return command


@pytest.fixture
def scan(tiny_cohort) -> Path:
    return tiny_cohort[0] / "pet" / "sub-0001_rec-drf020_pet.nii.gz"


def test_sdist_holds_the_checkout(sdist, repository):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    expected = {"Makefile", "constraints.txt", "CONTRIBUTING.md", "CITATION.cff", "docs/suv.md", "tests/conftest.py"}
    for folder in ("bundles/unipet_3d/configs", "data_manifests", "docs", "notebooks", "pipeline", "studies", "tests"):
        found = (path for path in (repository / folder).rglob("*") if path.is_file())
        expected |= {str(path.relative_to(repository)) for path in found if "__pycache__" not in path.parts}
    assert expected <= names


def test_wheel_holds_what_the_bundle_and_the_manifests_hold(wheel, repository):
    names = set(zipfile.ZipFile(wheel).namelist())
    bundle = repository / "bundles" / "unipet_3d"
    expected = {"pipeline/bundle/LICENSE", "pipeline/bundle/models/model.pt"}
    for part, pattern in (("configs", "*.*"), ("docs", "*.md")):
        expected |= {f"pipeline/bundle/{path.relative_to(bundle)}" for path in (bundle / part).rglob(pattern)}
    expected |= {f"pipeline/data_manifests/{path.name}" for path in (repository / "data_manifests").glob("*.yaml")}
    expected |= {str(path.relative_to(repository)) for path in (repository / "pipeline").rglob("*.py")}
    expected |= {str(path.relative_to(repository)) for path in (repository / "pipeline" / "report").rglob("*.html")}
    expected |= {f"pipeline/report/niivue/{name}" for name in ("niivue.umd.js", "LICENSE")}
    assert expected <= names
    assert not [name for name in names if name.startswith(("tests", "pipeline/bundle/data", "pipeline/bundle/runs"))]


@pytest.mark.slow
def test_installed_command_denoises(run, site, scan, tmp_path):
    run(site / "bin" / "unipet", "denoise", scan, tmp_path / "out")
    assert (tmp_path / "out" / "report.html").is_file()


@pytest.mark.slow
def test_documented_path_of_the_bundle_is_run_by_monai(run, site, scan, tmp_path):
    folder = Path(run(site / "bin" / "unipet", "bundle", "path").strip())
    assert folder == site / "pipeline" / "bundle"
    config = folder / "configs" / "inference.yaml"
    (tmp_path / "in").mkdir()
    for path in (scan, scan.with_name(scan.name.replace(".nii.gz", ".json"))):
        shutil.copy(path, tmp_path / "in")
    arguments = ("--dataset_dir", tmp_path / "in", "--output_dir", tmp_path / "out")
    run("-m", "monai.bundle", "run", "--config_file", config, *arguments)
    assert list((tmp_path / "out").rglob("*denoised*.nii.gz"))


@pytest.mark.slow
def test_training_of_an_installation_writes_into_the_working_directory(run, site, data, tmp_path):
    given = dict(zip(data[::2], data[1::2], strict=True))
    shutil.copytree(given["--dataset_dir"], tmp_path / "data")
    settings = TINY | {"manifest": given["--manifest"], "jobs": 1}
    run(
        site / "bin" / "unipet", "train", *(x for pair in settings.items() for x in ("--set", "=".join(map(str, pair))))
    )
    assert (tmp_path / "runs" / "model.pt").is_file()
    assert (tmp_path / "data" / "store").is_dir()
