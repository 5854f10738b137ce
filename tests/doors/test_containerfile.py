"""The Containerfile without a builder: what it is built from is there and enough, and it is not root's in the end.

The slow test runs the three doors of an image that was built, where UNIPET_IMAGE names one: as nobody that the image
knows, without a network. It needs root, buildah and unshare.
"""

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

from pipeline.doors import ROUTER_FOLDERS
from tests.doors.bids_study import write_study
from tests.series import Scan, save_series, slices_of

STRANGER = "4321:4321"


@pytest.fixture(scope="module")
def steps(repository) -> list[tuple[str, str]]:
    """Instructions of the Containerfile and their words, in order."""
    text = re.sub(r"^#.*\n", "", (repository / "Containerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in lines if line]


@pytest.fixture(scope="module")
def context(repository, tmp_path_factory) -> Path:
    """Copy what the builder sees: everything is ignored but what .dockerignore lets in."""
    lines = (repository / ".dockerignore").read_text().splitlines()
    first, *rest = [line for line in lines if line and not line.startswith("#")]
    assert first == "*"
    folder = tmp_path_factory.mktemp("context")
    for name in (line[1:] for line in rest if line.startswith("!")):
        source = repository / name
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    assert [line for line in rest if not line.startswith("!")] == ["**/__pycache__"]
    return folder


def test_the_context_is_small_and_has_the_weights(context):
    files = [path for path in context.rglob("*") if path.is_file()]
    assert (context / "bundles" / "unipet_3d" / "models" / "model.pt").is_file()
    assert sum(path.stat().st_size for path in files) < 40e6
    assert not [path for path in files if fnmatch.fnmatch(path.name, ".env*") or path.suffix in (".dcm", ".nii", ".gz")]


def test_both_stages_begin_with_the_base_that_is_asked_for(steps):
    assert steps[0][0] == "ARG"
    assert steps[0][1].startswith("BASE=docker.io/library/python:3.11")
    assert [words for kind, words in steps if kind == "FROM"] == ["${BASE} AS build", "${BASE}"]


def test_it_ends_as_nobody_in_particular_and_its_weights_were_loaded_as_such(steps):
    kinds = [kind for kind, _ in steps]
    (user,) = [words for kind, words in steps if kind == "USER"]
    assert all(int(number) >= 1000 for number in user.split(":"))
    last_run = max(number for number, kind in enumerate(kinds) if kind == "RUN")
    assert kinds.index("USER") < last_run
    assert "Denoiser.from_bundle()" in steps[last_run][1]


def test_versions_are_those_that_were_tested(steps):
    install = next(words for kind, words in steps if kind == "RUN" and "pip install" in words)
    assert "-c /source/constraints.txt" in install


@pytest.mark.slow
def test_what_is_copied_installs_and_starts_without_a_network(steps, context, tmp_path):
    """The package is built from the context alone, and started as the image does, from what was built."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*pip, "-w", tmp_path, context], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "site")
    assert (tmp_path / "site" / "pipeline" / "bundle" / "models" / "model.pt").is_file()
    entry = json.loads(next(words for kind, words in steps if kind == "ENTRYPOINT"))
    environment = dict(
        word.split("=", 1)
        for kind, words in steps
        if kind == "ENV"
        for word in shlex.split(words)
        if "PATH" not in word
    )
    environment |= {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path / "site")}
    alone = ["unshare", "-n"] if shutil.which("unshare") and os.geteuid() == 0 else []
    load = "import pipeline; print(pipeline.__file__); pipeline.Denoiser.from_bundle()"
    for words in ([*entry[1:], "--version"], ["-P", "-c", load]):
        done = subprocess.run(
            [*alone, sys.executable, *words],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "site"))


@pytest.fixture(scope="module")
def run_image():
    """Return a function that runs the image of UNIPET_IMAGE as a stranger, without a network."""
    image = os.environ.get("UNIPET_IMAGE")
    if image is None:
        pytest.skip("UNIPET_IMAGE names no image (docs/deploy.md)")
    if os.geteuid() != 0 or not (shutil.which("buildah") and shutil.which("unshare")):
        pytest.skip("needs root, buildah and unshare")
    container = subprocess.run(
        ["buildah", "from", "--pull=never", image], capture_output=True, text=True, check=True
    ).stdout.strip()
    config = json.loads(subprocess.run(["buildah", "inspect", container], capture_output=True, check=True).stdout)
    entry = config["OCIv1"]["config"]["Entrypoint"]

    def run(*words: str, data: Path, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess:
        options = [word for item in (environment or {}).items() for word in ("-e", "=".join(item))]
        command = ["unshare", "-n", "buildah", "run", "--isolation", "chroot", "--user", STRANGER, *options]
        command += ["-v", f"{data}:/data", container, "--", *entry, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    yield run
    subprocess.run(["buildah", "rm", container], capture_output=True, check=True)


@pytest.fixture
def shared_folder():
    """Return a folder that a stranger may enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_three_doors_of_an_image(run_image, shared_folder):
    data = shared_folder
    save_series(slices_of(Scan()), data / "series")
    write_study(data / "study")
    for name in ("cli", "module", "bids"):
        (data / name).mkdir()
        os.chown(data / name, *map(int, STRANGER.split(":")))
    done = run_image("denoise", "/data/series", "/data/cli/out", data=data)  # with the weights
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert (data / "cli" / "out" / "report.html").stat().st_uid == int(STRANGER.split(":")[0])
    folders = dict(zip(ROUTER_FOLDERS, ("/data/series", "/data/module"), strict=True))
    done = run_image(data=data, environment=folders)
    assert done.returncode == 0, done.stderr
    assert json.loads((data / "module" / "result.json").read_text())["status"] == "done"
    label = ("--participant-label", "01")
    done = run_image("/data/study", "/data/bids", "participant", *label, "--method", "identity", data=data)
    assert done.returncode == 0, done.stderr
    assert (data / "bids" / "sub-01" / "pet" / "sub-01_desc-denoised_pet.nii.gz").is_file()
    done = run_image("/data/study", "/data/bids", "participants", data=data)
    assert done.returncode == 1
    assert "unipet: level 'participants', expected participant or group" in done.stderr
