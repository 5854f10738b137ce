"""What is written is valid BIDS in the eyes of the validator of its community (`bids-validator-deno` of PyPI)."""

import json
import shutil
import subprocess

import pytest

from pipeline.pet import read_pet
from pipeline.pet.derived_files import write_denoised


@pytest.fixture(scope="session")
def errors_of():
    """Return a function that lists the errors of a data set as (code, key, place)."""
    validator = shutil.which("bids-validator-deno")
    if validator is None:
        pytest.skip("bids-validator-deno is not installed")

    def validate(folder):
        done = subprocess.run([validator, "--format", "json", folder], capture_output=True, text=True, check=False)
        issues = json.loads(done.stdout)["issues"]["issues"]
        return [(i["code"], i.get("subCode"), i.get("location")) for i in issues if i.get("severity") == "error"]

    return validate


def test_a_simulated_cohort(errors_of, tiny_cohort):
    assert errors_of(tiny_cohort[0].parent) == []


def test_a_denoised_folder(errors_of, derived_folder, tmp_path):
    write_denoised(read_pet(derived_folder), tmp_path, name="sub-01", method="test")
    # The folder of one scan is flat; its volume lies at BIDS's own place in the tree of a data set.
    (tmp_path / "sub-01" / "pet").mkdir(parents=True)
    for path in tmp_path.glob("sub-01_*"):
        path.rename(tmp_path / "sub-01" / "pet" / path.name)
    assert errors_of(tmp_path) == []
