"""Detection as a part: known detectability gives known areas, and a method is set against its input."""

import dataclasses
from functools import partial

import numpy as np
import pytest
from scipy.special import ndtr

from pipeline.benchmark.definition import Definition
from pipeline.benchmark.parts.detection import detection, detection_rows, study_of
from pipeline.benchmark.results import Stored
from pipeline.benchmark.work import Work
from pipeline.comparison import KeptResults, noisy_input
from pipeline.errors import PETError
from pipeline.images import gaussian_filter_mm
from pipeline.simulation import SCANNERS, Scanner
from pipeline.simulation.lesion_pairs import ABSENT
from tests.benchmark.findings_by_hand import findings_of, row_of

SETTINGS = {
    "n_patients": 4,
    "scanner": "small",
    "dose_reduction_factors": [4],
    "axial_extent": 480.0,
    "contrasts": {"liver": {30.0: [1.0, 4.0]}, "lung": {30.0: [1.0, 4.0]}},
}


def drawn_places(detectability: dict[str, float], *, n_patients=20, per_patient=8, seed=0) -> list[dict]:
    """Responses of one channel of unit noise, whose mean with a lesion is d'; patients differ in nothing."""
    rng = np.random.default_rng(seed)
    places = []
    for patient in range(n_patients):
        for scan in (ABSENT, "present1"):
            for level, d in detectability.items():
                for _ in range(per_patient):
                    kind = {"diameter": None, "level": None} if scan == ABSENT else {"diameter": 10.0, "level": level}
                    mean = 0.0 if scan == ABSENT else d
                    row = {"patient": patient, "dose_reduction_factor": 20.0, "scan": scan, "site": "liver", **kind}
                    places.append({**row, "responses": [float(rng.normal(mean, 1))]})
    return places


def test_areas_are_those_of_known_detectability():
    rows = detection_rows(drawn_places({"faint": 0.7, "clear": 2.0}))
    found = {(row["diameter"], row["level"], row["site"]): row for row in rows}
    faint, clear, together = (found["all", level, "all"] for level in ("faint", "clear", "all"))
    for row, d in ((faint, 0.7), (clear, 2.0)):
        expected = ndtr(d / np.sqrt(2))
        assert row["auc_low"] < expected < row["auc_high"]
        assert row["auc"] == pytest.approx(expected, abs=0.05)
        assert row["auc_gaussian"] == pytest.approx(row["auc"], abs=0.02)
    assert together["auc"] == pytest.approx((faint["auc"] + clear["auc"]) / 2)
    assert together["n_lesions"] == faint["n_lesions"] + clear["n_lesions"] == 320
    assert "gain" not in together


def test_organs_are_not_compared_with_each_other():
    """Two organs with other backgrounds: together they are as easy as each alone."""
    liver = drawn_places({"faint": 1.0}, seed=1)
    lung = [
        {**row, "site": "lung", "responses": [row["responses"][0] + 100]}
        for row in drawn_places({"faint": 1.0}, seed=2)
    ]
    rows = {row["site"]: row for row in detection_rows([*liver, *lung]) if row["diameter"] == "all"}
    assert rows["all"]["auc"] == pytest.approx((rows["liver"]["auc"] + rows["lung"]["auc"]) / 2)


def test_the_gain_is_paired():
    noisy = drawn_places({"faint": 1.0})
    same = detection_rows(noisy, input_places=noisy)[0]
    assert (same["gain"], same["gain_low"], same["gain_high"]) == (0, 0, 0)
    # Half of the noise is gone: d' = 2.
    better = [{**row, "responses": [(row["responses"][0] + (row["scan"] != ABSENT)) / 2]} for row in noisy]
    gained = detection_rows(better, input_places=noisy)[0]
    assert gained["gain"] == pytest.approx(ndtr(2 / np.sqrt(2)) - ndtr(1 / np.sqrt(2)), abs=0.03)
    assert gained["gain_low"] > 0
    # A change of scale is no gain.
    scaled = [{**row, "responses": [3 * row["responses"][0] + 1]} for row in noisy]
    assert detection_rows(scaled, input_places=noisy)[0]["gain"] == pytest.approx(0, abs=1e-12)


def test_settings_that_cannot_be_are_refused():
    assert study_of({"n_patients": 5, "dose_reduction_factors": [4]}).dose_reduction_factors == (4.0,)
    with pytest.raises(PETError, match="n_patient is not known"):
        study_of({"n_patient": 5})
    with pytest.raises(PETError, match="n_patients: Input should be a valid integer"):
        study_of({"n_patients": "many"})
    with pytest.raises(PETError, match="3 patients, expected at least 4"):
        study_of({"n_patients": 3})


def _blur(series):
    return series.with_suv(gaussian_filter_mm(series.suv, fwhm=20.0, voxel_size=series.voxel_size))


@pytest.fixture
def work(tmp_path, monkeypatch) -> Work:
    small = Scanner(name="small", matrix=(32, 32, 64), voxel_size=(15.0, 15.0, 15.0), n_angles=40, n_subsets=4)
    monkeypatch.setitem(SCANNERS, "small", dataclasses.replace(small, supersampling=1, n_iterations=2))
    definition = Definition(title="t", reference="a", methods={"a": {}}, detection=SETTINGS)
    kept = KeptResults(tmp_path / "kept", {"input": "input", "a": "blur", "b": "nothing"})
    return Work(definition=definition, root=tmp_path, scans=None, folder=tmp_path / "out", kept=kept)


def test_a_method_is_measured_beside_its_input(work):
    tables = detection("a", _blur, work)
    rows = tables["detection"]
    assert {row["dose_reduction_factor"] for row in rows} == {4.0}
    assert {row["site"] for row in rows} == {"all", "liver", "lung"}
    whole = rows[0]
    assert 0.5 < whole["auc"] <= 1
    assert whole["auc_low"] <= whole["auc"] <= whole["auc_high"]
    assert whole["psnr_noise_free"] > 20
    kept = sorted(path.name for path in (work.root / "kept").iterdir())
    assert len(kept) == 2 * 4

    assert detection("a", partial(pytest.fail, "measured again"), work) == tables
    unchanged = detection("b", noisy_input, work)["detection"][0]
    assert (unchanged["gain"], unchanged["gain_low"], unchanged["gain_high"]) == (0, 0, 0)


def test_without_settings_nothing_is_measured(work):
    without = dataclasses.replace(work, definition=work.definition.model_copy(update={"detection": None}))
    assert detection("a", _blur, without) == {}


def test_less_the_reference_is_paired_as_the_gain_is():
    noisy = drawn_places({"faint": 1.0}, n_patients=8)
    better = [{**row, "responses": [(row["responses"][0] + (row["scan"] != ABSENT)) / 2]} for row in noisy]
    own, reference = detection_rows(better, input_places=noisy), detection_rows(noisy, input_places=noisy)
    stored = [
        Stored("detection", row_of(name), {}, {"detection": rows})
        for name, rows in (("unipet", reference), ("unet", own))
    ]
    [row] = findings_of(*stored).detection_differences.to_dict("records")
    assert (row["method"], row["dose_reduction_factor"]) == ("unet", 20)
    found = [row[name] for name in ("difference", "difference_low", "difference_high")]
    assert found == pytest.approx([own[0][name] for name in ("gain", "gain_low", "gain_high")])
