"""Every block of code in the documents runs, on tiny data, or says why it does not; lists of rooms are up to date."""

import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from pipeline import read_pet
from pipeline.pet import write_dicom_series
from pipeline.shipped import own_bundle
from tests.coarse_augmentation import COARSE_AUGMENTATION
from tests.doors.bids_study import write_study

REPOSITORY = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted((REPOSITORY / "docs").glob("*.md")),
    *sorted((REPOSITORY / "bundles" / "unipet_3d" / "docs").glob("*.md")),
    *sorted((REPOSITORY / "data_manifests").glob("*.md")),
]


@dataclass(frozen=True)
class Block:
    """A block of code."""

    document: Path
    line: int
    language: str
    code: str
    reason: str | None
    """Why it is not run here; None for a block that is."""

    def __str__(self) -> str:
        return f"{self.document.relative_to(REPOSITORY)}:{self.line}"


def blocks_of(document: Path) -> Iterator[Block]:
    lines = document.read_text(encoding="utf-8").splitlines()
    start = None
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if start is None:
            start = number
        else:
            said = re.fullmatch(r"<!-- (not run: .+|run by .+) -->", lines[start - 1])
            code = "\n".join(lines[start + 1 : number]) + "\n"
            yield Block(document, start + 1, lines[start][3:].strip(), code, said and said[1])
            start = None


BLOCKS = [block for document in DOCUMENTS for block in blocks_of(document)]


def commands_of(code: str) -> list[list[str]]:
    """Return the words of each command of a shell block."""
    code = code.replace("\\\n", " ").replace("$(unipet bundle path)", str(own_bundle()))
    return [words for line in code.splitlines() if (words := shlex.split(line, comments=True))]


@pytest.fixture(scope="module")
def place(tiny_cohort, data, tmp_path_factory) -> Path:
    """Make a folder with the inputs that the documents name."""
    folder = tmp_path_factory.mktemp("documents")
    pet = tiny_cohort[0] / "pet"
    low, full = pet / "sub-0001_rec-drf020_pet.nii.gz", pet / "sub-0001_rec-full_pet.nii.gz"
    write_dicom_series(read_pet(low), folder / "DICOM_FOLDER", description="PET")
    shutil.make_archive(str(folder / "STUDY"), "zip", folder / "DICOM_FOLDER")
    # In half as large voxels, as the liver needs enough of them for its noise to be measured.
    series = read_pet(full)
    finer = series.affine @ np.diag([0.5, 0.5, 0.5, 1.0])
    suv = np.kron(series.suv, np.ones((2, 2, 2), np.float32))
    write_dicom_series(replace(series, suv=suv, affine=finer), folder / "FULL_DOSE", description="PET")
    (folder / "IN").mkdir()
    for suffix in (".nii.gz", ".json"):
        shutil.copy(low.with_name(low.name.removesuffix(".nii.gz") + suffix), folder / "IN")
    write_study(folder / "study", ["01"])
    shutil.copytree(tiny_cohort[0].parent, folder / "data")
    shutil.copy(data[data.index("--manifest") + 1], folder / "data" / "manifest.yaml")
    return folder


@pytest.fixture
def here(place, tiny_scanner, tmp_path, monkeypatch, blank_figures) -> Path:
    """Make the working directory of a document, in which every scanner is a tiny one."""
    shutil.copytree(place, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipeline.simulation.scanner_preset", lambda name: tiny_scanner)
    return tmp_path


# The noise of the scans is measured before the first step.
TINY_SETTINGS = [word for key, value in COARSE_AUGMENTATION.items() for word in ("--set", f"{key}={value}")]
TINY_ARGUMENTS = [word for key, value in COARSE_AUGMENTATION.items() for word in (f"--{key}", value)]


def run_shell(code: str, unipet) -> None:
    for words in commands_of(code):
        if words[0] == "unipet" and words[1] != "train":
            done = unipet(*words[1:])
        elif words[0] == "unipet":  # trainings and MONAI configure the logging of their process
            done = in_own_process("unipet", *words[1:], "--time-limit", "0.001", *TINY_SETTINGS)
        elif words[:4] == ["python", "-m", "monai.bundle", "run"]:
            limited = ["--time_limit", "0.001", *TINY_ARGUMENTS] if "training" in words else []
            done = in_own_process(*words[2:], *limited)
        else:
            pytest.fail(f"{words}: is not run by this test, say why before the block: <!-- not run: ... -->")
        assert done.returncode == 0, f"{words}: {done.stderr}"


def in_own_process(module: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_block_says_its_language_and_is_closed(document):
    assert document.read_text(encoding="utf-8").count("\n```") % 2 == 0
    for block in blocks_of(document):
        assert block.language in ("bash", "python", "yaml", "json", "text"), f"{block}: has no language"


LONG = {f"docs/{name}.md" for name in ("cohorts", "deploy", "evaluation", "methods", "report", "training")}
LONG.add("bundles/unipet_3d/docs/README.md")
"""Documents whose blocks take long together."""


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(
            document,
            id=document.stem,
            marks=[pytest.mark.slow] if document.relative_to(REPOSITORY).as_posix() in LONG else [],
        )
        for document in sorted({block.document for block in BLOCKS if not block.reason})
    ],
)
def test_the_blocks_of_a_document_run_one_after_the_other(document, here, unipet):
    names: dict = {"__name__": "__main__"}
    for block in blocks_of(document):
        if block.reason:
            continue
        if block.language == "bash":
            run_shell(block.code, unipet)
        elif block.language == "python":
            exec(compile(block.code, str(block), "exec"), names)
        elif block.language == "json":
            json.loads(block.code)
        else:
            pytest.fail(f"{block}: {block.language} is not run here, say why: <!-- not run: ... -->")


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.reason], ids=str)
def test_a_block_that_is_not_run_names_a_reason_or_its_test(block):
    kind, _, rest = block.reason.partition("run by ")
    assert kind or (REPOSITORY / rest).is_file(), f"{block}: {rest} does not exist"
    if rest:
        assert block.document.name in (REPOSITORY / rest).read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_lead_to_files(document):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text(encoding="utf-8")):
        if not re.match("https?://", target):
            assert (document.parent / target).exists(), f"{document}: {target}"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_the_list_of_rooms_is_that_of_the_folders(name):
    rooms = runpy.run_path(str(REPOSITORY / "docs" / "rooms.py"))
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    assert rooms["with_rooms"](text, depth=rooms["DOCUMENTS"][name]) == text, "run python docs/rooms.py"


def test_no_folder_is_too_full_to_see():
    for folder in {path.parent for path in (REPOSITORY / "pipeline").rglob("*.py")}:
        modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(modules) <= 13, f"{folder}: {len(modules)} modules"
