"""Notebooks run as notebooks do, use the public API only, show figures with units, and carry no outputs."""

import ast
import base64
import io
import json
import re
from pathlib import Path

import pytest
from matplotlib.image import imread

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))

# What makes each quick, in place of its own parameters; number of its figures; and what it must say.
QUICK = {
    "01_from_dicom_to_report": (
        "axial_extent = 240",
        2,
        ["PSNR against noise-free [dB]", "report.html", "viewer.html"],
    ),
    "02_train_on_simulated_data": (
        "n_patients, axial_extent, n_epochs = 3, 160, 2\n"
        'settings = {"n_patches": 8, "n_scans": 2, "fitted#n_scans": 2}',
        2,
        ["PSNR against full dose [dB]", "shipped UniPET"],
    ),
    "03_adapt_to_your_scanner": (
        'n_scans, axial_extent, n_epochs, settings = 2, 160, 1, {"n_patches": 8, "n_scans": 2}',
        2,
        ["weights are kept", "gain of PSNR, mean of scans and doses [dB]"],
    ),
    "04_bring_your_own_doses": (
        "n_patients, axial_extent, n_epochs = 3, 160, 1\n"
        'settings = {"n_patches": 8, "n_scans": 2, "fitted#n_scans": 2}',
        1,
        ["0 problems", "expected it to rise", "trained here", "Units"],
    ),
    "05_believe_or_not": (
        "axial_extent, n_repeats = 240, 2",
        2,
        ["intervals hold the noise-free mean", "the strongest lesion erased", "mean SUV of the body"],
    ),
}


def code_of(path: Path) -> str:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def test_every_notebook_is_run():
    assert [path.stem for path in NOTEBOOKS] == sorted(QUICK)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_clean_and_public(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert sum("parameters" in cell["metadata"].get("tags", []) for cell in cells) == 1
    for node in ast.walk(ast.parse(code_of(path))):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("pipeline"):
            assert node.module.count(".") <= 1, f"{node.module} is not public"
            assert not any(alias.name.startswith("_") for alias in node.names)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_axis_has_its_unit(path):
    """A number of lesions or epochs, an index and a factor have none."""
    labels = re.findall(r"set_[xy]label\(\"([^\"]+)\"\)|colorbar\(.*label=\"([^\"]+)\"", code_of(path))
    assert labels
    for label in map("".join, labels):
        assert re.search(r"\[[^\]]+\]$", label) or label in ("epoch", "dose reduction factor"), label


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    parameters, n_figures, expected = QUICK[path.stem]
    notebook = nbformat.read(path, as_version=4)
    place = next(i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(parameters))
    nbclient.NotebookClient(notebook, timeout=800, resources={"metadata": {"path": str(tmp_path)}}).execute()
    said, figures = "", []
    for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
        data = output.get("data", {})
        said += output.get("text", "") + "".join(data.get(kind, "") for kind in ("text/plain", "text/html"))
        figures += [imread(io.BytesIO(base64.b64decode(data["image/png"])))] if "image/png" in data else []
    assert len(figures) == n_figures
    assert all(figure.std() > 0.02 for figure in figures), "a figure is blank"
    for text in expected:
        assert text in said
