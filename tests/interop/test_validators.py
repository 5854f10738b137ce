"""David Clunie's validators on a derived series: no error that its source lacks, and the inherited ones gone.

Needs the Debian package dicom3tools.
"""

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

INHERITED = {
    "Laterality": "is missing where the body part may be paired",
    "PatientPosition": "stands beside PatientOrientationCodeSequence",
    "NumberOfTimeSlices": "is there although the series is not dynamic",
}
"""What a GE Discovery ST writes against the standard."""


@pytest.fixture(autouse=True, scope="module")
def _validators() -> None:
    missing = [program for program in ("dciodvfy", "dcentvfy") if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (package dicom3tools)")


def errors_of(program: str, files: Sequence[Path]) -> Counter[str]:
    """Return the errors that a validator reports, without the files and values in them."""
    done = subprocess.run([program, *map(str, files)], capture_output=True, text=True, errors="replace", timeout=120)
    errors = (line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error"))
    return Counter(re.sub(r"for file <.*|= <.*|/\S+", "", line) for line in errors)


def each(folder: Path) -> Counter[str]:
    """Return the errors of every file of a folder, validated one by one."""
    total: Counter[str] = Counter()
    for path in sorted(folder.iterdir()):
        total.update(errors_of("dciodvfy", [path]))
    return total


@pytest.fixture(scope="module")
def source_errors(source_folder: Path, _validators: None) -> Counter[str]:
    return each(source_folder)


@pytest.fixture(scope="module")
def derived_errors(derived_folder: Path, _validators: None) -> Counter[str]:
    return each(derived_folder)


def test_no_new_error_in_any_instance(source_errors, derived_errors):
    assert not derived_errors - source_errors


@pytest.mark.parametrize("attribute", INHERITED)
def test_inherited_errors_are_gone(source_errors, derived_errors, attribute):
    assert any(attribute in error for error in source_errors), "the source is expected to have this error"
    assert not any(attribute in error for error in derived_errors)


def test_no_new_error_between_instances(source_folder, derived_folder):
    source = errors_of("dcentvfy", sorted(source_folder.iterdir()))
    derived = errors_of("dcentvfy", sorted(derived_folder.iterdir()))
    assert not derived - source
