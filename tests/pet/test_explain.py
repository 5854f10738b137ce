"""explain_suv says what read_pet would do, and why, without the pixels."""

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.pet import PETError, explain_suv, read_pet, write_nifti
from tests.pet.scans import Scan, write_slices
from tests.pet.test_branches import SCANS


@pytest.mark.parametrize("name", SCANS)
def test_it_agrees_with_reading(name, tmp_path):
    folder = write_slices(SCANS[name], tmp_path / "scan")
    explanation, read = explain_suv(folder), read_pet(folder)
    assert explanation.header == read.header
    assert explanation.provenance == read.provenance
    lowest, highest = explanation.factors
    assert read.suvbw_factor in ({lowest} if lowest == highest else {None})
    assert sum("SUVbw factor" in sentence for sentence in explanation.provenance) == 1


def test_it_is_told_in_lines_and_in_json(tmp_path):
    explanation = explain_suv(write_slices(SCANS["not corrected, three beds"], tmp_path / "scan"))
    text = explanation.as_text()
    # 70 kg / 368.08 MBq x 2^(3749.605 / 6586.2), and 600 s later.
    assert re.search(r"SUVbw factor +2\.82186\de-04 to 3\.00579\de-04\n", text)
    assert "Injected dose     368.08 MBq" in text
    assert "- Decay of each slice is corrected to the administration" in text
    assert "slice by slice" in text
    entries = json.loads(json.dumps(explanation.as_dict()))
    assert entries["suvbw_factor"] is None
    assert entries["suvbw_factor_range"][0] < entries["suvbw_factor_range"][1]
    assert entries["header"]["patient_weight"] == 70.0
    assert entries["provenance"] == list(explanation.provenance)


def test_a_file_cannot_add_lines_or_command_the_terminal(tmp_path):
    name = "Scan\x07ner\nWeight 1 kg"
    explanation = explain_suv(write_slices(Scan(attributes={"ManufacturerModelName": name}), tmp_path / "scan"))
    assert r"Synthetic Scan\x07ner\nWeight 1 kg" in explanation.as_text().splitlines()[11]
    assert explanation.as_dict()["header"]["model_name"] == name
    folder = write_slices(Scan(attributes={"Units": "BQ\nML"}), tmp_path / "refused")
    done = CliRunner().invoke(app, ["suv", str(folder)])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == f"unipet: {folder}: Units is BQ\\nML, expected BQML or CNTS or GML or CM2ML\n"


def test_it_names_nobody(tmp_path):
    explanation = explain_suv(write_slices(Scan(), tmp_path / "scan"))
    text = explanation.as_text() + json.dumps(explanation.as_dict())
    assert not re.search(r"Doe|Jane|ID4711|1960|2025|Hospital|\d\d:\d\d", text)


def test_a_nifti_volume(series, tmp_path):
    path = write_nifti(series, tmp_path / "scan.nii.gz")
    explanation = explain_suv(path)
    assert explanation.factors == (1.0, 1.0)
    assert explanation.provenance[-1] == "Read from NIfTI in SUVbw."
    content = json.loads((tmp_path / "scan.json").read_text())
    content |= {"Units": "kBq/ml"}
    (tmp_path / "scan.json").write_text(json.dumps(content))
    assert explain_suv(path).factors[0] == pytest.approx(1000 * 70e3 / 350e6 * 2 ** (3600 / 6586.2))
    np.testing.assert_allclose(read_pet(path).suv, series.suv * explain_suv(path).factors[0], rtol=1e-6)


def test_what_reading_refuses_it_refuses(tmp_path):
    folder = write_slices(Scan(attributes={"Units": "PROPCNTS"}), tmp_path / "scan")
    with pytest.raises(PETError, match="Units is PROPCNTS"):
        explain_suv(folder)
    with pytest.raises(PETError, match="no such file or folder"):
        explain_suv(tmp_path / "nowhere")
