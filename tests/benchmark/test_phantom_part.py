"""The part on the phantom: scans on disk that follow from the study, and rows of a method whose effect is known."""

import dataclasses
from functools import partial

import pytest

from pipeline.benchmark.definition import Definition
from pipeline.benchmark.parts.phantom import measured_phantom, phantom, phantom_rows, phantom_study_of
from pipeline.benchmark.reporting.tables import all_tables
from pipeline.benchmark.results import Stored
from pipeline.benchmark.work import Work
from pipeline.comparison import KeptResults, noisy_input
from pipeline.images import gaussian_filter_mm
from pipeline.pet import PETError, read_pet
from pipeline.simulation import SCANNERS, Scanner
from pipeline.simulation.patient.nema import SPHERE_DIAMETERS
from pipeline.simulation.phantom_scans import simulate_phantom
from tests.benchmark.findings_by_hand import findings_of, row_of

SETTINGS = {"scanner": "phantom_test", "dose_reduction_factors": [4], "n_repeats": 2, "ratios": [4, 10]}


@pytest.fixture(scope="module")
def preset():
    scanner = Scanner(name="phantom_test", matrix=(64, 64, 16), voxel_size=(6.0, 6.0, 6.0), n_angles=40, n_subsets=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SCANNERS, "phantom_test", dataclasses.replace(scanner, supersampling=1, n_iterations=3))
        yield


@pytest.fixture(scope="module")
def scans(preset, tmp_path_factory):
    return simulate_phantom(tmp_path_factory.mktemp("phantom"), phantom_study_of(SETTINGS))


def _half(series):
    return series.with_suv(series.suv / 2)


def test_the_scans_have_the_scanner_the_noise_and_the_background_that_were_asked_for(scans):
    study = phantom_study_of(SETTINGS)
    full, low = (read_pet(scans[0].scan(factor, 0)) for factor in (1, 4))
    assert full.suv.shape == low.suv.shape == study.field_of_view.matrix == (58, 58, 16)
    rows = measured_phantom(scans[0], noisy_input, study)["spheres"]
    assert {(row["dose_reduction_factor"], row["repeat"]) for row in rows} == {(f, k) for f in (1, 4) for k in (0, 1)}
    assert rows[0]["background"] == pytest.approx(1, abs=0.03)


def test_what_is_there_is_kept_and_the_same_again(scans, tmp_path):
    study = phantom_study_of(SETTINGS)
    before = scans[0].scan(4, 1).stat().st_mtime_ns
    assert simulate_phantom(scans[0].folder.parent, study) == scans
    assert scans[0].scan(4, 1).stat().st_mtime_ns == before
    again = simulate_phantom(tmp_path, dataclasses.replace(study, ratios=(4.0,)))
    assert (read_pet(again[0].scan(4, 1)).suv == read_pet(scans[0].scan(4, 1)).suv).all()
    with pytest.raises(PETError, match="n_repeats"):
        simulate_phantom(tmp_path, dataclasses.replace(study, ratios=(4.0,), n_repeats=1))


def test_half_the_activity_keeps_the_contrast_and_halves_recovery_and_background(scans):
    study = phantom_study_of(SETTINGS)
    own, half = (phantom_rows(measured_phantom(scans[1], m, study)["spheres"]) for m in (noisy_input, _half))
    noisy = [row for row in own["spheres"] if row["dose_reduction_factor"] == 4]
    for before, after in zip(noisy, half["spheres"], strict=True):
        assert after["contrast_recovery"] == pytest.approx(before["contrast_recovery"], rel=1e-4)
        assert after["background_bias"] == pytest.approx((before["background_bias"] - 100) / 2, abs=1e-3)
    of_dose = [row for row in own["earl"] if row["dose_reduction_factor"] == 4]
    for before, after in zip(of_dose, half["earl"], strict=True):
        assert after["recovery_mean"] == pytest.approx(before["recovery_mean"] / 2, rel=1e-4)
    assert half["earl"][-1]["within_earl1"] == 0


def test_rows_are_means_over_repeats_beside_the_limits():
    def row(repeat, recovery):
        which = {"ratio": 10.0, "dose_reduction_factor": 4.0, "repeat": repeat, "diameter": 37.0}
        figures = {"contrast_recovery": recovery, "background_variability": 0.05, "lung_residual": 0.1}
        earl = {"recovery_mean": recovery, "recovery_max": 1.0, "within_earl1": float(recovery < 0.89)}
        return {**which, **figures, **earl, "earl_filter": 6.0, "background": 1.02}

    tables = phantom_rows([row(0, 0.8), row(1, 0.9)])
    assert tables["spheres"][0]["contrast_recovery"] == pytest.approx(85)
    assert tables["spheres"][0]["contrast_recovery_sd"] == pytest.approx(10 / 2**0.5)
    assert tables["spheres"][0]["background_bias"] == pytest.approx(2)
    earl = tables["earl"][0]
    assert (earl["earl1_mean_from"], earl["earl1_mean_to"], earl["within_earl1"]) == (76, 89, 50)
    assert earl["earl_filter"] == 6
    assert "earl" not in phantom_rows([{**row(0, 0.8), "ratio": 4.0}])


def test_a_method_is_measured_once_and_smoothing_costs_contrast(preset, tmp_path):
    settings = {**SETTINGS, "ratios": [4]}
    definition = Definition(title="t", reference="a", methods={"a": {}}, phantom=settings)
    kept = KeptResults(tmp_path / "kept", {"input": "input", "a": "blur"})
    work = Work(definition=definition, root=tmp_path, scans=None, folder=tmp_path / "out", kept=kept)

    def blur(series):
        return series.with_suv(gaussian_filter_mm(series.suv, fwhm=15.0, voxel_size=series.voxel_size))

    own, smooth = phantom("input", noisy_input, work)["spheres"], phantom("a", blur, work)["spheres"]
    assert len(smooth) == len(SPHERE_DIAMETERS)
    assert len(own) == 2 * len(SPHERE_DIAMETERS)
    for before, after in zip(own[len(SPHERE_DIAMETERS) :], smooth, strict=True):
        assert after["contrast_recovery"] < before["contrast_recovery"]
        assert after["background_variability"] < before["background_variability"]
    assert phantom("a", partial(pytest.fail, "measured again"), work)["spheres"] == smooth
    without = dataclasses.replace(work, definition=definition.model_copy(update={"phantom": None}))
    assert phantom("a", blur, without) == {}


def test_the_tables_have_spheres_side_by_side():
    def rows(recovery):
        which = {"ratio": 10.0, "dose_reduction_factor": 20.0}
        return [
            {**which, "diameter": d, "contrast_recovery": recovery + d, "background_variability": 5.0}
            for d in SPHERE_DIAMETERS
        ]

    stored = [Stored("phantom", row_of(n), {}, {"spheres": rows(r)}) for n, r in (("unipet", 40.0), ("unet", 30.0))]
    found = {table.title: table for table in all_tables(findings_of(*stored))}
    table = found["Phantom, 10 to 1, DRF 20: contrast recovery of the spheres (NEMA NU 2) [%]"]
    assert table.header == ("method", "10 mm", "13 mm", "17 mm", "22 mm", "28 mm", "37 mm")
    assert table.rows[1] == ("unet", "40.0", "43.0", "47.0", "52.0", "58.0", "67.0")


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(PETError, match="repeats is not known"):
        phantom_study_of({"repeats": 3})
    with pytest.raises(PETError, match="n_repeats: Input should be a valid integer"):
        phantom_study_of({"n_repeats": "many"})
    with pytest.raises(PETError, match="no scan is left"):
        phantom_study_of({"n_repeats": 0})
