"""The tables hold what one computes by hand."""

import pytest

from pipeline.benchmark.reporting.tables import all_tables, difference_frame, summary_frame, summary_table
from pipeline.benchmark.results import Stored
from tests.benchmark.findings_by_hand import findings_of, images_of, row_of


@pytest.fixture
def findings():
    cost = {"subject": "s0", "seconds": 6.0, "seconds_of_reference": 2.0, "peak_memory_mib": 512.0}
    cost |= {"multiply_adds_per_pass": 48_000.0, "n_passes": 20.0}
    trained = {"n_parameters": 3_000_000, "training": {"hours": 0.5, "n_patches": 25_000, "batch_size": 4}}
    areas = [
        {"dose_reduction_factor": f, "diameter": d, "level": "all", "site": "all", "auc": a, "gain": 0.1}
        for f, d, a in ((4.0, "all", 0.9), (20.0, "all", 0.7), (20.0, 10.0, 0.55))
    ]
    spheres = [
        {"ratio": r, "dose_reduction_factor": f, "diameter": d, "contrast_recovery": c, "contrast_recovery_sd": 2.0}
        for r, f, d, c in (
            (4.0, 1.0, 10.0, 90.0),
            (4.0, 4.0, 10.0, 50.0),
            (4.0, 20.0, 10.0, 30.0),
            (4.0, 20.0, 37.0, 80.0),
        )
    ]
    return findings_of(
        images_of("input", (-2, -2, -2)),
        images_of("unipet", (0, 0, 0)),
        images_of("unet", (1, 2, 3), error=4),
        Stored("cost", row_of("unet", facts=trained), {}, {"cost": [cost]}),
        Stored("detection", row_of("unet", facts=trained), {}, {"detection": areas}),
        Stored("phantom", row_of("unet", facts=trained), {}, {"spheres": spheres}),
    )


def test_the_one_table(findings):
    frame = summary_frame(findings)
    assert list(frame.index) == ["input", "unipet", "unet"]
    unet = frame.loc["unet"]
    assert unet["psnr_noise_free"] == pytest.approx(35 + 2)
    assert unet["psnr_full"] == pytest.approx(34 + 2)
    assert unet["suv_mean_error_percent"] == pytest.approx(-4)  # the lesion of 8 mm is left out
    assert unet["lost_of_full"] == pytest.approx(100 * (10 - 8) / 10)
    assert unet["invented_per_true"] == pytest.approx(100 * (6 - 4) / 20)
    assert unet["auc"] == pytest.approx(0.8)  # the two doses, all sizes together
    assert unet["sphere"] == pytest.approx(40)  # 10 mm at both lower doses
    assert unet["ratio"] == pytest.approx(3)
    assert unet["multiply_adds"] == pytest.approx(960)
    assert unet["thousand_patches"] == pytest.approx(25)
    assert "ssim_full" not in frame
    table = summary_table(findings)
    assert table.title == "Means over 3 subjects and DRF 4, 20"
    assert table.rows[2][:2] == ("unet", "37.00")
    assert table.rows[0][table.header.index("time over unipet's")] == "–"


def test_differences_to_the_reference(findings):
    frame = difference_frame(findings).set_index(["method", "measure"])
    found = frame.loc["unet", "psnr_noise_free"]
    assert (found["mean"], found["verdict"]) == (pytest.approx(2.0), "better")
    assert 1 <= found["low"] < 2 < found["high"] <= 3
    assert frame.loc[("unet", "suv_mean_error_percent"), "verdict"] == "better"  # 4 % against 10 %
    assert frame.loc[("input", "psnr_full"), "verdict"] == "worse"
    assert "unipet" not in frame.index.get_level_values(0)


def test_every_part_has_its_tables(findings):
    tables = {table.title: table for table in all_tables(findings)}
    by_dose = tables["PSNR against noise-free [dB], peak 20 SUV"]
    assert by_dose.header == ("method", "DRF 4", "DRF 20")
    assert by_dose.rows == (("input", "38.00", "28.00"), ("unipet", "40.00", "30.00"), ("unet", "42.00", "32.00"))
    [all_lesions, gains, of_10_mm] = [table for title, table in tables.items() if title.startswith("Detection")]
    assert all_lesions.rows == (("unet", "0.900", "0.700"),)
    assert gains.rows == (("unet", "0.100", "0.100"),)
    assert of_10_mm.title.endswith("lesions of 10 mm")
    assert of_10_mm.rows == (("unet", "0.550"),)
    assert all(len(row) == len(table.header) for table in tables.values() for row in table.rows)


def test_hot_regions_of_a_real_scan_are_not_called_lesions():
    real = images_of("unipet", (0, 0, 0), part="real", condition="site")
    scans = [row | {"regions": "hot regions of the full-dose scan", "truth": "full"} for row in real.tables["scans"]]
    real = Stored("real", real.row, {}, {**real.tables, "scans": scans})
    titles = [table.title for table in all_tables(findings_of(images_of("unipet", (0, 0, 0)), real))]
    assert "Real, site: SUVmean bias of hot regions >= 10 mm [%]" in titles
    assert "SUVmean bias of lesions >= 10 mm [%]" in titles
    assert not [title for title in titles if title.startswith("Real") and "esions" in title]


def test_settings_of_filters_have_a_table():
    settings = [
        {"scanner": "A, 4 x 4 x 4 mm", "dose_reduction_factor": f, "setting": v} for f, v in ((20.0, 6.0), (4.0, 3.5))
    ]
    filtered = images_of("gaussian", (1, 1, 1))
    row = row_of("gaussian", kind="filter", facts={"settings": settings})
    tables = all_tables(findings_of(images_of("unipet", (0, 0, 0)), Stored("images", row, {}, filtered.tables)))
    assert tables[-1].header == ("filter", "tuned on", "DRF 4", "DRF 20")
    assert tables[-1].rows == (("gaussian", "A, 4 x 4 x 4 mm", "3.50", "6.00"),)
